"""A store on another machine: each operation is a request to its server."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

from garrison import _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, ManagerLost, SharedMemoryGone
from garrison.manager._auth_keys import note_server
from garrison.manager.client._client import get_client
from garrison.manager.client._remote_backend import RemoteBackend
from garrison.net import Verb, format_address
from garrison.store import SharedStore, StoreCodec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RemoteStore", "get_remote_store", "local_or_remote_store"]


def local_or_remote_store(client: Any, *, direct: bool) -> Any:
    """Return a server's store: opened here if it is on this machine and permitted, else remote.

    Data of a server without a key are never unpickled: any program may be that server.
    """
    if direct and client.has_key and isinstance(client.address, (str, tuple)):
        host, payload = client.ask(Verb.STORE, "local_store", idempotent=True)
        if host and host == _os.boot_id():
            with contextlib.suppress(SharedMemoryGone, OSError):
                import pickle

                return pickle.loads(payload)  # noqa: S301 - written by a server with our key
    return get_remote_store(client)


_stores: weakref.WeakKeyDictionary[Any, weakref.ref[RemoteStore]] = weakref.WeakKeyDictionary()
_finding = threading.Lock()
os.register_at_fork(after_in_child=_finding._at_fork_reinit)  # type: ignore[attr-defined]


def get_remote_store(client: Any) -> RemoteStore:
    """Return the store of a server: the same one for as long as it is used."""
    with _finding:
        known = _stores.get(client)
        found = known() if known is not None else None
        if found is None or found.generation.is_over:
            found = RemoteStore(client)
            _stores[client] = weakref.ref(found)
        return found


class _RemoteCodec(StoreCodec):
    def __init__(self, store: RemoteStore) -> None:
        super().__init__(store, self._container)
        if not store.client.allows_pickle:
            # Any client may have stored what is there, and without a key the server may be any
            # program of this machine. Late: other clients do not need these types.
            from garrison.store import plain_values

            self.dumps = plain_values.dumps  # type: ignore[method-assign]
            self.loads = plain_values.loads  # type: ignore[method-assign]

    def _container(self, kind: int, container_id: int, is_shared: bool) -> Any:
        return self.store.container(kind, container_id, is_shared)


class StoreGeneration:
    """Whether a server's store is still the one that its containers are in."""

    def __init__(self, address: Any) -> None:
        self._address = address
        self.is_over = False

    def check(self) -> None:
        """Raise if the containers are gone."""
        if self.is_over:
            raise ContainerGone(
                f"the manager at {format_address(self._address)} was restarted and lost this "
                "container: ask it for a container of that name again"
            )


class RemoteStore(SharedStore):
    """A store that is reached through its server."""

    is_local = False

    def __init__(self, client: Any) -> None:
        self.client = client
        (uuid,) = client.ask(Verb.STORE, "uuid", idempotent=True)
        self.uuid = bytes(uuid)
        self.generation = StoreGeneration(client.address)
        self.backend = RemoteBackend(client, _RemoteCodec(self), self.generation.check)
        super().__init__()
        client.connection.on_reconnect.append(_on_reconnect(weakref.ref(self)))

    # -- references -------------------------------------------------------------------------------

    def _become_owner(self) -> None:
        self._resume()

    def _after_fork(self) -> None:
        if self._references.keys():
            with contextlib.suppress(ManagerLost, OSError):
                self.ensure_current_process()

    def reconnected(self) -> None:
        """On a new connection: take the references again, if it is the same store."""
        (uuid,) = self.client.connection.ask(Verb.STORE, "uuid", idempotent=True)
        if bytes(uuid) == self.uuid:
            self._resume()
        else:
            self.generation.is_over = True

    def _resume(self) -> None:
        container_ids = self._references.keys()
        if container_ids:
            _ = self.client.client_id
            self.client.connection.ask(Verb.STORE, "resume", container_ids, idempotent=True)
        self._references.release_pending()

    def _try_release_ref(self, container_id: int) -> bool:
        if self._pid != os.getpid() or self.generation.is_over:
            return True
        return bool(self.client.connection.send_oneway(Verb.STORE, "release_ref", container_id))

    def _transfer_owner(self) -> int:
        owner: int = self.backend.ask("owner", idempotent=True)[0]
        return owner

    def _release_transfer(self, container_id: int, sender: int) -> None:
        # A client whose key only reads leaves that to the end of the sender.
        with contextlib.suppress(PermissionError):
            self.backend.ask("release_transfer", container_id, sender)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_store, (self.client.address, *self.client.credentials())


def _on_reconnect(store: weakref.ref[RemoteStore]) -> Callable[[Any], None]:
    def reconnected(_: Any) -> None:
        found = store()
        if found is not None and found._pid == os.getpid():
            found.reconnected()

    return reconnected


def _rebuild_store(
    address: Any, key: bytes | None = None, fingerprint: str | None = None
) -> RemoteStore:
    note_server(address, key, fingerprint)
    return get_remote_store(get_client(address, key, local=False))
