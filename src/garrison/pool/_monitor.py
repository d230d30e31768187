"""A lock with a condition that Ctrl-C never leaves locked.

`threading.Condition` and `threading.Event` enter and leave their lock in methods of Python. An
interrupt there, after the lock was taken or before it is given back, leaves it locked for ever, and
the next thread that needs it stays: a pool could not be terminated. The methods of `_thread.RLock`
are those of C, where no interrupt is raised.
"""

from __future__ import annotations

import threading
import time
from _thread import RLock

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Monitor"]


class Monitor(RLock):  # type: ignore[misc] # final for typeshed only
    """A reentrant lock; its holder may wait for another thread's change.

    It is reentrant because a signal handler may call the pool within another call of its thread.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for `notify_all`; False after `timeout` seconds. The lock is free meanwhile."""
        try:
            return self._condition.wait(timeout)
        except BaseException:
            # The caller's `with` gives back what an interrupt may have left free.
            if not self._condition._is_owned():  # type: ignore[attr-defined]
                self.acquire()
            raise

    def wait_for(self, reached: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until `reached` returns something true; False after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        while not reached():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            self.wait(left)
        return True

    def notify_all(self) -> None:
        """Wake every thread that waits."""
        if self._condition._waiters:  # type: ignore[attr-defined]
            self._condition.notify_all()

    def reset(self) -> None:
        """In a forked child, whose thread is the only one: nothing holds the lock or waits."""
        self._condition._at_fork_reinit()  # type: ignore[attr-defined]
