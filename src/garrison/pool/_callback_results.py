"""Results with callbacks: of one call, and of many."""

from __future__ import annotations

import multiprocessing
import threading

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolBroken
from garrison.pool._results import DEFAULT_GRACE_S, AsyncResult, R
from garrison.pool._stdlib_names import StandardMapResult, hide

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.pool._backend import TaskHandle
    from garrison.pool._callbacks import CallbackThread

    Callback = Callable[[Any], object] | None

__all__ = ["CallbackMapResult", "CallbackResult"]


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

    def _has_outcome(self) -> bool:
        return self._inner.ready()

    def _fail(self, error: BaseException) -> None:
        """Set the error of a call without a result: waits end, and `get` raises it.

        Of a pool that broke, the `error_callback` is told: who relies on it would wait for ever. At
        the end of a pool it is not, as in the standard library.
        """
        self._outcome, self._lost = (False, error), True
        callback, self._callback, self._error_callback = self._error_callback, None, None
        try:
            if callback is not None and isinstance(error, PoolBroken):
                callback(error)
        finally:
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

    def cancel(self, *, grace: float = DEFAULT_GRACE_S) -> bool:
        """Give the result up; the `error_callback` is called with `garrison.TaskCancelled`."""
        return self._inner.cancel(grace=grace)

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._inner.cancelled()

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
        try:
            return super().get()
        finally:
            del self  # an exception's frames must not lead back to it

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
