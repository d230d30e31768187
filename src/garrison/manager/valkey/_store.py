"""A store on a Valkey or Redis server, as one process uses it."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.manager.valkey._backend import ValkeyBackend, open_store
from garrison.store import SharedStore, StoreCodec

if TYPE_CHECKING:
    from garrison.manager.valkey._connection import Link

__all__ = ["ValkeyStore", "get_valkey_store"]

_stores: weakref.WeakKeyDictionary[Any, weakref.ref[ValkeyStore]] = weakref.WeakKeyDictionary()
_finding = threading.Lock()
os.register_at_fork(after_in_child=_finding._at_fork_reinit)  # type: ignore[attr-defined]


def get_valkey_store(link: Link) -> ValkeyStore:
    """Return the store of a server: the same one for as long as it is used."""
    with _finding:
        known = _stores.get(link)
        found = known() if known is not None else None
        if found is None:
            found = ValkeyStore(link)
            _stores[link] = weakref.ref(found)
        return found


class _ValkeyCodec(StoreCodec):
    def __init__(self, store: ValkeyStore) -> None:
        super().__init__(store, self._container)
        if not store.link.url.pickle:
            # Late: other programs do not need these types.
            from garrison.store import plain_values

            self.dumps = plain_values.dumps  # type: ignore[method-assign]
            self.loads = plain_values.loads  # type: ignore[method-assign]

    def _container(self, kind: int, container_id: int, is_shared: bool) -> Any:
        return self.store.container(kind, container_id, is_shared)


class ValkeyStore(SharedStore):
    """A store that is kept by a Valkey or Redis server.

    Raises
    ------
    StoreVersion
        If another version of garrison has made it.
    StoreCorrupt
        If it has no id.
    """

    is_local = False

    def __init__(self, link: Link) -> None:
        self.link = link
        self.uuid = open_store(link)
        self.backend = ValkeyBackend(link, _ValkeyCodec(self))
        self.backend.on_new_owner = _weak_resume(self)
        super().__init__()

    # -- references -------------------------------------------------------------------------------

    def _become_owner(self) -> None:
        self.backend.after_fork()
        self.resume()

    def _after_fork(self) -> None:
        if self._references.keys():
            with contextlib.suppress(GarrisonError, OSError):
                self.ensure_current_process()
        else:
            self.backend.after_fork()

    def resume(self) -> None:
        """Take the references of this process anew: its lease was over."""
        container_ids = self._references.keys()
        if container_ids:
            self.backend.resume(container_ids)
        self._references.release_pending()

    def _try_release_ref(self, container_id: int) -> bool:
        if self._pid == os.getpid():
            self.backend.release_later(container_id)
        return True

    def _transfer_owner(self) -> int:
        return int(self.backend.owner)

    def _release_transfer(self, container_id: int, sender: int) -> None:
        # A user that only reads leaves that to the end of the sender.
        with contextlib.suppress(PermissionError):
            self.backend.release_ref(container_id, sender)

    def __reduce__(self) -> tuple[Any, ...]:
        return get_valkey_store, (self.link,)


def _weak_resume(store: ValkeyStore) -> Any:
    found = weakref.ref(store)

    def resume() -> None:
        there = found()
        if there is not None:
            there.resume()

    return resume
