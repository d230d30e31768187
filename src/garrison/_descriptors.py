"""Descriptors of ours, in this process and in others.

A number that is remembered may be another file's by the time that it is used: a program that
becomes a daemon closes all of them. `garrison._core.Descriptor` is checked before each use; a
connection, which the standard library closes by itself, is checked here.
"""

from __future__ import annotations

import errno
import os
import socket
from multiprocessing import util
from multiprocessing.connection import Connection
from typing import Any

from garrison import _core, _lending, _os

__all__ = ["GuardedConnection", "guard", "guarded_pipe", "open_foreign"]


class GuardedConnection(Connection):
    """A connection that closes its descriptor only as long as that is still its own."""

    def __init__(self, handle: int) -> None:
        super().__init__(handle)
        self._mark = _os.mark(handle)

    @property
    def is_ours(self) -> bool:
        """Whether it is open, and not another file's by now."""
        own: int | None = self._handle  # type: ignore[attr-defined]
        try:
            return own is not None and _os.mark(own) == self._mark
        except OSError:
            return False

    def _close(self) -> None:
        if self.is_ours:
            os.close(self._handle)  # type: ignore[attr-defined]


def guarded_pipe() -> tuple[GuardedConnection, Connection]:
    """Return two connected ends: one to keep, and one for another process."""
    ours, theirs = socket.socketpair()
    return GuardedConnection(ours.detach()), Connection(theirs.detach())


def guard(popen: Any) -> None:
    """Have a started process's own descriptors closed only as long as they are."""
    plain = popen.finalizer
    owned = [_core.Descriptor(fd) for fd in plain._args]
    plain.cancel()
    popen.finalizer = util.Finalize(popen, _close, owned)


def _close(*owned: _core.Descriptor) -> None:
    for each in owned:
        each.close()


_ELSEWHERE = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP})
"""Errors of a ``/proc`` that does not show the process, or is not there."""


def open_foreign(pid: int, fd: int, known_as: _os.Mark | None = None, address: str = "") -> int:
    """Open the memory that another process has open under that number.

    Through ``/proc``, as the system lets a process of the same user; in a ``chroot``, or as another
    user by now, from the supervisor; where nobody can be looked at, from the sender itself.

    Parameters
    ----------
    pid, fd : int
        The process, and its number.
    known_as : tuple of int, optional
        Device and inode of the file that is meant.
    address : str, optional
        Where the sender gives its memory away, if it does.

    Raises
    ------
    FileNotFoundError
        If it is not the file that is known so.
    OSError
        If it cannot be had.
    """
    try:
        found = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        found = _ask_others(pid, fd, address, error)
    if known_as is not None and _os.mark(found) != known_as:
        os.close(found)
        msg = "what was sent is closed there, and its number is another file's by now"
        raise FileNotFoundError(msg)
    return found


def _ask_others(pid: int, fd: int, address: str, first: OSError) -> int:
    for ask in (_core.copy_descriptor, _lending.borrow):
        try:
            return ask(pid, fd)
        except OSError:
            continue
    if address:
        return _lending.fetch(address, fd)
    raise first
