"""Results with callbacks, and the thread of a pool that calls them.

The thread starts with the first callback. It also submits the rest of a `map_async` that has more
chunks than may be in flight.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import operator
import os
import sys
import threading
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.pool._monitor import Monitor
from garrison.pool._results import AsyncResult, R
from garrison.pool._stdlib_names import StandardMapResult, hide
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.pool._backend import Backend, TaskHandle

    Callback = Callable[[Any], object] | None

__all__ = ["CallbackMapResult", "CallbackResult", "CallbackThread"]

MAX_WATCHED = 512
"""Results waited for at the same time: tasks start in order, so the first ones end first."""


class CallbackResult(AsyncResult[R]):
    """A result with callbacks: it is ready once its callbacks were called."""

    __slots__ = ("_callback", "_changed", "_done", "_error_callback", "_inner", "_lost", "_thread")

    def __init__(
        self,
        inner: AsyncResult[R],
        callbacks: CallbackThread,
        callback: Callback,
        error_callback: Callback,
    ) -> None:
        self._pool, self._backend = inner._pool, inner._backend
        self._inner = inner
        self._task = self._outcome = None
        self._callback, self._error_callback = callback, error_callback
        self._changed, self._done = callbacks.changed, False
        self._lost = False
        self._thread: int | None = None
        callbacks.watch(self)

    @property
    def inner(self) -> AsyncResult[R]:
        """The result itself."""
        return self._inner

    def run_callbacks(self) -> None:
        """Call the callbacks, in their thread, which reports their exceptions."""
        self._thread = threading.get_ident()
        self._outcome = outcome = self._inner._resolve()
        callback = self._callback if outcome[0] else self._error_callback
        self._callback = self._error_callback = None
        try:
            if callback is not None:
                callback(outcome[1])
        finally:
            self._pool = None
            self._finish()

    def _poll(self) -> bool:
        over = self._inner._poll()
        if over:
            self.run_callbacks()
        return over

    def _next_task(self) -> TaskHandle | None:
        return self._inner._next_task()

    def set_error(self, error: BaseException) -> None:
        """Set the error of a call without a result: waits end, and `get` raises it."""
        self._outcome, self._lost = (False, error), True
        self._finish()

    def _finish(self) -> None:
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def ready(self) -> bool:
        """Whether the call has completed and was called back."""
        return not self._lost and self._is_over()

    def _is_over(self) -> bool:
        return self._done or self._thread == threading.get_ident()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the callbacks, or until they will never be called, at most `timeout` seconds."""
        if not self._is_over():
            with self._changed:
                self._changed.wait_for(lambda: self._done, timeout)

    def get(self, timeout: float | None = None) -> R:
        """Return the result after the callbacks, or raise the exception of the call."""
        self.wait(timeout)
        if not self._is_over():
            raise multiprocessing.TimeoutError
        success, value = self._resolve()
        if success:
            result: R = value
            return result
        try:
            raise value
        finally:
            del value, self

    def _resolve(self) -> tuple[bool, Any]:
        assert self._outcome is not None  # noqa: S101 - the caller has waited
        return self._outcome


class CallbackMapResult(CallbackResult["list[R]"], StandardMapResult[R]):
    """A `CallbackResult` of many calls."""

    __slots__ = ()

    @property
    def _number_left(self) -> int:
        inner: Any = self._inner
        return int(inner._number_left)

    @property
    def _chunksize(self) -> int:
        inner: Any = self._inner
        return int(inner._chunksize)


hide(CallbackResult, CallbackMapResult)


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
                    self._backend.wait_any_for(tasks, LIVENESS_CHECK_INTERVAL_S)
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
            if isinstance(result, CallbackResult):
                result.set_error(error)
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
            if not isinstance(result, CallbackResult):
                continue
            if result.inner.ready():
                self._poll(result)
            else:
                result.set_error(error)


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
