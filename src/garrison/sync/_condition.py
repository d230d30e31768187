"""`Condition`."""

from __future__ import annotations

import time
from collections.abc import Callable

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any
from garrison.memory import SharedBlock
from garrison.sync._locks import LockBase, RLock
from garrison.sync._semaphores import Semaphore
from garrison.sync._slots import bind_methods, register_transfer

if TYPE_CHECKING:
    from multiprocessing import synchronize as _theirs
else:
    _theirs = _standard.load("synchronize")

__all__ = ["Condition"]


def wait_for(
    wait: Callable[[float | None], object], predicate: Callable[[], Any], timeout: float | None
) -> Any:
    """Call `wait` until `predicate` is true or the timeout is over; return its last value."""
    end = None if timeout is None else time.monotonic() + timeout
    result = predicate()
    while not result:
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            break
        wait(left)
        result = predicate()
    return result


class Condition(Transferable, _theirs.Condition):
    """A condition variable: a lock, and a queue of processes that wait for a change.

    As `multiprocessing.Condition`: `wait` releases the lock, and acquires it again before it
    returns; `notify` wakes the longest waiters. A waiter that is killed blocks no other, and its
    notification goes to the next waiter.

    Parameters
    ----------
    lock : Lock or RLock, optional
        By default a new `RLock`. With a lock of the standard library, the condition behaves as that
        library's: a waiter that is killed may block the others.

    Examples
    --------
    >>> from garrison import Condition
    >>> condition = Condition()
    >>> with condition:
    ...     condition.wait(timeout=0.01)
    False
    """

    __slots__ = (
        "__enter__",
        "__exit__",
        "_core",
        "_lock",
        "_spot",
        "acquire",
        "notify",
        "notify_all",
        "release",
        "wait",
    )
    if TYPE_CHECKING:

        def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
            """Acquire the lock; return whether that was possible within `timeout` seconds."""

        def release(self) -> None:
            """Release the lock."""

        def wait(self, timeout: float | None = None) -> bool:
            """Release the lock, wait for a notification, and acquire the lock again.

            Parameters
            ----------
            timeout : float, optional
                Seconds to wait at most; by default as long as it takes.

            Returns
            -------
            bool
                Whether there was a notification in time.

            Raises
            ------
            AssertionError
                If this thread does not hold the lock.
            """

        def notify(self, n: int = 1) -> None:
            """Wake the `n` waiters that have waited longest; the caller holds the lock."""

        def notify_all(self) -> None:
            """Wake all waiters; the caller holds the lock."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *args: object) -> None: ...

    _core: Any

    def __init__(
        self, lock: _theirs.Lock | _theirs.RLock | None = None, *, ctx: Any = None
    ) -> None:
        if lock is None:
            lock = RLock()
        if isinstance(lock, LockBase):
            self._bind_to(SharedBlock(_core.Condition.SIZE), lock)
        else:
            parts: Any = _Semaphores()
            self._bind_to_standard(_theirs.Condition(lock, ctx=parts))

    def _bind_to(self, spot: SharedBlock, lock: LockBase) -> None:
        core = _core.Condition(spot, lock._semlock)
        self._spot, self._lock, self._core = spot, lock, core
        bind_methods(self, Condition, acquire=lock.acquire, release=lock.release)
        bind_methods(self, Condition, __enter__=lock.__enter__, __exit__=lock.__exit__)
        bind_methods(
            self, Condition, wait=core.wait, notify=core.notify, notify_all=core.notify_all
        )

    def _bind_to_standard(self, condition: Any) -> None:
        """Use the standard class, with garrison's semaphores, around any lock."""
        lock = condition._lock
        self._spot, self._lock = condition, lock
        self._core = _Other(condition)
        bind_methods(self, Condition, acquire=condition.acquire, release=condition.release)
        bind_methods(self, Condition, __enter__=lock.__enter__, __exit__=lock.__exit__)
        bind_methods(self, Condition, wait=condition.wait)
        bind_methods(self, Condition, notify=condition.notify, notify_all=condition.notify_all)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate` is true; return its last value, which is false after a timeout."""
        return wait_for(self.wait, predicate, timeout)

    @property
    def _sleeping_count(self) -> _Count:
        return _Count(self._core.waiting)

    @property
    def _woken_count(self) -> _Count:
        return _Count(0)

    _wait_semaphore = _woken_count

    def __reduce__(self) -> tuple[Any, ...]:
        assert_transfer(self)
        return _rebuild, (self._spot, self._lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock!r}, {self._core.waiting})>"


class _Semaphores:
    """The context from which the standard class takes its semaphores."""

    Semaphore = Semaphore


class _Other:
    """The core's object, in a condition that has none."""

    def __init__(self, condition: Any) -> None:
        self._condition = condition

    @property
    def waiting(self) -> int:
        sleeping, woken = self._condition._sleeping_count, self._condition._woken_count
        return int(sleeping.get_value() - woken.get_value())


class _Count:
    """Private attributes of the standard library's Condition that programs read."""

    def __init__(self, value: int) -> None:
        self._value = value

    def get_value(self) -> int:
        return self._value

    _get_value = get_value

    @property
    def _semlock(self) -> _Count:
        return self


def _rebuild(spot: Any, lock: Any) -> Condition:
    condition = Condition.__new__(Condition)
    if isinstance(spot, SharedBlock):
        condition._bind_to(spot, lock)
    else:
        condition._bind_to_standard(spot)
    return condition


register_transfer(_core.Condition)
_standard.hide(Condition, "its words lie in shared memory, without semaphores")
