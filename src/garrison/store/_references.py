"""Reference counts of this process: one reference in the server for any number of objects here."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Generic, TypeVar

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ReferenceCounts"]

Key = TypeVar("Key")


class ReferenceCounts(Generic[Key]):
    """Counts the objects of this process by the remote object that they refer to.

    A finalizer may run anywhere, so `remove` only notes the object. The reference is released
    when the lock is free.

    Parameters
    ----------
    acquire
        Takes a reference.
    try_release
        Releases it without waiting; returns whether it could.
    """

    def __init__(
        self, acquire: Callable[[Key], object], try_release: Callable[[Key], bool]
    ) -> None:
        self._acquire = acquire
        self._try_release = try_release
        self._counts: Counter[Key] = Counter()
        self._removed: deque[Key] = deque()
        self._lock = threading.Lock()

    def keys(self) -> list[Key]:
        """Return the objects to which this process has a reference."""
        return list(self._counts)

    def add_existing(self, key: Key) -> None:
        """Count an object whose reference this process has already."""
        self._count(key)
        self.release_pending()

    def add(self, key: Key) -> None:
        """Count an object, and acquire a reference if it is the first."""
        if self._count(key) == 1:
            try:
                self._acquire(key)
            except BaseException:
                with self._lock:
                    self._uncount(key)
                raise
        self.release_pending()

    def remove(self, key: Key) -> None:
        """Note that an object was finalized."""
        self._removed.append(key)
        self.release_pending()

    def release_pending(self) -> None:
        """Release unused references, unless that would block."""
        going = True
        while going and self._removed and self._lock.acquire(blocking=False):
            try:
                going = self._release()
            finally:
                self._lock.release()

    def reset_after_fork(self) -> None:
        """In a forked child: forget pending releases; they are the parent's."""
        self._lock = threading.Lock()
        while self._removed:
            self._uncount(self._removed.popleft())

    def _count(self, key: Key) -> int:
        with self._lock:
            self._counts[key] += 1
            return self._counts[key]

    def _uncount(self, key: Key) -> None:
        self._counts[key] -= 1
        if self._counts[key] <= 0:
            del self._counts[key]

    def _release(self) -> bool:
        while self._removed:
            key = self._removed.popleft()
            if self._counts[key] > 1 or self._try_release(key):
                self._uncount(key)
            else:
                self._removed.appendleft(key)
                return False
        return True
