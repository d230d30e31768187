"""Where a store lies: in three files without names, or in a folder, which one server has."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from multiprocessing import context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison import _os
from garrison._core import StoreBusy
from garrison.errors import SharedMemoryGone
from garrison.memory._handles import Inherited
from garrison.store._shared import described, found

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.store._shared import Note, Shared

__all__ = ["Files", "Folder", "Tenancy", "sweep_folders"]

OPENING = "garrison-opening-"
"""What the names of folders begin with that last as long as a store is being opened."""


def sweep_folders() -> None:
    """Remove the folders of processes that were killed while they opened a store."""
    for entry in os.scandir(tempfile.gettempdir()):
        pid = entry.name.removeprefix(OPENING).partition("-")[0]
        if entry.name.startswith(OPENING) and pid.isdigit() and not _os.start_ticks(int(pid)):
            shutil.rmtree(entry.path, ignore_errors=True)


class Files:
    """Where a store lies: three open files without names."""

    def __init__(self, data: int, lock: int, holders: int) -> None:
        self.descriptors = (data, lock, holders)

    @classmethod
    def create(cls) -> Files:
        """Make three empty files in memory."""
        names = ("data", "lock", "holders")
        return cls(*(os.memfd_create(f"garrison-{name}", os.MFD_CLOEXEC) for name in names))

    @property
    def holders(self) -> int:
        """The file in which every process locks a byte."""
        return self.descriptors[2]

    def place(self) -> tuple[str, Callable[[], None]]:
        """Return a folder in which the files have names while they are being opened."""
        folder = tempfile.mkdtemp(prefix=f"{OPENING}{os.getpid()}-")
        try:
            for name, fd in zip(("data.mdb", "lock.mdb"), self.descriptors, strict=False):
                Path(folder, name).symlink_to(f"/proc/self/fd/{fd}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder, lambda: shutil.rmtree(folder, ignore_errors=True)

    def handle(self, shared: Shared) -> tuple[Any, ...]:
        """Say how another process gets at them, and at what is shared besides."""
        popen: Any = context.get_spawning_popen()
        if popen is not None:
            return _inherited, (shared, *(Inherited(fd) for fd in self.descriptors))
        marks = tuple(_os.mark(fd) for fd in self.descriptors)
        return _foreign, (described(shared), os.getpid(), self.descriptors, marks, _os.host())

    def close(self) -> None:
        """Let go of them."""
        for fd in self.descriptors:
            os.close(fd)


def _inherited(shared: Shared, *duplicates: Any) -> tuple[Files, Shared]:
    return Files(*(each.detach() for each in duplicates)), shared


def _foreign(
    note: Note, pid: int, fds: tuple[int, ...], marks: tuple[_os.Mark, ...], host: str
) -> tuple[Files, Shared]:
    if host != _os.host():
        msg = "this container lies on another machine; reach it through its manager's address"
        raise SharedMemoryGone(msg)
    files = _open_in_any(pid, fds, marks)
    try:
        return files, found(note)
    except BaseException:
        files.close()
        raise


def _open_in_any(pid: int, fds: tuple[int, ...], marks: tuple[_os.Mark, ...]) -> Files:
    """Open three files where the sender has them, or whoever else does."""
    try:
        return _open(pid, fds, marks)
    except OSError as error:
        gone = error
    for other, theirs in _os.who_has_open(marks):
        with contextlib.suppress(OSError):
            return _open(other, theirs, marks)
    msg = f"process {pid}, which sent this container, is gone or cannot be looked at: {gone}"
    raise SharedMemoryGone(msg) from gone


def _open(pid: int, fds: tuple[int, ...], marks: tuple[_os.Mark, ...]) -> Files:
    opened: list[int] = []
    try:
        opened.extend(_os.open_foreign(pid, fd) for fd in fds)
        _check(opened, marks)
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    return Files(*opened)


def _check(opened: list[int], marks: tuple[_os.Mark, ...]) -> None:
    for fd, mark in zip(opened, marks, strict=True):
        if _os.mark(fd) != mark:
            raise FileNotFoundError(
                "what it had sent is closed, and the numbers are others' by now"
            )


class Folder:
    """Where a store lies: a folder of the user's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.holders = os.open(f"{path}/holders", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def place(self) -> tuple[str, Callable[[], None]]:
        """Return the folder; nothing is to be done afterwards."""
        return self.path, lambda: None

    @classmethod
    def at(cls, path: str) -> tuple[Folder, None]:
        """Return the folder; what else is shared is found by a meeting."""
        return cls(path), None

    def handle(self, _shared: Shared) -> tuple[Any, ...]:
        """Say how another process gets at it."""
        return Folder.at, (self.path,)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.holders)


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
        self._fd = os.open(f"{path}/holders", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Signatures are odd, so this byte is nobody's.
        if not _os.lock_byte(self._fd, 0):
            who = os.pread(self._fd, SAYING, 0).decode(errors="replace").strip("\0 ")
            self.close()
            raise StoreBusy(
                f"{path} is served by {who or 'another process'}: connect to that (garrison."
                "connect), or stop it first"
            )
        self.say(f"process {os.getpid()}")

    def say(self, who: str) -> None:
        """Tell others who has it."""
        os.pwrite(self._fd, who.encode()[:SAYING].ljust(SAYING), 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return _passed_on, (Inherited(self._fd),)

    def close(self) -> None:
        """Let go of it, in this process."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _passed_on(duplicate: Any) -> Tenancy:
    tenancy = Tenancy.__new__(Tenancy)
    tenancy._fd = duplicate.detach()
    return tenancy
