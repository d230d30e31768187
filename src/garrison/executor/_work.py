"""The pool of an executor, with the calls in it, and what becomes of both at the end.

It outlives its executor: calls that were submitted are run to their end, even if nobody has a
reference to the executor any more, and at the end of the program too.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from multiprocessing import util

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError, PoolBroken, PoolClosed, PoolTerminated
from garrison.executor._future import Future, withdraw
from garrison.executor._watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.pool import AsyncResult, Pool

__all__ = ["Work", "is_exiting"]

SLACK = 16
"""Ended calls that may be listed: each keeps what was never read of its result."""
EXIT_PRIORITY = 20
"""Before that of pools, which end at once what runs."""

_unfinished: set[Work] = set()
"""What the end of the program waits for."""
_exiting = False


class Work:
    """Calls in a pool."""

    def __init__(self, pool: Pool, *, cancel_running: bool) -> None:
        self.pool: Pool = pool
        self.cancel_running: bool = cancel_running
        self.backend: Any = pool._backend
        self.broken: BaseException | None = None
        """Why no call will run any more."""
        self.closed: bool = False
        """Whether it takes no more calls: it is broken, was shut down, or the program ends."""
        self._calls: deque[AsyncResult[Any]] = deque()
        """All that may not have begun, and some that have ended."""
        self._most = SLACK
        self._watcher: Watcher | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        _forget_finished()
        _unfinished.add(self)
        # For processes of multiprocessing, which end pools before the interpreter ends its threads.
        self._at_exit = util.Finalize(None, self.finish, exitpriority=EXIT_PRIORITY)

    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """Submit a call.

        Raises
        ------
        PoolClosed
            If it was closed.
        """
        call = self.pool.apply_async(fn, args, kwargs)
        calls = self._calls
        if len(calls) >= self._most:
            self._forget_ended()
        calls.append(call)
        return Future(self, call)

    def _forget_ended(self) -> None:
        # In steps that no other thread can come between: each takes one call, or puts one back.
        calls = self._calls
        with contextlib.suppress(IndexError):
            for _ in range(len(calls)):
                call = calls.popleft()
                if call._outcome is None and not call._task.ended():
                    calls.append(call)
        self._most = 4 * len(calls) + SLACK

    def cancel_all(self) -> None:
        """Withdraw every call that has not begun."""
        for call in tuple(self._calls):
            withdraw(call)
        self.notice_withdrawn()

    def give_up(self) -> None:
        """Have no call tried again: the workers are to be ended."""
        for call in tuple(self._calls):
            error = PoolTerminated("the workers were ended before this call was over")
            withdraw(call, running=True, outcome=(False, error))
        self.notice_withdrawn()

    def notice_withdrawn(self) -> None:
        """Have the thread look for futures whose calls were withdrawn."""
        if self._watcher is not None:
            self._watcher.notice_withdrawn()

    def check_process(self) -> None:
        """Raise in a forked child, where no thread ends futures."""
        if self._pid != os.getpid():
            self.pool._check_process()

    def note(self, error: BaseException) -> None:
        """Remember an error after which no call can run."""
        if isinstance(error, PoolBroken):
            self.broken, self.closed = error, True

    def watcher(self) -> Watcher:
        """Return the thread that ends watched futures; it starts now if need be."""
        if self._watcher is None:
            self.check_process()
            with self._lock:
                if self._watcher is None:
                    self._watcher = Watcher(self)
        return self._watcher

    # --- The end --------------------------------------------------------------------------

    def is_calling_back(self) -> bool:
        """Whether its thread has futures to end: callbacks may wait for anything."""
        return self._watcher is not None and self._watcher.busy

    def close(self) -> None:
        """Take no more calls; the workers end after the last one."""
        self.closed = True
        if self._pid == os.getpid():
            with contextlib.suppress(PoolClosed):
                self.pool.close()

    def finish(self) -> None:
        """Wait for all calls, callbacks and workers."""
        if self._pid != os.getpid():
            return
        self.close()
        with contextlib.suppress(GarrisonError):
            self.pool.join()
        if self._watcher is not None:
            self._watcher.stop()
        self._forget()

    def _forget(self) -> None:
        _unfinished.discard(self)
        self._at_exit.cancel()


def is_exiting() -> bool:
    """Whether the interpreter is at its end."""
    return _exiting


def _forget_finished() -> None:
    """Free what executors have left that nobody refers to."""
    for work in tuple(_unfinished):
        if work.closed and work.backend.join(0.0) and not work.is_calling_back():
            work.finish()


def _finish_all() -> None:
    global _exiting  # noqa: PLW0603 - as the standard library knows it
    _exiting = True
    for work in tuple(_unfinished):
        work.finish()


# As the standard library's executors: before the interpreter waits for threads, while all works.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_unfinished.clear)
