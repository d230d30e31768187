"""`Lock`, `Semaphore`, `BoundedSemaphore` and `Event`, awaited."""

from __future__ import annotations

from functools import partial

from garrison import sync
from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import current
from garrison.aio._waiting_room import LOOK_S, Waiter, WaitingRoom

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal

    from typing_extensions import Self

__all__ = ["BoundedSemaphore", "Event", "Lock", "Semaphore"]


class Acquired:
    """The base of what is acquired and released."""

    def __init__(self, shared: Any) -> None:
        self._shared = shared
        # Nothing in it leads back to here: what is dropped is gone at once.
        self.room: WaitingRoom = WaitingRoom(partial(_wait_to_acquire, shared), shared.release)

    async def acquire(self) -> bool:
        """Acquire it, after those of this process that wait already.

        To cancel this leaves nothing acquired.
        """
        if self.room or not self._shared.acquire(False):
            await self.room.wait(current())
        return True

    def release(self) -> None:
        """Release it.

        Raises
        ------
        NotHeld
            If that is not possible: see `garrison.Lock` and `garrison.BoundedSemaphore`.
        """
        self._shared.release()

    def locked(self) -> bool:
        """Whether to acquire it would wait."""
        return bool(self._shared.locked())

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __reduce__(self) -> Any:
        return type(self)._around, (self._shared,)

    @classmethod
    def _around(cls, shared: Any) -> Self:
        made = cls.__new__(cls)
        Acquired.__init__(made, shared)
        return made

    def __repr__(self) -> str:
        return f"<aio {self._shared!r}>"


def _wait_to_acquire(shared: Any, waiters: list[Waiter]) -> list[Waiter]:
    return waiters[:1] if shared.acquire(True, LOOK_S) else []


def _wait_until_set(core: Any, waiters: list[Waiter]) -> list[Waiter]:
    if not core._wait_since(waiters[0].since, LOOK_S):
        return []
    is_set, times = core.is_set(), core._times()
    return [each for each in waiters if is_set or each.since != times]


def _checked(lock: Any) -> Any:
    """Return a lock that any thread may release: a thread waits for all coroutines."""
    if isinstance(lock, sync.RLock):
        raise TypeError("an RLock belongs to a thread, not to a coroutine: use a Lock")
    if isinstance(lock, sync.Lock) and lock._location[-1]:
        raise ValueError("a lock with detect_deadlocks belongs to a thread, not to a coroutine")
    return lock


class Lock(Acquired):
    """A lock between coroutines of any processes.

    It is a `garrison.Lock`, which other code may acquire without an event loop: a process holds it,
    and any coroutine may release it. If the holder dies, the next waiter acquires it.

    Parameters
    ----------
    lock : garrison.Lock, optional
        By default a new one. No `RLock`, and none with `detect_deadlocks`: threads hold those.
    on_abandon : {'warn', 'raise', 'ignore'}
        As for `garrison.Lock`.

    Examples
    --------
    >>> import asyncio
    >>> from garrison import aio
    >>> async def main():
    ...     async with aio.Lock() as _:
    ...         return "held"
    >>> asyncio.run(main())
    'held'
    """

    def __init__(
        self,
        lock: sync.Lock | None = None,
        *,
        on_abandon: Literal["warn", "raise", "ignore"] = "warn",
    ) -> None:
        super().__init__(sync.Lock(on_abandon=on_abandon) if lock is None else _checked(lock))

    @property
    def lock(self) -> sync.Lock:
        """The lock itself, for code without an event loop."""
        shared: sync.Lock = self._shared
        return shared

    @property
    def abandoned(self) -> bool:
        """Whether this process's last acquisition took the lock from a process that had died."""
        return bool(self._shared.abandoned)


class Semaphore(Acquired):
    """A number of permits, for coroutines of any processes: a `garrison.Semaphore`.

    Examples
    --------
    >>> import asyncio
    >>> from garrison import aio
    >>> async def main():
    ...     semaphore = aio.Semaphore(2)
    ...     async with semaphore:
    ...         return semaphore.get_value()
    >>> asyncio.run(main())
    1
    """

    _kind: Any = sync.Semaphore

    def __init__(self, value: int | sync.Semaphore = 1) -> None:
        super().__init__(self._kind(value) if isinstance(value, int) else value)

    def get_value(self) -> int:
        """Return the number of free permits."""
        return int(self._shared.get_value())


class BoundedSemaphore(Semaphore):
    """A semaphore that refuses more releases than acquisitions: a `garrison.BoundedSemaphore`.

    The permits of a process that dies are free again.
    """

    _kind = sync.BoundedSemaphore


class Event:
    """A flag that coroutines of any processes wait for: a `garrison.Event`.

    Examples
    --------
    >>> import asyncio
    >>> from garrison import aio
    >>> async def main():
    ...     event = aio.Event()
    ...     asyncio.get_running_loop().call_later(0.01, event.set)
    ...     return await event.wait()
    >>> asyncio.run(main())
    True
    """

    def __init__(self, event: sync.Event | None = None) -> None:
        self._shared = sync.Event() if event is None else event
        self.room: WaitingRoom = WaitingRoom(partial(_wait_until_set, self._shared._core))

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._shared.is_set()

    def set(self) -> None:
        """Set it, and wake all waiters."""
        self._shared.set()

    def clear(self) -> None:
        """Clear it: later waits block."""
        self._shared.clear()

    async def wait(self) -> bool:
        """Wait until it is set, or was in between; True."""
        times = self._shared._core._times()
        if not self._shared.is_set():
            await self.room.wait(current(), times)
        return True

    def __reduce__(self) -> Any:
        return type(self), (self._shared,)

    def __repr__(self) -> str:
        return f"<aio {self._shared!r}>"
