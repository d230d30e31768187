"""The thread of a pool that calls callbacks.

The thread starts with the first callback. It also submits the rest of a `map_async` that has more
chunks than may be in flight.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import threading
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.pool._monitor import Monitor
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from garrison.pool._backend import Backend
    from garrison.pool._results import AsyncResult

__all__ = ["CallbackThread", "CallbacksInCaller"]

MAX_WATCHED = 512
"""Results waited for at the same time: tasks start in order, so the first ones end first."""


class CallbackThread:
    """Waits for results in the background. Its thread starts with the first of them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._pending: list[AsyncResult[Any]] = []
        self._lock = threading.Lock()
        self.changed: Monitor = Monitor()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def idle(self) -> bool:
        """Whether every callback has been called."""
        return not self._pending

    def watch(self, result: AsyncResult[Any]) -> None:
        """Watch a result until it is there."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="garrison-callbacks", daemon=True)
                # It waits for the lock, then finds the result; if it cannot start, nothing is kept.
                thread.start()
                self._thread = thread
            self._pending.append(result)
        self._backend.interrupt_waits()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the thread, which ends when nothing is pending."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._thread = None
                    return
                watched = self._pending[:MAX_WATCHED]
            waiting_for = [result._next_task() for result in watched]
            tasks = [task for task in waiting_for if task is not None]
            try:
                if len(tasks) == len(watched):
                    watching = self._backend.running_tasks(tasks)
                    self._backend.wait_any_for(watching, LIVENESS_CHECK_INTERVAL_S)
            except GarrisonError as error:
                self._fail_all(error)
                continue
            for result in _in_order_of_ends(watched):
                self._poll(result)

    def _poll(self, result: AsyncResult[Any]) -> None:
        try:
            over = result._poll()
        except GarrisonError as error:
            over = True
            _lose(result, error)
        except BaseException:
            over = True
            _report_exception(sys.exc_info())
        if over:
            with self._lock, contextlib.suppress(ValueError):
                self._pending.remove(result)

    def _fail_all(self, error: GarrisonError) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
        for result in pending:
            if result._has_outcome():
                self._poll(result)
            else:
                _lose(result, error)


class CallbacksInCaller(CallbackThread):
    """Calls callbacks at once, in the thread that has submitted the task and run it."""

    def watch(self, result: AsyncResult[Any]) -> None:
        """Run what is left of a result, and its callbacks."""
        try:
            while not result._poll():
                self._backend.check()
        except GarrisonError as error:
            _lose(result, error)
        except KeyboardInterrupt:
            raise
        except BaseException:
            _report_exception(sys.exc_info())


def _lose(result: AsyncResult[Any], error: GarrisonError) -> None:
    """Fail a result that will have no outcome."""
    try:
        result._fail(error)
    except BaseException:
        _report_exception(sys.exc_info())


def _in_order_of_ends(results: list[AsyncResult[Any]]) -> list[AsyncResult[Any]]:
    """The results with something to do, in the order in which their tasks ended."""
    # A task that ends while the others are asked may be seen before one that ended earlier.
    now = time.monotonic_ns()
    tasks = ((result, result._next_task()) for result in results)
    ended = [
        (0 if task is None else task.ended_at, result)
        for result, task in tasks
        if task is None or (task.ended() and task.ended_at <= now)
    ]
    return [result for _, result in sorted(ended, key=operator.itemgetter(0))]


def _report_exception(info: tuple[object, ...]) -> None:
    kind, value, traceback = info
    args = threading.ExceptHookArgs((kind, value, traceback, threading.current_thread()))
    if kind is SystemExit:
        sys.stderr.write(f"a callback of a garrison pool called sys.exit({value}); ignored\n")
    else:
        threading.excepthook(args)
