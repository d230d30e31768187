"""Where a store lies: in three files without names, or in a folder, which one server has."""

from __future__ import annotations

import contextlib
import os
from multiprocessing import context

from garrison import _descriptors, _lending, _os
from garrison._byte_locks import ByteLocks
from garrison._core import Descriptor, memory_file
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import SharedMemoryGone, StoreBusy
from garrison.memory.handles import InheritedFd
from garrison.store._rendezvous import described, found

if TYPE_CHECKING:
    from garrison.store._rendezvous import Note, Shared

__all__ = ["Files", "Folder", "Tenancy"]


class Files:
    """Where a store lies: three open files without names."""

    def __init__(self, data: int, lock: int, holders: int) -> None:
        self._files = tuple(Descriptor(fd) for fd in (data, lock, holders))

    @classmethod
    def create(cls) -> Files:
        """Make three empty files in memory."""
        return cls(memory_file(), memory_file(), memory_file())

    @property
    def holders(self) -> Descriptor:
        """The file in which every process locks a byte."""
        return self._files[2]

    def place(self) -> tuple[int, int]:
        """Return the descriptors of the data and of the table of readers."""
        self.recover()
        data, lock, _ = self._files
        return data.fileno(), lock.fileno()

    def recover(self) -> None:
        """Get back what the program has closed here, from any process that has it."""
        if not all(each.is_ours for each in self._files):
            marks = tuple(each.mark for each in self._files)
            self._files = _open_in_any(None, marks)._files

    def handle(self, shared: Shared) -> tuple[Any, ...]:
        """Say how another process gets at them, and at what is shared besides."""
        popen: Any = context.get_spawning_popen()
        if popen is not None:
            return _inherited, (shared, *(InheritedFd(each.fileno()) for each in self._files))
        marks = tuple(each.mark for each in self._files)
        numbers = tuple(each.fileno() for each in self._files)
        sender = os.getpid(), numbers, _lending.address()
        return _foreign, (described(shared), sender, marks, _os.boot_id())

    def close(self) -> None:
        """Let go of them."""
        for each in self._files:
            each.close()


def _inherited(shared: Shared, *duplicates: Any) -> tuple[Files, Shared]:
    return Files(*(each.detach() for each in duplicates)), shared


Sender = tuple[int, tuple[int, ...], str]
"""A process, its numbers of the three files, and where it gives them away, if it does."""


def _foreign(
    note: Note, sender: Sender, marks: tuple[_os.FileId, ...], host: str
) -> tuple[Files, Shared]:
    if not _os.is_same_machine(host):
        msg = "this container lies on another machine; reach it through its manager's address"
        raise SharedMemoryGone(msg)
    files = _open_in_any(sender, marks)
    try:
        return files, found(note)
    except BaseException:
        files.close()
        raise


def _open_in_any(sender: Sender | None, marks: tuple[_os.FileId, ...]) -> Files:
    """Open three files where the sender has them, or whoever else does."""
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


def _open(pid: int, fds: tuple[int, ...], address: str, marks: tuple[_os.FileId, ...]) -> Files:
    opened: list[int] = []
    try:
        for fd, mark in zip(fds, marks, strict=True):
            opened.append(_descriptors.open_fd_of_process(pid, fd, mark, address))
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return Files(*opened)


class Folder:
    """Where a store lies: a folder of the user's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.holders = _holders(path)

    def place(self) -> str:
        """Return the folder."""
        return self.path

    def recover(self) -> None:
        """Open again what the program has closed here."""
        if not self.holders.is_ours:
            self.holders = _holders(self.path)

    @classmethod
    def at(cls, path: str) -> tuple[Folder, None]:
        """Return the folder; what else is shared is found by a meeting."""
        return cls(path), None

    def handle(self, _shared: Shared) -> tuple[Any, ...]:
        """Say how another process gets at it."""
        return Folder.at, (self.path,)

    def close(self) -> None:
        """Let go of it."""
        self.holders.close()


def _holders(path: str) -> Descriptor:
    """Open the file in which every process that uses a folder locks a byte."""
    return Descriptor(os.open(f"{path}/holders", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


SAYING = 200
"""Bytes at the beginning of the file of holders that say who serves the folder."""


class Tenancy:
    """The right to serve a folder, which one server at a time has; it ends with whoever has it.

    Raises
    ------
    StoreBusy
        If another server has it; the message says which.
    """

    def __init__(self, path: str) -> None:
        self._locks: ByteLocks | None = ByteLocks(_holders(path))
        # Signatures are odd, so this byte is nobody's.
        if not self._locks.lock(0):
            who = os.pread(self._locks.fileno(), SAYING, 0).decode(errors="replace").strip("\0 ")
            self.close()
            raise StoreBusy(
                f"{path} is served by {who or 'another process'}: connect to that (garrison."
                "connect), or stop it first"
            )
        self.say(f"process {os.getpid()}")

    def say(self, who: str) -> None:
        """Tell others who has it."""
        os.pwrite(self._open().fileno(), who.encode()[:SAYING].ljust(SAYING), 0)

    def _open(self) -> ByteLocks:
        if self._locks is None:
            msg = "this folder is not served any more"
            raise ValueError(msg)
        return self._locks

    def __reduce__(self) -> tuple[Any, ...]:
        return _passed_on, (InheritedFd(self._open().fileno()),)

    def close(self) -> None:
        """Let go of it, in this process."""
        locks, self._locks = self._locks, None
        if locks is not None:
            locks.close()

    def __del__(self) -> None:
        self.close()


def _passed_on(duplicate: Any) -> Tenancy:
    tenancy = Tenancy.__new__(Tenancy)
    tenancy._locks = ByteLocks(Descriptor(duplicate.detach()))
    # It has come with the description, or is this process's to take.
    tenancy._locks.lock(0)
    return tenancy
