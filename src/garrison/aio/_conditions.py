"""`Condition`, awaited."""

from __future__ import annotations

import contextlib
from functools import partial

from garrison import sync
from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import current
from garrison.aio._locks import Acquired, Lock
from garrison.aio._waiting_room import LOOK_S, Waiter, WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Condition"]


class Condition(Acquired):
    """A condition variable for coroutines of any processes: a `garrison.Condition` of a `Lock`.

    Parameters
    ----------
    lock : Lock or garrison.Lock, optional
        By default a new one.

    Examples
    --------
    >>> import asyncio
    >>> from garrison import aio
    >>> async def main():
    ...     condition = aio.Condition()
    ...     async with condition:
    ...         condition.notify_all()
    ...         return condition.locked()
    >>> asyncio.run(main())
    True
    """

    def __init__(self, lock: Lock | sync.Lock | None = None) -> None:
        shared = (lock if isinstance(lock, Lock) else Lock(lock)).lock
        self._begin(sync.Condition(shared), shared)

    def _begin(self, condition: sync.Condition, lock: Any) -> None:
        super().__init__(lock)
        self._condition = condition
        self._seats = WaitingRoom(partial(_wait_in_seats, condition._core), forget=_leave_seat)

    async def wait(self) -> bool:
        """Release the lock, wait for a notification, and acquire the lock again; True.

        The lock is held again even if this is cancelled; a notification that came just then goes
        to the next waiter.

        Raises
        ------
        AssertionError
            If this process does not hold the lock.
        """
        library, core = current(), self._condition._core
        seat = _Seat(core)
        notified = False
        try:
            await self._seats.wait(library, seat)
            notified = True
        finally:
            try:
                if self.room or not self._shared.acquire(False):
                    await self.room.wait(library, surely=True)
            except BaseException:
                notified = False
                raise
            finally:
                seat.leave(notified)
        return True

    async def wait_for(self, predicate: Callable[[], Any]) -> Any:
        """Wait until `predicate` is true; return its last value."""
        result = predicate()
        while not result:
            await self.wait()
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake the `n` waiters that have waited longest; the caller holds the lock."""
        self._condition.notify(n)

    def notify_all(self) -> None:
        """Wake all waiters; the caller holds the lock."""
        self._condition.notify_all()

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self._condition, self._shared)


class _Seat:
    """A place among the waiters. It is left once: by its coroutine, or when its loop was closed."""

    def __init__(self, core: Any) -> None:
        self._core, self.place = core, core._take_seat()
        self._held = [self.place]

    def leave(self, notified: bool) -> None:
        with contextlib.suppress(IndexError):
            self._core._leave(self._held.pop(), notified)


def _leave_seat(waiter: Waiter) -> None:
    waiter.since.leave(False)


def _wait_in_seats(core: Any, waiters: list[Waiter]) -> list[Waiter]:
    if not core._wait_in(waiters[0].since.place, LOOK_S):
        return []
    return [each for each in waiters if core._wait_in(each.since.place, 0.0)]


def _rebuild(kind: type[Condition], condition: sync.Condition, lock: Any) -> Condition:
    made = kind.__new__(kind)
    made._begin(condition, lock)
    return made
