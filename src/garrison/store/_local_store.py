"""A store on this machine: each process opens its files and works on them directly.

There are three files, unnamed ones in memory or those of a directory. In the third, `holders`, each
owner of references has the byte at its id locked as long as it lives. An owner whose byte is free
is dead, and the server releases its references.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import weakref

from garrison import _os
from garrison._core import Store
from garrison._os.byte_locks import ByteLocks
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, StoreBusy
from garrison.store._damage import check_pages, check_size
from garrison.store._files import DirectoryFiles, MemoryFiles, ServerLock
from garrison.store._rendezvous import Rendezvous, create_shared_state
from garrison.store._shared_store import SharedStore, StoreCodec

if TYPE_CHECKING:
    from garrison.store._rendezvous import SharedState

__all__ = ["LocalStore", "claim_server_lock", "create_in_memory", "open_directory"]

_open_stores: weakref.WeakValueDictionary[bytes, LocalStore] = weakref.WeakValueDictionary()
"""The stores that this process has open. A file must not be opened twice: closing one descriptor
would drop the locks of the other."""
_opening = threading.RLock()
os.register_at_fork(after_in_child=_opening._at_fork_reinit)  # type: ignore[attr-defined]


class LocalStore(SharedStore):
    """A store whose files this process has open."""

    is_local = True
    backend: Store

    def __init__(
        self,
        uuid: bytes,
        files: MemoryFiles | DirectoryFiles,
        state: SharedState,
        settings: dict[str, Any],
        *,
        alone: bool = False,
    ) -> None:
        self.uuid = uuid
        self._files = files
        self._lock, self._change_words = state
        self._settings = settings
        self._client_ids: set[int] = set()
        self._alive_locks, self._owner = self._lock_own_id()
        codec: Any = StoreCodec(self, self.container)
        self.backend = Store(
            files.location,
            codec,
            self._lock._semlock,
            self._change_words,
            owner=self._owner,
            alone=alone,
            **settings,
        )
        super().__init__()

    # -- owners -----------------------------------------------------------------------------------

    def _lock_own_id(self) -> tuple[ByteLocks, int]:
        """Lock the byte of a new owner's id, as long as this process lives."""
        self._files.recover()
        locks = ByteLocks.of(self._files.holders)
        while True:
            owner = secrets.randbits(62) | 1
            if locks.lock(owner):
                return locks, owner

    def new_client_id(self) -> int:
        """Return an owner's id for a client of the server in this process."""
        while True:
            owner = secrets.randbits(62) | 1
            if owner not in self._client_ids and self._alive_locks.lock(owner):
                self._client_ids.add(owner)
                return owner

    def drop_client_id(self, owner: int) -> None:
        """Unlock the byte of a client that is gone."""
        self._client_ids.discard(owner)
        self._alive_locks.unlock(owner)

    def is_alive(self, owner: int) -> bool:
        """Return whether the process or client with this id lives; for the server."""
        # A process does not see its own locks.
        ours = owner == self._owner or owner in self._client_ids
        return ours or self._alive_locks.is_locked(owner)

    def _become_owner(self) -> None:
        self._alive_locks.close()
        self._client_ids.clear()
        self._alive_locks, self._owner = self._lock_own_id()
        self.backend.owner = self._owner
        for container_id in self._references.keys():  # noqa: SIM118 - no dict
            with contextlib.suppress(ContainerGone):
                self.backend.acquire_ref(container_id)

    # -- references -------------------------------------------------------------------------------

    def _try_release_ref(self, container_id: int) -> bool:
        if self._pid == os.getpid():
            try:
                session = self.backend.session(self._owner, encoded=False, blocking=False)
                session.release_ref(container_id)
            except StoreBusy:
                return False
        return True

    def _transfer_owner(self) -> int:
        return self._owner

    def _release_transfer(self, container_id: int, sender: int) -> None:
        session = self.backend.session(sender, encoded=False, blocking=True)
        session.release_ref(container_id)

    # -- the store itself -------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        open_files, arguments = self._files.reduce_args((self._lock, self._change_words))
        return _rebuild_store, (self.uuid, open_files, arguments, self._settings)

    def __del__(self) -> None:
        try:
            if self._pid == os.getpid():
                self.backend.close()
            self._alive_locks.close()
            self._files.close()
        except Exception:  # noqa: S110 - at the end of an interpreter this module may be empty
            pass


def _rebuild_store(
    uuid: bytes, open_files: Any, arguments: Any, settings: dict[str, Any]
) -> LocalStore:
    """Return the store that was sent; open it if this process has not."""
    with _opening:
        known = _open_stores.get(uuid)
        if known is None:
            files, state = open_files(*arguments)
            known = _open_stores[uuid] = _open(uuid, files, state, settings)
        return known


def _open(
    uuid: bytes,
    files: MemoryFiles | DirectoryFiles,
    state: SharedState | None,
    settings: dict[str, Any],
) -> LocalStore:
    """Open a store; a directory, together with the processes that have it open."""
    try:
        if state is not None or isinstance(files, MemoryFiles):
            return LocalStore(uuid, files, state or create_shared_state(), settings)
        # Late: memory has no copies.
        from garrison.store import _backups

        with Rendezvous(files.path) as rendezvous:
            state = rendezvous.find_state()
            if state is not None:
                check_size(files.path)
            else:
                restarted = rendezvous.machine_restarted
                check_pages(files.path, check=files.check, restarted=restarted)
                _backups.check_copy(files.path, lambda: _audit(uuid, files, settings))
            alone, state = state is None, state or create_shared_state()
            store = LocalStore(uuid, files, state, settings, alone=alone)
            _backups.record_origin(files.path)
            rendezvous.publish_address(state)
            return store
    except BaseException:
        files.close()
        raise


def _audit(uuid: bytes, files: DirectoryFiles, settings: dict[str, Any]) -> list[str]:
    backend = LocalStore(uuid, files, create_shared_state(), settings, alone=True).backend
    from pathlib import Path

    used, size = backend.statistics()["bytes_used"], Path(files.path, "data.mdb").stat().st_size
    return [f"{size} bytes of {used}"] if size < used else backend.audit()


def create_in_memory(size: int | None = None) -> LocalStore:
    """Create a store in memory; it ends with the last process that has it open."""
    settings = {"size": size or _memory_size(), "in_memory": True, "sync": False}
    uuid = secrets.token_bytes(16)
    store = _open_stores[uuid] = _open(uuid, MemoryFiles.create(), None, settings)
    return store


def claim_server_lock(path: str | os.PathLike[str]) -> ServerLock:
    """Get the right to serve a directory, which is made if need be."""
    # Late, as below: memory needs no paths.
    from pathlib import Path

    directory = Path(path).absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return ServerLock(str(directory))


def open_directory(
    path: str | os.PathLike[str],
    *,
    sync: bool,
    size: int | None = None,
    check: bool | None = None,
) -> LocalStore:
    """Open the store in a directory."""
    from pathlib import Path

    directory = Path(path).absolute()
    status = directory.stat()
    uuid = f"{status.st_dev:x}.{status.st_ino:x}".encode().ljust(16, b"\0")[:16]
    settings = {"size": size or _disk_size(directory), "in_memory": False, "sync": sync}
    return _rebuild_store(uuid, DirectoryFiles.at, (str(directory), check), settings)


def _memory_size() -> int:
    """Return the address space for a store in memory: as much as there is memory, in MiB."""
    return max(1 << 30, _os.total_memory() >> 20 << 20)


def _disk_size(directory: os.PathLike[str]) -> int:
    status = os.statvfs(directory)
    return max(1 << 30, status.f_blocks * status.f_frsize >> 20 << 20)
