"""`MapResult`: the result of many calls, submitted in chunks."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.pool._results import (
    DEFAULT_GRACE_S,
    INTERRUPT_GRACE_S,
    AsyncResult,
    R,
    check_grace,
)
from garrison.pool._stdlib_names import StandardMapResult, hide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.pool._backend import Backend, TaskHandle
    from garrison.pool._facts import Facts
    from garrison.pool._progress import Bar

__all__ = ["Chunk", "MapResult"]

Chunk = tuple["TaskHandle", int, int]
"""A task, the number of its items, the bytes of their arguments."""


class _ChunkResult(AsyncResult["list[Any]"]):
    """The future results of a map's chunk, and their place."""

    __slots__ = ("has_handles", "items", "size", "start")

    has_handles: bool
    """Whether its arguments are, or have, shared objects: a worker takes over what they keep."""

    def __init__(self, backend: Backend, start: int, chunk: Chunk) -> None:
        self._pool, self._outcome = None, None
        self._backend = backend
        self._task, self.items, self.size = chunk
        self.start = start

    def _failed(self, error: BaseException, facts: Facts | None = None) -> tuple[bool, Any]:
        if facts is not None:
            facts.add_note(error, None if facts.index is None else self.start + facts.index)
        return False, error


class MapResult(AsyncResult["list[R]"], StandardMapResult[R]):
    """The future result of `Pool.map_async` and `Pool.starmap_async`: a list.

    Chunks are submitted as long as few bytes are in flight; the rest follow as results come. A
    chunk is in flight until its results are in their place: an interrupt loses and doubles none.
    """

    __slots__ = (
        "_bar",
        "_begun_after",
        "_bytes_in_flight",
        "_chunks",
        "_chunksize",
        "_error",
        "_in_flight",
        "_items",
        "_items_submitted",
        "_lock",
        "_seen_failures",
        "_stops",
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
        self._stops = False
        self._seen_failures = self._begun_after = 0
        self._in_flight: deque[_ChunkResult] = deque()

    def begin(self, *, stops: bool = False) -> None:
        """Submit the first chunks. After an interrupt in the middle nobody has this result.

        If it `stops`, the first failure withdraws the chunks that no worker has begun.
        """
        self._stops, self._seen_failures = stops, self._backend.failures
        self._begun_after = self._backend.latest
        try:
            self._submit_chunks()
        except BaseException:
            self.withdraw()
            raise

    def _submit_chunks(self) -> None:
        """Submit chunks up to the limits; a failure to send one is an error of the result."""
        least = 2 * self._backend.parallelism
        while self._submitting and len(self._in_flight) < self.MAX_CHUNKS_IN_FLIGHT:
            if self._bytes_in_flight >= self.MAX_BYTES_IN_FLIGHT and len(self._in_flight) >= least:
                return
            handles_before = self._backend.handles_sent
            try:
                chunk = _ChunkResult(self._backend, self._items_submitted, next(self._chunks))
            except StopIteration:
                self._submitting = False
                self._chunks = iter(())  # the other one knows the pool
                return
            except Exception as error:
                # As in the standard library, the other chunks are processed all the same.
                self._error = self._error or error
                continue
            chunk.has_handles = self._backend.handles_sent != handles_before
            self._in_flight.append(chunk)
            self._items_submitted += chunk.items
            self._bytes_in_flight += chunk.size
            if self._stops and self._backend.runs_in_caller and chunk._task.failed:
                self._withdraw_after(chunk)

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
            if task is not None and not self._wait(task, deadline):
                return False
            self.collect_ready()
        return True

    def _wait(self, task: TaskHandle, deadline: float | None) -> bool:
        """Wait for a chunk's end, or longer: False at the deadline."""
        if not self._stops:
            return self._backend.wait(task, deadline)
        ended = self._backend.wait_unless_failure(task, deadline, self._seen_failures)
        failures = self._backend.failures
        if failures != self._seen_failures:
            # It may be one of another call.
            self._seen_failures = failures
            with self._lock:
                failed = next((each for each in self._in_flight if each._task.failed), None)
                if failed is not None:
                    self._withdraw_after(failed)
        return ended

    def _withdraw_after(self, failed: _ChunkResult) -> None:
        """Withdraw the chunks that no worker has begun: there is a failure already.

        Chunks begin in their order, and those before the failed one are not withdrawn. So it is the
        first failed one whose error is raised, as without this. What has handles is begun all the
        same: nobody else would let go of the memory that they keep.
        """
        self._stops = self._submitting = False
        self._chunks = iter(())
        kept: deque[_ChunkResult] = deque()
        for chunk in reversed(self._in_flight):
            stays = chunk.start <= failed.start or chunk.has_handles
            if stays or not chunk._task.withdraw():
                kept.appendleft(chunk)
        self._in_flight = kept

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
            if self._stops:
                self._withdraw_after(chunk)
        self._in_flight.popleft()
        self._bytes_in_flight -= chunk.size
        if self._bar is not None:
            self._bar.advance(chunk.items)

    def _next_task(self) -> TaskHandle | None:
        try:
            first: TaskHandle = self._in_flight[0]._task
        except IndexError:
            return None  # a look before that would be too early: other threads take chunks
        return first

    def submit_all(self) -> None:
        """Submit all of the input: the pool is being joined."""
        while self._submitting:
            task = self._next_task()  # None: another thread has just cancelled it
            if task is not None:
                self._backend.wait(task, None)
            self.collect_ready()

    def set_progress_bar(self, bar: Bar) -> None:
        """Report completed items to a progress bar."""
        self._bar = bar

    def cancel(self, *, grace: float = DEFAULT_GRACE_S) -> bool:
        """Give all results up: calls are withdrawn, or interrupted if they run.

        As for one call. True also if the engine cannot end a call that runs, but has withdrawn
        others.
        """
        grace = check_grace(grace)
        with self._lock:
            if self._outcome is None and self._give_up(grace):
                self._set_cancelled()
        return self._was_cancelled

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._was_cancelled

    def withdraw(self) -> None:
        """End all that is left of it soon: there was an interrupt, and nobody wants the result."""
        with self._lock:
            if self._outcome is None:
                self._give_up(INTERRUPT_GRACE_S)
                self._backend.cancel_latest(self._begun_after, INTERRUPT_GRACE_S)
                self._set_cancelled()

    def _set_cancelled(self) -> None:
        super()._set_cancelled()
        # The interrupt's traceback may keep this object for long.
        self._values = []
        self._in_flight.clear()

    def _give_up(self, grace: float) -> bool:
        """Submit no more, and cancel what was submitted; return whether there was any of that."""
        given_up = self._submitting
        self._submitting, self._chunks = False, iter(())
        # The last ones first: no worker begins one of them in the place of one that was ended.
        for chunk in reversed(self._in_flight):
            given_up |= self._backend.cancel(chunk._task, grace)
        if self._bar is not None:
            self._bar.close()
        return given_up

    def _resolve(self) -> tuple[bool, Any]:
        self._collect(None)
        assert self._outcome is not None  # noqa: S101 - what _collect is for
        return self._outcome


hide(MapResult)
MapResult.__module__ = "garrison.pool"
