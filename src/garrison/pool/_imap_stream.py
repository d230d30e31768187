"""A running `imap`: submits batches, takes their results, and hands them out.

::

    source ──▶ InputReader ──▶ batches ──▶ ResultStream ──▶ IMapIterator ──▶ results
                                                ▲
                                  Advancer, without a reader

The iterator's consumer advances the stream, in `next`. While there is no consumer, or it waits for
one result, the pool's `Advancer` does: it takes the results of ended tasks, and submits more.

A batch stays in the list of batches until its last result is handed out. Each change of the list is
one store: after any exception (Ctrl-C, code of the user during decoding) the next call continues.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import weakref
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _imap_batch
from garrison.pool._imap_batch import Batch, CellOutcome
from garrison.pool._imap_reader import InputReader, number
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.options import Options
    from garrison.pool._backend import TaskHandle
    from garrison.pool._pool import BasePool

__all__ = ["NOTHING", "ResultStream"]

BATCH_TIME_NS = 150_000
"""Work that may share a cell: long against the cost of a cell, short enough that at the end of the
input no worker is idle while another has several items left."""
MAX_STRETCH = 8
"""Times `BATCH_TIME_NS` that a cell may take while the parent has more to do than the workers."""
BATCH_WAIT_S = 0.002
"""Seconds that items wait for others in their cell, or for a full batch."""
MAX_BATCH_ITEMS = 256
BATCHES_AT_ONCE = 64
"""Batches that are read in a row under the lock."""
NOTHING: Any = object()


class ResultStream:
    """Results in the order of the input."""

    def __init__(
        self,
        pool: BasePool,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        options: Options,
    ) -> None:
        self._backend = backend = pool._backend
        self.reader: InputReader = InputReader(
            backend,
            function,
            iterable,
            chunksize,
            options,
            pool._close_when_submitted,
            self._deque_for_ended(),
        )
        self._batches = self.reader.batches
        self._on_progress = weakref.WeakMethod(pool._on_reader_progress)
        self._lock = threading.RLock()
        self._taken_order = 0
        self._taken_in_a_row = 0
        """Cells whose results were there when the consumer asked for them."""
        self._stretch = 1
        self._dropped = False
        self._current: Batch | None = None
        self.results: deque[Any] = deque()
        """The results of `_current`, the batch that is being handed out."""
        self._waiting: list[None] = []
        """An entry for each thread that waits for one of the tasks to end."""
        self.calls: int = 0
        """How often a consumer found no result in `results`."""

    @staticmethod
    def _deque_for_ended() -> deque[Batch]:
        # Nothing is kept of it: the next batch is the first one.
        return deque(maxlen=0)

    # --- For the consumer -----------------------------------------------------------------

    def next(self, deadline: float | None) -> Any:
        """Wait for the next result (or `ItemError`); TimeoutError at the deadline."""
        self.calls += 1
        while True:
            self._acquire(deadline)
            try:
                value = self._next_there()
            finally:
                self._lock.release()
            if value is not NOTHING:
                return value
            self._has_waited()
            self._wait_or_split(deadline, self._is_there)
            if deadline is not None and time.monotonic() >= deadline and not self._is_there():
                raise multiprocessing.TimeoutError

    def _acquire(self, deadline: float | None) -> None:
        left = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=left):
            raise multiprocessing.TimeoutError

    def _next_there(self) -> Any:
        """Take the next result, or `NOTHING` if it must be waited for."""
        reader = self.reader
        while True:
            if self.results:
                try:
                    return self.results.popleft()
                except IndexError:
                    continue  # another thread has taken the last one, without the lock
            batch = self._current
            if batch is not None:
                self._go_on_with(batch)
            elif (batch := self._first_ended()) is not None:
                has_taken = reader.has_taken
                if batch.entries is None:
                    self._take(batch)
                else:
                    batch.task = None  # an interrupt may have come before that
                self._current = batch
                # After an interrupt before this, it is found as one that was taken.
                reader.has_taken = has_taken
            elif reader.exhausted and not self._batches:
                self._finish()
            elif reader.may_read_here():
                reader.read_ahead()
            else:
                return NOTHING

    def _go_on_with(self, batch: Batch) -> None:
        """Decode the next results of the current batch; drop it after the last."""
        if batch.has_more:
            self.results = batch.results(self._backend)
            return
        try:  # noqa: SIM105 - a context manager takes longer than this
            self._batches.remove(batch)
        except ValueError:
            pass  # an interrupt came after that, or others have taken its place
        self._current = None
        self.reader.resume_reading()

    def drop_read(self) -> None:
        """Drop the current batch as soon as its last result was handed out."""
        with self._lock:
            if self._current is not None and not self._current.left:
                self._go_on_with(self._current)

    def _finish(self) -> None:
        error, self.reader.error = self.reader.error, None
        if error is not None:
            raise error
        raise StopIteration

    def _first_ended(self) -> Batch | None:
        """The batch to hand out next, if it has ended."""
        return self._batches[0] if self._batches and self._batches[0].ended else None

    def _is_there(self) -> bool:
        return bool(self.results) or self._first_ended() is not None

    # --- Results out of their cells -------------------------------------------------------

    def _take(self, batch: Batch) -> None:
        """Take the results of a cell; items without an outcome are submitted again.

        After an interrupt the next call goes on: the batch has what it needs.
        """
        reader = self.reader
        if not self._has_brought(batch):
            return
        results, raw, size, duration = batch.brought
        if batch.loss is not None:
            entries, done = self._entries_of_lost(batch, *batch.loss)
        else:
            if reader.adaptive:
                self._adapt(duration // len(results or (None,)))
            entries, done = _entries_of(batch, results)
        if done > len(entries):
            entries = entries + [CellOutcome(raw)] * (done - len(entries))
        self._taken_order += 1
        reader.has_taken = True
        shared, size = len(batch.items), size if reader.bounded else 0
        if done < shared:
            first = Batch([], done)
            first.close(entries, size, self._taken_order)
            self._replace(batch, [first, *reader.submit_again(batch, done)])
        else:
            batch.close(entries, size, self._taken_order)
        if shared and (on_progress := self._on_progress()) is not None:
            on_progress()
        if self._waiting:
            self._backend.interrupt_waits()

    def _has_brought(self, batch: Batch) -> bool:
        """Take what a cell has, once; False if other batches have taken the place of this one."""
        reader, task = self.reader, batch.task
        if batch.replacement is not None:
            self._replace(batch, batch.replacement)
            return False
        if batch.brought is None:
            if task.lost():
                finished = self._backend.finished_items(task)
                batch.loss = finished, self._backend.failed_item(task)
            if batch.whole:
                batch.was_loaded = self._backend.has_begun(task)
            try:
                task.take_items_into(batch)
            except RuntimeError:
                if reader.is_withdrawn:
                    batch.discard()
                    return False
                # It was withdrawn, and an interrupt came before its items were submitted again.
                self._replace(batch, reader.submit_again(batch, 0))
                return False
        if not batch.was_loaded:
            self._replace(batch, reader.submit_one_by_one(batch))
            return False
        return True

    def _entries_of_lost(
        self, batch: Batch, finished: list[Any], failed: int
    ) -> tuple[list[Any], int]:
        """As `_entries_of`, of a task whose worker ended."""
        entries = finished[batch.skipped :][: batch.count]
        # A death between two items is charged to none of them: all others are submitted again.
        charged = len(finished) <= failed or not batch.items
        if self.reader.adaptive:
            self.reader.size = 1
        return entries, min(batch.count, len(entries) + charged)

    def _adapt(self, each_ns: int) -> None:
        """Adjust the batch size towards `BATCH_TIME_NS` per cell, growing step by step.

        The parent's work is the same for each cell. A consumer that finds results whenever it asks
        is what the workers wait for: its cells take longer. They are small again at the end of the
        input, where a worker would be idle while another has several items left.
        """
        reader = self.reader
        self._taken_in_a_row += 1
        if self._taken_in_a_row > reader.ahead:
            self._taken_in_a_row, self._stretch = 0, min(2 * self._stretch, MAX_STRETCH)
        each_ns = each_ns or 1
        reader.last_size = max(1, min(BATCH_TIME_NS // each_ns, MAX_BATCH_ITEMS))
        size = max(1, min(self._stretch * BATCH_TIME_NS // each_ns, MAX_BATCH_ITEMS))
        before = reader.buffer.size
        if size != before:
            reader.buffer.size = min(size, 2 * before)

    def _has_waited(self) -> None:
        """The consumer has found no result: the workers are what it waits for."""
        self._taken_in_a_row, self._stretch = 0, max(1, self._stretch // 2)

    def _merge(self, batch: Batch) -> None:
        """Join results with those before them, so that the list of batches stays short."""
        before = self._before(batch)
        if before is None or before is self._current or not before.untouched:
            return
        if before.count + batch.count <= _imap_batch.MAX_RESULTS:
            places = (self._batches.index(before), self._batches.index(batch))
            first, last = min(places), max(places)
            between = self._batches[first + 1 : last]
            self._batches[first : last + 1] = [Batch.joined(before, batch), *between]
            before.discard()
            batch.discard()

    def _before(self, batch: Batch) -> Batch | None:
        """The taken batch whose results come directly before this one's."""
        place = self._batches.index(batch)
        before = self._batches[place - 1] if place else None
        return before if before is not None and before.taken else None

    # --- Waiting --------------------------------------------------------------------------

    def _shared_batches(self) -> list[Batch]:
        return [batch for batch in tuple(self._batches) if len(batch.items) > 1 and not batch.ended]

    def _has_shared_batches(self) -> bool:
        reader = self.reader
        if reader.has_shared:
            reader.has_shared = False  # before the look: another thread may submit meanwhile
            reader.has_shared = bool(self._shared_batches()) or reader.has_shared
        return reader.has_shared

    @property
    def delays_results(self) -> bool:
        """Whether items wait for others, in a cell or for a full batch."""
        return self.reader.adaptive and (
            self.reader.has_unsubmitted or bool(self._shared_batches())
        )

    def _wait_or_split(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Wait for a result; if none comes soon, split the batches."""
        reader = self.reader
        if not reader.adaptive:
            self._wait(deadline, enough)
            return
        soon = deadline
        if (reader.in_thread and reader.size > 1) or self._has_shared_batches():
            soon = time.monotonic() + BATCH_WAIT_S
            soon = soon if deadline is None else min(soon, deadline)
        if not self._wait(soon, enough):
            self.split_batches()

    def split_batches(self) -> None:
        """Give each item a cell of its own, so that none waits for others."""
        with self._lock:
            self.reader.flush_now()
            for batch in self._ended():
                self._take(batch)
            shared = self._shared_batches()
            # First the batches that no worker has begun, to keep the order of the input.
            withdrawn = [batch for batch in shared if batch.task.withdraw()]
            for batch in shared:
                if batch in withdrawn:
                    self._replace(batch, self.reader.submit_singly(batch.items))
                elif not batch.task.ended():
                    self._replace(batch, self._split(batch))

    def _replace(self, batch: Batch, pieces: list[Batch]) -> None:
        batch.replacement = pieces
        number(pieces, batch.origins[0][1])
        if batch in self._batches:
            place = self._batches.index(batch)
            self.reader.place(place, place + 1, pieces)
        else:
            self.reader.forget_loose()
        batch.discard()

    def _split(self, batch: Batch) -> list[Batch]:
        """Split a batch at its running item: results before it, separate cells after it."""
        task = batch.task
        # The results so far. Items without an outcome at the end are submitted again.
        kept = self._backend.recall_items(task) - batch.skipped
        done = self._backend.finished_items(task)[batch.skipped :][:kept]
        running = Batch(batch.items[len(done) : kept], kept - len(done), task)
        running.skipped = batch.skipped + len(done)
        pieces = [running, *self.reader.submit_singly(batch.items[kept:])]
        if done:
            self._taken_order += 1
            before = Batch([], len(done))
            before.close(done, 0, self._taken_order)
            pieces.insert(0, before)
        return pieces

    def _wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        batch = self._first_untaken()
        task = None if batch is None else batch.task
        if task is None:
            return batch is not None or self.reader.wait(deadline, enough)
        return self._backend.wait(task, deadline)

    def _first_untaken(self) -> Batch | None:
        for batch in tuple(self._batches):
            if not batch.taken:
                return batch
        return None

    # --- Without a consumer ---------------------------------------------------------------

    @property
    def is_fully_submitted(self) -> bool:
        """Whether nothing will be submitted any more."""
        return not self.reader.reading and all(batch.is_final for batch in tuple(self._batches))

    @property
    def mark(self) -> tuple[int, int]:
        """Numbers that change while a consumer reads."""
        return self.calls, len(self.results)

    def arrived(self) -> int:
        """Return the number of results so far, read or unread."""
        with self._lock:
            return self.reader.arrived()

    def tasks(self) -> list[TaskHandle]:
        """Return the tasks whose results are not taken."""
        return [task for batch in tuple(self._batches) if (task := batch.task) is not None]

    def advance(self) -> bool:
        """Take ended results and submit more, without waiting; return whether anything was done."""
        done = False
        with self._lock:
            for batch in self._ended():
                self._take(batch)
                if batch.count:  # else others have taken its place
                    self._merge(batch)
                done = True
            if self._dropped:
                # They are not wanted any more.
                for batch in [batch for batch in tuple(self._batches) if batch.taken]:
                    self._batches.remove(batch)
            for _ in range(BATCHES_AT_ONCE):
                if not self.reader.may_read_here():
                    break
                self.reader.read_ahead()
                done = True
        if self.reader.in_thread and done:
            self.reader.resume_reading()
        return done

    def _ended(self) -> list[Batch]:
        """Batches to take, in the order of their ends."""
        ended = [batch for batch in tuple(self._batches) if not batch.taken and batch.ended]
        return sorted(ended, key=_ended_at)

    def submit_all(self) -> None:
        """Read all of the input and keep the results: the pool is being joined."""
        self.reader.lift_limits()
        while True:
            while self.advance():
                pass
            if not self.reader.reading and self._first_untaken() is None:
                return
            # Results that are there are the consumer's: they are not enough here.
            self._wait_or_split(time.monotonic() + LIVENESS_CHECK_INTERVAL_S, lambda: False)

    def drop(self) -> None:
        """Hand out no more results. A finite input, or one never read, is processed anyway."""
        self._dropped = True
        if self.reader.bounded and self.calls:
            self.reader.cancel()
        else:
            self.reader.lift_limits()

    def close(self, grace: float, error: BaseException | None = None) -> None:
        """Withdraw what is left: no result comes any more, but this error if there is one."""
        if self.reader.exhausted and not self._batches:
            return
        self.reader.withdraw(error)
        with self._lock:
            # The last ones first: no worker begins one of them in the place of one that was ended.
            for batch in reversed(self._batches):
                if batch.task is not None:
                    self._backend.cancel(batch.task, grace)
            self.reader.cancel_loose(grace)
            for batch in self._batches:
                batch.discard()
            self._batches.clear()
            self.reader.forget_ended()
            self.results, self._current = deque(), None
        # Others may wait for a result, and the pool for the end of the input.
        self._backend.interrupt_waits()
        if (on_progress := self._on_progress()) is not None:
            on_progress()

    def cancel(self) -> None:
        """Stop reading the input: the pool has ended."""
        self.reader.cancel()


def _entries_of(batch: Batch, results: list[Any] | None) -> tuple[list[Any], int]:
    """Return the items' outcomes, and the number of items with one."""
    if results is None:
        return [], batch.count
    if batch.skipped or len(results) > batch.count:
        results = results[batch.skipped :][: batch.count]
    return results, len(results)


def _ended_at(batch: Batch) -> int:
    task: TaskHandle = batch.task
    return task.ended_at
