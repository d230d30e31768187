"""The results of asynchronous methods: `AsyncResult` of one call, `MapResult` of many."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.pool._monitor import Monitor
from garrison.pool._stdlib_names import StandardMapResult, StandardResult, hide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from garrison.pool._backend import Backend, TaskHandle
    from garrison.pool._progress import Bar

    R = TypeVar("R")
else:
    R = object

__all__ = ["AsyncResult", "MapResult", "R"]

Chunk = tuple["TaskHandle", int, int]
"""A task, the number of its items, the bytes of their arguments."""

_decoded = Monitor()
"""For several threads that take the same result at once, which is rare."""
os.register_at_fork(after_in_child=_decoded.reset)


class AsyncResult(StandardResult[R]):
    """The future result of `Pool.apply_async`."""

    __slots__ = ("_backend", "_outcome", "_pool", "_task")

    _task: Any
    _raw: Any = None
    """The result as it was taken, if it has to be decoded still: `_task.take_into` sets it."""

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

    def _resolve(self) -> tuple[bool, Any]:
        """Decode the ended task, once."""
        if self._outcome is None:
            try:  # noqa: SIM105 - a context manager takes longer than all the rest
                self._task.take_into(self)
            except RuntimeError:
                pass  # it was taken already
            if self._outcome is None:
                self._decode()
            self._pool = None
        assert self._outcome is not None  # noqa: S101 - it is decoded, or that has raised
        return self._outcome

    def _decode(self) -> None:
        """Decode what was taken, or wait for the thread that does: code of the user runs."""
        raw = self._raw
        if raw is None:
            self._wait_until_decoded()
            return
        try:
            self._raw = None
            success, value, *_ = self._backend.decode(raw)
            self._outcome = success, value
        except BaseException:
            # An interrupt: the next call decodes it.
            self._raw = raw
            raise
        finally:
            if _waiting:
                with _decoded:
                    _decoded.notify_all()

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


class _ChunkResult(AsyncResult["list[Any]"]):
    """The future results of a map's chunk, and their place."""

    __slots__ = ("items", "size", "start")

    def __init__(self, backend: Backend, start: int, chunk: Chunk) -> None:
        self._pool, self._outcome = None, None
        self._backend = backend
        self._task, self.items, self.size = chunk
        self.start = start


class MapResult(AsyncResult["list[R]"], StandardMapResult[R]):
    """The future result of `Pool.map_async` and `Pool.starmap_async`: a list.

    Chunks are submitted as long as few bytes are in flight; the rest follow as results come. A
    chunk is in flight until its results are in their place: an interrupt loses and doubles none.
    """

    __slots__ = (
        "_bar",
        "_bytes_in_flight",
        "_chunks",
        "_chunksize",
        "_error",
        "_in_flight",
        "_items",
        "_items_submitted",
        "_lock",
        "_submitting",
        "_values",
    )

    MAX_BYTES_IN_FLIGHT = 256 << 20
    """The least chunks in flight, however large they are, so that no worker is idle."""
    MAX_CHUNKS_IN_FLIGHT = 1 << 16

    def __init__(
        self,
        pool: object,
        backend: Backend,
        chunks: Iterator[Chunk],
        error: BaseException | None,
        items: int,
        chunksize: int,
    ) -> None:
        self._pool, self._backend, self._task = pool, backend, None
        self._outcome = None
        self._values: list[Any] = []
        self._error = error
        """The error that `get` raises once all chunks have ended."""
        self._chunks = chunks
        self._submitting = True
        self._items, self._chunksize = items, chunksize
        self._items_submitted = self._bytes_in_flight = 0
        self._lock = threading.RLock()
        self._bar: Bar | None = None
        self._in_flight: deque[_ChunkResult] = deque()
        self._submit_chunks()

    def _submit_chunks(self) -> None:
        """Submit chunks up to the limits; a failure to send one is an error of the result."""
        least = 2 * self._backend.parallelism
        while self._submitting and len(self._in_flight) < self.MAX_CHUNKS_IN_FLIGHT:
            if self._bytes_in_flight >= self.MAX_BYTES_IN_FLIGHT and len(self._in_flight) >= least:
                return
            try:
                chunk = _ChunkResult(self._backend, self._items_submitted, next(self._chunks))
            except StopIteration:
                self._submitting = False
                return
            except Exception as error:
                # As in the standard library, the other chunks are processed all the same.
                self._error = self._error or error
                continue
            self._in_flight.append(chunk)
            self._items_submitted += chunk.items
            self._bytes_in_flight += chunk.size

    @property
    def _number_left(self) -> int:
        """The number of unfinished chunks, if all had the size `_chunksize`."""
        with self._lock:
            if self._outcome is not None:
                return 0
            running = sum(chunk.items for chunk in self._in_flight if not chunk.ready())
            left = self._items - self._items_submitted + running
        return -(-left // self._chunksize) if left else 0

    @property
    def is_fully_submitted(self) -> bool:
        """Whether all of the input has been submitted."""
        return not self._submitting

    def ready(self) -> bool:
        """Whether all calls have completed."""
        if self._outcome is not None:
            return True
        return not self._submitting and all(chunk.ready() for chunk in list(self._in_flight))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all calls have ended or never will, at most `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with contextlib.suppress(GarrisonError):
            self._collect(deadline)

    def get(self, timeout: float | None = None) -> list[R]:
        """Return the list of results once all have arrived, or raise the first error."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._collect(deadline):
            raise multiprocessing.TimeoutError
        success, value = self._resolve()
        if success:
            result: list[R] = value
            return result
        try:
            raise value
        finally:
            del value, self

    def _collect(self, deadline: float | None) -> bool:
        """Read chunk after chunk, and submit the next ones; False at the deadline."""
        while self._outcome is None:
            task = self._next_task()
            if task is not None and not self._backend.wait(task, deadline):
                return False
            self.collect_ready()
        return True

    def collect_ready(self) -> bool:
        """Read the chunks that have ended, up to the first that has not; True if that is all."""
        with self._lock:
            while self._outcome is None and self._in_flight and self._in_flight[0]._task.ended():
                self._take(self._in_flight[0])
                if self._submitting:
                    self._submit_chunks()
            if self._outcome is None and not self._in_flight and not self._submitting:
                if self._error is None and len(self._values) != self._items:
                    msg = "an interrupt has lost a part of the input; call the method again"
                    self._error = GarrisonError(msg)
                failed = self._error is not None
                self._outcome = (not failed, self._error if failed else self._values)
                self._values, self._pool = [], None
                if self._bar is not None:
                    self._bar.close()
            return self._outcome is not None

    _poll = collect_ready

    def _take(self, chunk: _ChunkResult) -> None:
        """Put the results of the first chunk in flight in their place."""
        success, value = chunk._resolve()
        if success:
            self._values[chunk.start :] = value
        elif self._error is None:
            self._error = value
        self._in_flight.popleft()
        self._bytes_in_flight -= chunk.size
        if self._bar is not None:
            self._bar.advance(chunk.items)

    def _next_task(self) -> TaskHandle | None:
        in_flight = self._in_flight
        return in_flight[0]._task if in_flight else None

    def submit_all(self) -> None:
        """Submit all of the input: the pool is being joined."""
        while self._submitting:
            self._backend.wait(self._in_flight[0]._task, None)
            self.collect_ready()

    def set_progress_bar(self, bar: Bar) -> None:
        """Report completed items to a progress bar."""
        self._bar = bar

    def cancel_unstarted(self) -> None:
        """Withdraw the chunks that no worker has begun: the result is no longer wanted."""
        self._submitting = False
        for chunk in self._in_flight:
            chunk._task.withdraw()
        if self._bar is not None:
            self._bar.close()

    def _resolve(self) -> tuple[bool, Any]:
        self._collect(None)
        assert self._outcome is not None  # noqa: S101 - what _collect is for
        return self._outcome


hide(AsyncResult, MapResult)


for _public in (AsyncResult, MapResult):
    _public.__module__ = "garrison.pool"
ApplyResult = AsyncResult
