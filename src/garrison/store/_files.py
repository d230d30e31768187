"""The files of a store: three without names in memory, or those of a directory."""

from __future__ import annotations

import contextlib
import os
from multiprocessing import context

from garrison import _os
from garrison._core import Descriptor, memory_file
from garrison._os import descriptor_sharing, file_trust
from garrison._os.byte_locks import ByteLocks
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import SharedMemoryGone, StoreBusy
from garrison.memory.handles import InheritedFd
from garrison.store._folder import HOLDERS, OWNER_TEXT_BYTES, open_store_folder
from garrison.store._rendezvous import address_of_state, open_state

if TYPE_CHECKING:
    from garrison.store._rendezvous import Address, SharedState

__all__ = ["DirectoryFiles", "MemoryFiles", "ServerLock"]


class MemoryFiles:
    """Three open files without names: the data, LMDB's table of readers, the owners' bytes."""

    def __init__(self, data: int, lock: int, holders: int) -> None:
        self._files = tuple(Descriptor(fd) for fd in (data, lock, holders))

    @classmethod
    def create(cls) -> MemoryFiles:
        """Create three empty files in memory."""
        return cls(memory_file(), memory_file(), memory_file())

    @property
    def holders(self) -> Descriptor:
        """The file in which each owner of references has a byte locked."""
        return self._files[2]

    def location(self) -> tuple[int, int]:
        """Return the descriptors for LMDB."""
        self.recover()
        data, lock, _ = self._files
        return data.fileno(), lock.fileno()

    def recover(self) -> None:
        """Reopen files that the program has closed, through any process that has them open."""
        if not all(each.is_ours for each in self._files):
            marks = tuple(each.mark for each in self._files)
            self._files = _open_in_any(None, marks)._files

    def reduce_args(self, state: SharedState) -> tuple[Any, ...]:
        """Return the arguments that open them, and the shared state, in another process."""
        popen: Any = context.get_spawning_popen()
        if popen is not None:
            return _open_inherited, (state, *(InheritedFd(each.fileno()) for each in self._files))
        marks = tuple(each.mark for each in self._files)
        numbers = tuple(each.fileno() for each in self._files)
        sender = os.getpid(), numbers, descriptor_sharing.address()
        return _open_foreign, (address_of_state(state), sender, marks, _os.boot_id())

    def close(self) -> None:
        """Close them."""
        for each in self._files:
            each.close()


def _open_inherited(state: SharedState, *duplicates: Any) -> tuple[MemoryFiles, SharedState]:
    return MemoryFiles(*(each.detach() for each in duplicates)), state


Sender = tuple[int, tuple[int, ...], str]
"""A process, its descriptors of the three files, and the socket on which it sends them, if any."""


def _open_foreign(
    address: Address, sender: Sender, marks: tuple[_os.FileId, ...], host: str
) -> tuple[MemoryFiles, SharedState]:
    if not _os.is_same_machine(host):
        msg = "this container lies on another machine; reach it through its manager's address"
        raise SharedMemoryGone(msg)
    files = _open_in_any(sender, marks)
    try:
        return files, open_state(address)
    except BaseException:
        files.close()
        raise


def _open_in_any(sender: Sender | None, marks: tuple[_os.FileId, ...]) -> MemoryFiles:
    """Open three files through the sender, or through any other process that has them open."""
    gone = None
    if sender is not None:
        try:
            return _open(*sender, marks)
        except OSError as error:
            gone = error
    for other, theirs in _os.find_processes_with_open_files(marks):
        with contextlib.suppress(OSError):
            return _open(other, theirs, "", marks)
    if sender is None:
        msg = "the descriptors of this container were closed here, and no other process has it"
    else:
        msg = f"process {sender[0]}, which sent this container, is gone or cannot be seen: {gone}"
    raise SharedMemoryGone(msg) from gone


def _open(
    pid: int, fds: tuple[int, ...], address: str, marks: tuple[_os.FileId, ...]
) -> MemoryFiles:
    opened: list[int] = []
    try:
        for fd, mark in zip(fds, marks, strict=True):
            opened.append(descriptor_sharing.open_fd_of_process(pid, fd, mark, address))
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return MemoryFiles(*opened)


class DirectoryFiles:
    """The files in a directory of the user.

    Parameters
    ----------
    path : str
        The directory.
    check : bool, optional
        Whether to check the pages when it is opened; see `check_pages`.
    """

    def __init__(self, path: str, check: bool | None = None) -> None:
        self.path = path
        self.check = check
        self.holders: Descriptor = _holders(path)

    def location(self) -> str:
        """Return the directory for LMDB."""
        return self.path

    def recover(self) -> None:
        """Reopen files that the program has closed."""
        if not self.holders.is_ours:
            self.holders = _holders(self.path)

    @classmethod
    def at(cls, path: str, check: bool | None = None) -> tuple[DirectoryFiles, None]:
        """Return the directory; the shared state is found by a rendezvous."""
        return cls(path, check), None

    def reduce_args(self, _state: SharedState) -> tuple[Any, ...]:
        """Return the arguments that open it in another process."""
        return DirectoryFiles.at, (self.path,)

    def close(self) -> None:
        """Close them."""
        self.holders.close()


def _holders(path: str) -> Descriptor:
    """Open the file in which each owner of references has a byte locked."""
    folder = open_store_folder(path)
    try:
        return Descriptor(file_trust.open_in(folder, HOLDERS, os.O_RDWR | os.O_CREAT, path))
    finally:
        os.close(folder)


class ServerLock:
    """The right to serve a directory: one process at a time has it, until it ends.

    Raises
    ------
    StoreBusy
        If another server has it; the message names the server.
    """

    _locks: ByteLocks | None = None

    def __init__(self, path: str) -> None:
        self._locks = ByteLocks(_holders(path))
        # The ids of owners are odd: byte 0 is free for the lock.
        if not self._locks.lock(0):
            owner = (
                os.pread(self._locks.fileno(), OWNER_TEXT_BYTES, 0)
                .decode(errors="replace")
                .strip("\0 ")
            )
            self.close()
            raise StoreBusy(
                f"{path} is served by {owner or 'another process'}: connect to that (garrison."
                "connect), or stop it first"
            )
        self.write_owner(f"process {os.getpid()}")

    def write_owner(self, text: str) -> None:
        """Write down which process has the lock."""
        os.pwrite(
            self._open().fileno(), text.encode()[:OWNER_TEXT_BYTES].ljust(OWNER_TEXT_BYTES), 0
        )

    def _open(self) -> ByteLocks:
        if self._locks is None:
            msg = "this directory is not served any more"
            raise ValueError(msg)
        return self._locks

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive_server_lock, (InheritedFd(self._open().fileno()),)

    def close(self) -> None:
        """Release it, in this process."""
        locks, self._locks = self._locks, None
        if locks is not None:
            locks.close()

    def __del__(self) -> None:
        self.close()


def _receive_server_lock(duplicate: Any) -> ServerLock:
    lock = ServerLock.__new__(ServerLock)
    lock._locks = ByteLocks(Descriptor(duplicate.detach()))
    # The lock came with the file description; without one, this process takes it.
    lock._locks.lock(0)
    return lock
