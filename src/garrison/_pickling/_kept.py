"""Descriptors in pickles that are read more than once.

The standard library sends a descriptor to one receiver. A pickle for any number of readers (a
function for all workers, a shared object, a value in a store) keeps the descriptor open, and each
reader gets a duplicate.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Callable
from multiprocessing import resource_sharer

from garrison._typing import Any

__all__ = ["Kept"]

_sharer: Any = vars(resource_sharer)["_resource_sharer"]
Send = Callable[[Any, int], object]
Close = Callable[[], object]


class Kept:
    """Sends duplicates of descriptors to any number of readers, as long as it lives."""

    def __init__(self) -> None:
        self._known: dict[Any, Any] = {}
        self._closers: list[Close] = []
        weakref.finalize(self, _close_all, self._closers).atexit = False

    def first(self) -> dict[type, Any]:
        """Return reducers that come before all others."""
        return {resource_sharer.DupFd: self._reduce}

    def _reduce(self, duplicate: Any) -> Any:
        address, key = duplicate._id
        send, close = _sharer._cache[key]
        what = _identity(close)
        if what in self._known:
            del _sharer._cache[key]
            close()
            return _duplicate, (self._known[what],)
        self._closers.append(_keep(key, send, close))
        if what is not None:
            self._known[what] = address, key
        return _duplicate, ((address, key),)


def _keep(key: Any, send: Send, close: Close) -> Close:
    """Keep a descriptor open for its readers; return the function that ends that."""
    here = os.getpid()

    def send_and_stay(connection: Any, pid: int) -> None:
        _sharer._cache[key] = entry
        send(connection, pid)

    def stay() -> None:
        if os.getpid() != here:
            close()  # a forked process does not need it

    def end() -> None:
        if os.getpid() == here:
            _sharer._cache.pop(key, None)
            close()

    entry = send_and_stay, stay
    _sharer._cache[key] = entry
    return end


def _close_all(closers: list[Close]) -> None:
    for close in closers:
        close()


def _identity(close: Any) -> Any:
    """Return an identity of the file that all duplicates share; None if there is none."""
    import fcntl  # late: this module is loaded on Windows too

    names = close.__code__.co_freevars
    if "new_fd" not in names:
        return None
    fd = close.__closure__[names.index("new_fd")].cell_contents
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_nlink:
        return None  # a file may be open twice, with two positions
    return status.st_dev, status.st_ino, fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE


def _duplicate(ident: Any) -> Any:
    """Return the receiver's side of a descriptor."""
    made: Any = object.__new__(resource_sharer.DupFd)
    made._id = ident
    return made
