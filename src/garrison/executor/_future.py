"""`Future`: a future of the standard library that needs no thread until somebody watches it.

::

    submit ──▶ unwatched: result() waits in the core, takes the result itself
                   │  add_done_callback, as_completed, wait, asyncio: all touch `_condition`
                   ▼
               watched: the executor's thread waits for it and does what the standard library does

The methods of the base class read `_condition` before anything else, so its first use is what
makes a future watched.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures import Future as StandardFuture
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError, ResultUnpicklable
from garrison.pool import AsyncResult

if TYPE_CHECKING:
    from typing import TypeVar

    from garrison.executor._work import Work

    T = TypeVar("T")
else:
    T = object

__all__ = ["WITHDRAWN", "Future", "withdraw"]

WITHDRAWN = (False, CancelledError())
"""The outcome of a call that was withdrawn, recognized by its identity."""
_TAKEN = (True, None)
_ENDED: AsyncResult[Any] = AsyncResult(None, None, None, _TAKEN)  # type: ignore[arg-type]
"""The call of a future that has ended: its own would keep the pool's memory."""
_OVER = (FINISHED, CANCELLED, CANCELLED_AND_NOTIFIED)
_PARTS = ("_condition", "_waiters", "_done_callbacks")

CANCEL_GRACE_S = 1.0
"""Seconds that a running call has to end by itself, if it can be cancelled."""

_changing = threading.RLock()
"""Held while a future becomes watched, or ends unwatched. Never while code of the user runs, but
for the garbage collector's, which may cancel another future: so it is taken again."""


def _new_lock() -> None:
    global _changing  # noqa: PLW0603 - another thread may have held it in the parent
    _changing = threading.RLock()


os.register_at_fork(after_in_child=_new_lock)


def withdraw(
    call: AsyncResult[Any], *, running: bool = False, outcome: tuple[bool, Any] = WITHDRAWN
) -> bool:
    """Withdraw a call that no worker has begun, or one that is `running` too; whether it was."""
    with _changing:
        if call._outcome is not None:
            return False
        backend, task = call._backend, call._task
        if not (task.withdraw() or (running and backend.cancel(task, CANCEL_GRACE_S))):
            return False
        call._outcome = outcome
        return True


class Future(StandardFuture[T]):
    """The result of `Executor.submit`, as of the standard library's executors."""

    # An instance has these once they differ: most futures are read once and dropped.
    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _watched: bool = False

    def __init__(self, work: Work, call: AsyncResult[T]) -> None:
        # The base class would make a condition, which takes longer than all the rest.
        self._work: Work | None = work
        self._call = call

    # --- The result -----------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """Return the result of the call when it is there, or raise what the call raised.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; without it, as long as it takes.

        Raises
        ------
        concurrent.futures.CancelledError
            If the call was cancelled.
        TimeoutError
            If it does not end within `timeout` seconds; it goes on.
        concurrent.futures.process.BrokenProcessPool
            If the process that ran the call went away; it is a `garrison.WorkerDied` too.
        """
        if self._state not in _OVER:
            self._wait(timeout)
        if self._state != FINISHED:
            raise CancelledError
        if self._exception is None:
            found: T = self._result
            return found
        try:
            raise self._exception
        finally:
            del self  # the exception's frames refer to this one: avoid a cycle

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; wait and raise as `result` does."""
        if self._state not in _OVER:
            self._wait(timeout)
        if self._state != FINISHED:
            raise CancelledError
        return self._exception

    def _wait(self, timeout: float | None) -> None:
        """Wait until the state is final; raise at the timeout."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._watched:
            self._wait_unwatched(deadline)
            if self._state in _OVER:
                return
        work = self._work
        if work is not None:
            work.check_process()
        with self._condition:
            if self._state not in _OVER:
                self._condition.wait(None if deadline is None else deadline - time.monotonic())
        if self._state not in _OVER:
            raise FutureTimeout

    def _wait_unwatched(self, deadline: float | None) -> None:
        call = self._call
        try:
            if (
                call._outcome is None
                and not call._task.ended()
                and not call._backend.wait(call._task, deadline)
            ):
                raise FutureTimeout
            outcome = call._resolve()
        except GarrisonError as error:
            if (work := self._work) is not None:
                work.note(error)
            outcome = False, error
        except SystemExit as error:  # raised by the unpickling of a result
            outcome = False, _unreadable(error)
        self._end_unwatched(outcome)

    def _end_unwatched(self, outcome: tuple[bool, Any]) -> None:
        """Note the outcome, unless the thread that watches the future is to do it."""
        success, value = outcome
        if not success and outcome is not WITHDRAWN:
            value = _translated(value)
        with _changing:
            if self._watched or self._state in _OVER:
                return
            if success:
                self._result = value
            else:
                self._exception = value
            self._state = CANCELLED_AND_NOTIFIED if outcome is WITHDRAWN else FINISHED
            self._let_go()

    def _let_go(self) -> None:
        """Keep the result once, and nothing of the pool."""
        self._call._outcome = _TAKEN
        self._call, self._work = _ENDED, None

    def _settle(self) -> None:
        """Note the outcome if it is there already, without waiting."""
        if not self._watched and self.done() and self._state not in _OVER:
            self._wait_unwatched(None)

    # --- Its state ------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether the call has ended or was cancelled."""
        if self._state in _OVER:
            return True
        call = self._call
        return not self._watched and (call._outcome is not None or call._task.ended())

    def running(self) -> bool:
        """Whether a worker is at work on the call."""
        call = self._call
        return self._state not in _OVER and call._outcome is None and call._task.running()

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        if self._state in _OVER:
            return self._state != FINISHED
        return self._call._outcome is WITHDRAWN and not self._watched

    def cancel(self) -> bool:
        """Cancel the call; return whether it was, or had been, cancelled.

        A call that a worker has begun is not cancelled, unless the executor was made with
        ``cancel_running=True``: then `garrison.TaskInterrupt` is raised in it, and a second later
        its worker is ended.
        """
        work = self._work
        if work is None:
            return self._state != FINISHED
        if not withdraw(self._call, running=work.cancel_running):
            return self.cancelled()
        self._end_unwatched(WITHDRAWN)
        if self._state not in _OVER:
            self._publish(WITHDRAWN)
            work.notice_withdrawn()
        return True

    def __repr__(self) -> str:
        # Not the base class's, which would have the future watched.
        self._settle()
        state = "running" if self.running() else self._state.lower().partition("_")[0]
        text = f"<{type(self).__name__} at {id(self):#x} state={state}"
        if self._state != FINISHED:
            return f"{text}>"
        if self._exception is not None:
            return f"{text} raised {type(self._exception).__name__}>"
        return f"{text} returned {type(self._result).__name__}>"

    # --- Watched --------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Make what the base class has in each future, at its first use."""
        if name not in _PARTS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._watch()
        return self.__dict__[name]

    def _watch(self) -> None:
        """Have the executor's thread wait for it, unless it is over."""
        self._settle()
        work = self._work
        watcher = None if work is None else work.watcher()
        with _changing:
            if self._watched:
                return
            self._waiters: list[Any] = []
            self._done_callbacks: list[Any] = []
            self._condition = threading.Condition()
            self._watched = True
            if watcher is not None and self._state not in _OVER:
                watcher.add(self)

    def is_withdrawn(self) -> bool:
        """Whether its call was withdrawn, even if nobody was called yet."""
        return self._call._outcome is not None or self._state in _OVER

    def end_watched(self) -> None:
        """Take the result of a task that has ended, and call who waits for it."""
        if self._state in _OVER:
            return
        try:
            outcome = self._call._resolve()
        except BaseException as error:  # raised by the unpickling of a result: the thread goes on
            outcome = False, _unreadable(error)
        self._publish(outcome)

    def fail(self, error: BaseException) -> None:
        """End it with an error: its task will never end."""
        self._publish((False, error))

    def _publish(self, outcome: tuple[bool, Any]) -> None:
        """Do what the standard library does when a future ends."""
        success, value = outcome
        try:
            if outcome is WITHDRAWN:
                if super().cancel() and self._state == CANCELLED:
                    self.set_running_or_notify_cancel()
            elif success:
                self.set_result(value)
            else:
                self.set_exception(_translated(value))
        except InvalidStateError:
            pass  # it was cancelled meanwhile
        finally:
            self._let_go()


def _unreadable(error: BaseException) -> ResultUnpicklable:
    """Return the error for a result whose unpickling left the program, as it were."""
    why = f"{type(error).__name__}: {error}"
    return ResultUnpicklable(f"the task's result cannot be rebuilt here ({why})")


def _translated(error: BaseException) -> BaseException:
    # Late: programs without an error do without the standard executor.
    from garrison.executor._errors import error_of_future

    return error_of_future(error)


Future.__module__ = "garrison.executor"
