"""Which containers a process looks at: it signs for each once, however many faces it has of it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Generic, TypeVar

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Held"]

Thing = TypeVar("Thing")


class Held(Generic[Thing]):
    """Counts faces of containers, or of what else a server keeps.

    A finalizer, which may run anywhere, only notes what is gone.

    Parameters
    ----------
    hold
        Signs for a container.
    let_go
        Undoes that without waiting; returns whether it could.
    """

    def __init__(self, hold: Callable[[Thing], object], let_go: Callable[[Thing], bool]) -> None:
        self._hold = hold
        self._let_go = let_go
        self._faces: Counter[Thing] = Counter()
        self._gone: deque[Thing] = deque()
        self._lock = threading.Lock()

    def all(self) -> list[Thing]:
        """Return the containers that this process has signed for."""
        return list(self._faces)

    def has(self, c: Thing) -> None:
        """Count a face of a container that is signed for already."""
        with self._lock:
            self._faces[c] += 1
        self.flush()

    def hold(self, c: Thing) -> None:
        """Count a face of any container, and sign for it if this is the first."""
        self.has(c)
        if self._faces[c] == 1:
            try:
                self._hold(c)
            except BaseException:
                with self._lock:
                    self._faces[c] -= 1
                    if not self._faces[c]:
                        del self._faces[c]
                raise

    def drop(self, c: Thing) -> None:
        """Note that a face is gone."""
        self._gone.append(c)
        self.flush()

    def flush(self) -> None:
        """Undo signatures, unless somebody is at it or it cannot be done just now."""
        going = True
        while going and self._gone and self._lock.acquire(blocking=False):
            try:
                going = self._undo()
            finally:
                self._lock.release()

    def _undo(self) -> bool:
        while self._gone:
            c = self._gone.popleft()
            if self._faces[c] > 1:
                self._faces[c] -= 1
            elif self._let_go(c):
                del self._faces[c]
            else:
                self._gone.appendleft(c)
                return False
        return True

    def forget_others(self) -> None:
        """In a forked child: what the parent has noted is the parent's to do."""
        self._lock = threading.Lock()
        self._gone.clear()
