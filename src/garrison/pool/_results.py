"""`AsyncResult`: the result of one call."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError, TaskCancelled
from garrison.pool._monitor import Monitor
from garrison.pool._stdlib_names import StandardResult, hide

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeVar

    from garrison.pool._backend import Backend, TaskHandle
    from garrison.pool._facts import Facts

    R = TypeVar("R")
else:
    R = object

__all__ = [
    "DEFAULT_GRACE_S",
    "INTERRUPT_GRACE_S",
    "ApplyResult",
    "AsyncResult",
    "R",
    "check_grace",
]

_decoded = Monitor()
"""For several threads that take the same result at once, which is rare."""
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_decoded.reset)


DEFAULT_GRACE_S = 1.0
"""Seconds that a cancelled task has to end by itself."""
INTERRUPT_GRACE_S = 0.15
"""The same after Ctrl-C: somebody sits at the prompt."""


def check_grace(grace: float) -> float:
    """Return the grace of a cancel in seconds, or raise."""
    try:
        seconds = float(grace)
    except (TypeError, ValueError):
        raise TypeError(f"grace must be a number of seconds, not {grace!r}") from None
    if not seconds >= 0:
        msg = f"grace must be at least 0 seconds, not {grace!r}"
        raise ValueError(msg)
    return seconds


class AsyncResult(StandardResult[R]):
    """The future result of `Pool.apply_async`."""

    __slots__ = ("_backend", "_outcome", "_pool", "_task")

    _task: Any
    _raw: Any = None
    """The result as it was taken, if it has to be decoded still: `_task.take_into` sets it."""
    _was_cancelled: bool = False

    def __init__(
        self,
        pool: object,
        backend: Backend,
        task: TaskHandle | None,
        outcome: tuple[bool, Any] | None = None,
    ) -> None:
        # The pool stays while somebody waits for it, and no longer.
        self._pool: object = pool
        self._backend, self._task = backend, task
        self._outcome = outcome

    def ready(self) -> bool:
        """Whether the call has completed."""
        if self._outcome is None and not self._task.ended():
            return False
        self._pool = None
        return True

    def successful(self) -> bool:
        """Whether the call completed without an exception.

        Raises
        ------
        ValueError
            If the result is not ready.
        """
        if not self.ready():
            msg = f"{self!r} not ready"
            raise ValueError(msg)
        return self._resolve()[0]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended or never will, at most `timeout` seconds."""
        if self._outcome is None:
            deadline = None if timeout is None else time.monotonic() + timeout
            # If the pool is broken, `get` says so.
            with contextlib.suppress(GarrisonError):
                self._backend.wait(self._task, deadline)
            self.ready()

    def get(self, timeout: float | None = None) -> R:
        """Return the result when it arrives, or raise what the call raised.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait; without it, as long as it takes. The task goes on after a timeout.

        Raises
        ------
        multiprocessing.TimeoutError
            If the result does not arrive within `timeout` seconds.
        garrison.WorkerDied
            If the process that ran the call went away.
        garrison.PoolTerminated
            If the pool was terminated before the task was over.
        garrison.TaskCancelled
            If it was cancelled.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(1) as pool:
        ...     pool.apply_async(abs, (-1,)).get(timeout=60)
        1
        """
        outcome = self._outcome
        if outcome is None:
            if not self._task.ended():
                deadline = None if timeout is None else time.monotonic() + timeout
                if not self._backend.wait(self._task, deadline):
                    raise multiprocessing.TimeoutError
            outcome = self._resolve()
        success, value = outcome
        if success:
            result: R = value
            return result
        try:
            raise value
        finally:
            # The exception's frames refer to this one: avoid a cycle.
            del value, self

    def cancel(self, *, grace: float = DEFAULT_GRACE_S) -> bool:
        """Give the result up: the call is withdrawn, or interrupted if it runs.

        In a call that runs `garrison.TaskInterrupt` is raised. If it has not ended `grace` seconds
        later, its worker is ended and replaced. The result does not wait for that: from now on
        `get` raises `garrison.TaskCancelled`. It is also what an `error_callback` is called with.

        Parameters
        ----------
        grace : float
            Seconds that the call has to clean up. 0: its worker is ended at once.

        Returns
        -------
        bool
            True if there will be no result. False if the call had ended, or it runs and its engine
            cannot end it (``"serial"``, ``"threads"``): then the result comes as usual.

        Examples
        --------
        >>> import time
        >>> from garrison import Pool
        >>> with Pool(1) as pool:
        ...     long, waiting = [pool.apply_async(time.sleep, (60,)) for _ in range(2)]
        ...     waiting.cancel(), long.cancel()
        ...     pool.apply(abs, (-1,))
        (True, True)
        1
        """
        grace = check_grace(grace)
        if self._outcome is None and self._raw is None:
            self._backend.cancel(self._task, grace)
        return self.cancelled()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        if self._outcome is None and self._raw is None and self._task.cancelled:
            self._set_cancelled()
        return self._was_cancelled

    def _set_cancelled(self) -> None:
        self._was_cancelled = True
        self._outcome = (False, TaskCancelled("this call was cancelled"))
        self._pool = None

    def __await__(self) -> Generator[Any, Any, R]:
        """Wait for the result in a running event loop, and return it or raise what the call raised.

        To cancel the wait does not cancel the call, as `get` with a timeout does not either.
        """
        # By its name: a layer above, of which a usual program loads nothing.
        aio: Any = importlib.import_module("garrison.aio")
        waiting: Generator[Any, Any, R] = aio.result_of(self).__await__()
        return waiting

    def _resolve(self) -> tuple[bool, Any]:
        """Decode the ended task, once."""
        if self._outcome is None:
            try:  # noqa: SIM105 - a context manager takes longer than all the rest
                self._task.take_into(self)
            except RuntimeError:
                pass  # it was taken already, or cancelled
            if self._outcome is None:
                self._decode()
            self._pool = None
        assert self._outcome is not None  # noqa: S101 - it is decoded, or that has raised
        return self._outcome

    def _resolve_gently(self) -> tuple[bool, Any]:
        """Decode the ended task, once, so that other threads run meanwhile."""
        # Late: for large results that an event loop waits for.
        from garrison.pool._gentle_decoding import resolve_gently

        return resolve_gently(self)

    def _decode(self) -> None:
        """Decode what was taken, or wait for the thread that does: code of the user runs."""
        raw = self._raw
        if raw is None:
            if not self.cancelled():
                self._wait_until_decoded()
            return
        try:
            self._raw = None
            found = self._backend.decode(raw)
            self._outcome = found[:2] if found[0] else self._failed(found[1], *found[3:])
        except BaseException:
            # An interrupt: the next call decodes it.
            self._raw = raw
            raise
        finally:
            if _waiting:
                with _decoded:
                    _decoded.notify_all()

    def _failed(self, error: BaseException, facts: Facts | None = None) -> tuple[bool, Any]:
        """Return the outcome of a failed call, of which these facts are known."""
        if facts is not None:
            facts.add_note(error, None)
        return False, error

    def _wait_until_decoded(self) -> None:
        with _decoded:
            _waiting.append(self)
            try:
                _decoded.wait_for(self._is_taken, timeout=60)
            finally:
                _waiting.remove(self)
        if self._raw is not None:
            self._decode()
        if self._outcome is None:
            msg = "this result is being decoded by the code that asks for it"
            raise RuntimeError(msg)

    def _is_taken(self) -> bool:
        return self._outcome is not None or self._raw is not None

    # --- For the thread of callbacks ------------------------------------------------------------

    def _next_task(self) -> TaskHandle | None:
        """Return the task to wait for next; None if there is something to do already."""
        task: TaskHandle | None = self._task
        return task

    def _poll(self) -> bool:
        """Do what is possible without waiting; True when the result is complete."""
        return self.ready()

    def _has_outcome(self) -> bool:
        """Whether the outcome is known, even if its callback was not called yet."""
        return self.ready()

    def _fail(self, error: BaseException) -> None:
        """Note that there will be no outcome; without a callback, each wait finds out by itself."""

    # --- Attributes of a standard result --------------------------------------------------------

    @property
    def _success(self) -> bool:
        return self.ready() and self._resolve()[0]

    @property
    def _value(self) -> Any:
        return self._resolve()[1] if self.ready() else None

    @property
    def _event(self) -> _Ready:
        return _Ready(self)

    def __repr__(self) -> str:
        state = "pending" if not self.ready() else "ready"
        return f"<{type(self).__name__} {state}>"


class _Ready:
    """The ``_event`` of a standard result."""

    def __init__(self, result: AsyncResult[Any]) -> None:
        self.is_set = result.ready
        self._wait = result.wait

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as for an event."""
        self._wait(timeout)
        return self.is_set()


_waiting: deque[AsyncResult[Any]] = deque()


hide(AsyncResult)
AsyncResult.__module__ = "garrison.pool"
ApplyResult = AsyncResult
