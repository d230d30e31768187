"""`Pool.imap` and `Pool.imap_unordered`: results while the input is still being read.

::

    source ──▶ Feeder ──▶ batches under way ──▶ IMapIterator ──▶ results

An input with a length is read by the caller, in `next`: such inputs do not block. Any other (a
generator, a queue that is fed from the results) has a thread that reads it, as far as a few cells
for each worker: it may be endless, slow, or wait for what the caller does with earlier results.

With ``chunksize=1`` several small items share a cell: as many as take about `BATCH_TIME`. Each has
its own outcome, so nobody can tell.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from garrison.pool import _wire
from garrison.process._handle import SLICE

if TYPE_CHECKING:
    from garrison import _core
    from garrison.options import Options
    from garrison.pool._engine import Engine
    from garrison.pool._progress import Bar

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

T = TypeVar("T")

BATCH_TIME = 150_000
"""Nanoseconds of work that may share a cell: long against a cell's cost, short against a person's
or a core's patience at the end of the input."""
PATIENCE = 0.002
"""Seconds that items wait for company: for their neighbours in a cell, or for a full batch."""
LARGEST_BATCH = 256
SLOW = 50_000
"""Nanoseconds an item: an input slower than this is submitted item by item."""
PULL = 16
"""Items between two looks at the clock."""
AHEAD = 4
"""Cells under way for each process."""


class _Batch:
    """Items that share a cell; or, without a ticket, results that are known already."""

    __slots__ = ("items", "known", "results", "ticket")

    def __init__(
        self, items: list[Any], ticket: _core.Ticket | None, results: list[Any] | None = None
    ) -> None:
        self.items, self.ticket, self.results = items, ticket, results
        self.known = 0
        """The cell's first items, whose results were read while it was under way."""

    @property
    def ended(self) -> bool:
        return self.ticket is None or self.ticket.ended()


class _Feeder:
    """The input's side: reads it, and puts it under way.

    Only the feeder appends to `batches`, only the iterator takes from them.
    """

    def __init__(
        self,
        engine: Engine,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        options: Options,
        on_end: Callable[[], None],
    ) -> None:
        self.engine = engine
        self._function = engine.announce(function, options)
        self._source = iter(iterable)
        self.background = not isinstance(iterable, Sized)
        self._options, self._on_end = options, on_end
        self._single = chunksize == 1
        self.adaptive = self._single and engine.shares_cells
        self.size = chunksize
        self._ahead = AHEAD * engine.processes
        self.room = options.buffersize
        self.reading = True
        self.error: BaseException | None = None
        self.batches: deque[_Batch] = deque()
        self._pulled: deque[Any] = deque()
        """Read, but not under way: the source may block in the middle of a batch."""
        self._slow = False
        self._submitted = 0
        self.handed_out = 0
        self._abandoned = False
        self._changed = threading.Condition()

    def start(self) -> None:
        """Begin to read."""
        if self.background:
            thread = threading.Thread(target=self._read, name="garrison-reader", daemon=True)
            thread.start()
        else:
            self.feed()
            self.make_room()

    def _read(self) -> None:
        try:
            while self.reading and not self._abandoned:
                self.feed()
                # The consumer may wait for the first of all its tasks: this is one more.
                self.engine.nudge()
                with self._changed:
                    self._changed.wait_for(lambda: self._abandoned or self.has_room())
        except BaseException as error:
            self._end(error)

    def abandon(self) -> None:
        """Read no more: nobody wants the results, or nobody works on them."""
        self._abandoned = True
        with self._changed:
            self._changed.notify_all()

    def has_room(self) -> bool:
        """Whether more may be put under way."""
        if len(self.batches) >= self._ahead:
            return False
        return self.room is None or self._submitted - self.handed_out < self.room

    def make_room(self) -> None:
        """Go on reading after a batch was taken, as far as that keeps nobody waiting."""
        if self.background:
            with self._changed:
                self._changed.notify_all()
            return
        while self.reading and not self._slow and self.has_room():
            self.feed()

    def feed(self) -> None:
        """Read a batch and put it under way."""
        try:
            more = self._pull()
        except Exception as error:
            if not self._single:
                self._pulled.clear()
            self.flush()
            self._end(error)
            return
        self.flush()
        if not more:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self.error = error
        with self._changed:
            self.reading = False
            self._changed.notify_all()
        self._on_end()

    def _pull(self) -> bool:
        """Read until a batch is full, or the input has become slow; False if it has ended."""
        limit = 1 if self._slow and self.adaptive else self.size
        if self.room is not None:
            limit = max(1, min(limit, self.room - (self._submitted - self.handed_out)))
        start, pulled = time.perf_counter_ns(), 0
        for item in self._source:
            self._pulled.append(item)
            pulled += 1
            # The consumer may have lowered the size meanwhile: it does not wait for full batches.
            if pulled >= limit or pulled >= self.size:
                break
            if self.adaptive and not pulled % PULL and self._is_slow(start, pulled):
                break
        else:
            return False
        self._slow = self._is_slow(start, pulled)
        return True

    @staticmethod
    def _is_slow(start: int, pulled: int) -> bool:
        return time.perf_counter_ns() - start > SLOW * pulled

    def flush(self) -> None:
        """Put under way what was read."""
        with self._changed:
            items = [self._pulled.popleft() for _ in range(len(self._pulled))]
            if items and not self._abandoned:
                self._submitted += len(items)
                self.batches.extend(self.submit_or_fail(items))
                self._changed.notify_all()

    def hurry(self) -> None:
        """Let nothing wait for a full batch: the source may block in the middle of it."""
        self.size = 1
        if self.background:
            self.flush()

    def _submit(self, items: list[Any]) -> _Batch:
        """Put items into a cell."""
        kind = _wire.MAP | _wire.EACH
        ticket = self.engine.submit_known(self._function, kind, items, self._options, len(items))
        return _Batch(items, ticket)

    def submit_or_fail(self, items: list[Any]) -> list[_Batch]:
        """Put items into a cell; one that cannot be sent is that item's error, in its place."""
        try:
            return [self._submit(items)]
        except Exception as error:
            if len(items) == 1 or not self.adaptive:
                return [_Batch(items, None, [_wire.Raise(error) for _ in items])]
        return [batch for item in items for batch in self.submit_or_fail([item])]

    def wait(self, deadline: float | None) -> bool:
        """Wait until something is under way, or the input has ended; False at the deadline."""
        with self._changed:
            while self.reading and not self.batches:
                self.engine.check()
                left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True


class IMapIterator(Generic[T]):
    """Results in the order of the input."""

    def __init__(
        self,
        pool: Any,
        engine: Engine,
        function: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int,
        options: Options,
    ) -> None:
        self._pool, self._engine = pool, engine
        feeder = _Feeder(engine, function, iterable, chunksize, options, pool._close_if_fed)
        self._feeder, self._batches = feeder, feeder.batches
        self._results: deque[Any] = deque()
        self._lock = threading.RLock()
        self._bar: Bar | None = None
        self._wanted = False
        self.abandon = weakref.finalize(self, feeder.abandon)
        feeder.start()

    def __iter__(self) -> IMapIterator[T]:
        return self

    def __next__(self) -> T:
        try:
            value = self._results.popleft()
        except IndexError:
            # Waited for outside of this block: its error is nobody's context.
            pass
        else:
            return self._hand_out(value)
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """Return the next result.

        Raises
        ------
        StopIteration
            When the input is exhausted and all results were handed out.
        multiprocessing.TimeoutError
            If the next result does not arrive within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        # Before any lock: at the moment of a fork, a thread of the parent may have held it.
        self._pool._check_process()
        with self._lock:
            if not self._wanted:
                self._wanted = True
                self._pool._let_go(self)
            while not self._results:
                self._advance(deadline)
            value = self._results.popleft()
        return self._hand_out(value)

    def _hand_out(self, value: Any) -> T:
        if self._feeder.room is not None:
            with self._lock:
                self._feeder.handed_out += 1
                self._feeder.make_room()
        if self._bar is not None:
            self._bar.advance()
        kind = type(value)
        if kind is _wire.Raise:
            raise value.error
        result: T = value
        return result

    def _advance(self, deadline: float | None) -> None:
        """Do the one next thing that brings a result nearer."""
        feeder = self._feeder
        if self._read_ended():
            feeder.make_room()
        elif not feeder.reading and not self._batches:
            self._finish()
        elif not feeder.background and feeder.reading and feeder.has_room():
            feeder.feed()
        elif not self._wait_a_little(deadline):
            self._separate()
            if deadline is not None and time.monotonic() >= deadline:
                raise multiprocessing.TimeoutError

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
        error, self._feeder.error = self._feeder.error, None
        if error is not None:
            raise error
        raise StopIteration

    # --- Reading results ------------------------------------------------------------------

    def _read_ended(self) -> bool:
        """Read the next batch of results if it is there."""
        if not self._batches or not self._batches[0].ended:
            return False
        self._read(self._batches.popleft())
        return True

    def _shared(self) -> list[_Batch]:
        return [batch for batch in tuple(self._batches) if len(batch.items) > 1]

    def _wait_a_little(self, deadline: float | None) -> bool:
        """Wait for a result, or as long as nothing waits for a neighbour in vain."""
        feeder = self._feeder
        if feeder.adaptive and ((feeder.background and feeder.size > 1) or self._shared()):
            soon = time.monotonic() + PATIENCE
            deadline = soon if deadline is None else min(soon, deadline)
        return self._wait(deadline)

    def _separate(self) -> None:
        """Nothing has come for a while: from now on, nothing waits for a neighbour."""
        if not self._feeder.adaptive:
            return
        self._feeder.hurry()
        for batch in self._shared():
            place = self._batches.index(batch)
            before, after = self._take_apart(batch)
            for rest in reversed(after):
                self._batches.insert(place + 1, rest)
            if before is not None:
                self._batches.insert(place, before)

    def _take_apart(self, batch: _Batch) -> tuple[_Batch | None, list[_Batch]]:
        """Leave a batch its slow item: what is done before it, and the rest in cells of its own."""
        if batch.ticket is None or batch.ended:
            return None, []
        kept = batch.ticket.steal()
        rest, batch.items = batch.items[kept:], batch.items[:kept]
        after = [each for item in rest for each in self._feeder.submit_or_fail([item])]
        done = _wire.decode_each(batch.ticket.salvage())
        batch.known = len(done)
        done_items, batch.items = batch.items[: len(done)], batch.items[len(done) :]
        return _Batch(done_items, None, done) if done else None, after

    def _wait(self, deadline: float | None) -> bool:
        if not self._batches:
            return self._feeder.wait(deadline)
        ticket = self._batches[0].ticket
        return ticket is None or self._engine.await_(ticket, deadline)

    def _read(self, batch: _Batch) -> None:
        if batch.ticket is None:
            self._results.extend(batch.results or ())
            return
        ticket = batch.ticket
        done = ticket.salvage() if ticket.lost() else None
        success, value, duration, outcome = self._engine.outcome(ticket)
        if success:
            value = value if outcome == _wire.ITEMS else [value]
            self._results.extend(value[batch.known :][: len(batch.items)])
            if self._feeder.adaptive:
                self._adapt(duration, len(value))
        elif done is None:
            # The chunk as a whole failed, before its first item or after its last.
            self._results.extend(_wire.Raise(value) for _ in batch.items)
        else:
            self._mourn(batch, _wire.decode_each(done), value)

    def _mourn(self, batch: _Batch, done: list[Any], error: BaseException) -> None:
        """One item has cost its worker's life: those before it are done, the others go again."""
        done = done[batch.known :][: len(batch.items)]
        known = [*done, _wire.Raise(error)][: len(batch.items)]
        parts = [_Batch(batch.items[: len(known)], None, known)]
        if batch.items[len(known) :]:
            parts += self._feeder.submit_or_fail(batch.items[len(known) :])
        self._batches.extendleft(reversed(parts))
        if self._feeder.adaptive:
            self._feeder.size = 1

    def _adapt(self, duration: int, items: int) -> None:
        """Let as many items share a cell as take about `BATCH_TIME`, growing step by step."""
        each = max(1, duration // max(1, items))
        wanted = max(1, min(BATCH_TIME // each, LARGEST_BATCH))
        self._feeder.size = min(wanted, 2 * self._feeder.size)

    # --- For the pool ---------------------------------------------------------------------

    @property
    def finite(self) -> bool:
        """Whether the input is known to end: then all of it is worked on, whoever looks on."""
        return not self._feeder.background

    @property
    def fed(self) -> bool:
        """Whether all of the input has been submitted."""
        return not self._feeder.reading

    def pump(self) -> None:
        """Read all of the input and keep the results: the pool is being joined."""
        feeder = self._feeder
        with self._lock:
            feeder.room = None
            feeder.make_room()
            while feeder.reading:
                if self._read_ended():
                    feeder.make_room()
                elif not feeder.background and feeder.has_room():
                    feeder.feed()
                elif not self._wait_a_little(time.monotonic() + SLICE):
                    self._separate()

    def show(self, bar: Bar) -> None:
        """Report results that were handed out to a progress bar."""
        self._bar = bar
        # An iterator that is left in the middle must give the terminal back.
        weakref.finalize(self, bar.close)


class IMapUnorderedIterator(IMapIterator[T]):
    """Results in the order in which they arrive."""

    def _first_ended(self) -> int | None:
        for index, batch in enumerate(tuple(self._batches)):
            if batch.ended:
                return index
        return None

    def _read_ended(self) -> bool:
        index = self._first_ended()
        if index is None:
            return False
        batch = self._batches[index]
        del self._batches[index]
        self._read(batch)
        return True

    def _wait(self, deadline: float | None) -> bool:
        nudges = self._engine.nudges
        tickets = [batch.ticket for batch in tuple(self._batches) if batch.ticket is not None]
        if not tickets:
            return self._feeder.wait(deadline)
        return self._engine.await_any(tickets, deadline, nudges)
