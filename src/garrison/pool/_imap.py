"""`Pool.imap` and `Pool.imap_unordered`: results while the input is still being read.

::

    source ──▶ Feeder ──▶ batches under way ──▶ IMapIterator ──▶ results

A list and its like are read by the caller, in `next`: reading them cannot block. Any other input (a
generator, a queue that is fed from the results) has a thread that reads it, as far as a few cells
for each worker: it may be endless, slow, or wait for what the caller does with earlier results.

With ``chunksize=1`` several small items share a cell: as many as take about `BATCH_TIME`. Each is
pickled when it is read, and has its own outcome, so nobody can tell.

A batch stays in the list of batches until its last result is handed out: whatever exception flies
through here (Ctrl-C, code of the user while a result is rebuilt), the next call goes on from there.
No code of the user runs, and nobody waits, under the feeder's lock.
"""

from __future__ import annotations

import array
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from garrison.pool import _wire
from garrison.supervisor._handle import SLICE

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
LARGEST_BYTES = 64 << 10
"""Bytes of items that share a cell."""
SLOW = 50_000
"""Nanoseconds an item: an input slower than this is submitted item by item."""
PULL = 16
"""Items between two looks at the clock."""
AHEAD = 4
"""Cells under way for each process."""
_PRESENT = (list, tuple, range, str, bytes, bytearray, dict, set, frozenset, deque, array.array)
_NOTHING: Any = object()


def _is_present(iterable: Iterable[Any]) -> bool:
    """Whether reading cannot block. Having a length is no proof of that."""
    numpy = sys.modules.get("numpy")
    kind = type(iterable)
    return kind in _PRESENT or (numpy is not None and kind is numpy.ndarray)


class _Batch:
    """Items that share a cell, then their results."""

    __slots__ = ("count", "entries", "items", "known", "ticket", "values", "whole")

    def __init__(self, items: list[Any], count: int, ticket: _core.Ticket | None = None) -> None:
        self.items = items
        """What can be submitted again; nothing if the batch is one item."""
        self.count = count
        """Results that are still to come out of it."""
        self.ticket = ticket
        self.known = 0
        """Results of the cell's first items, which another batch has taken over."""
        self.entries: list[Any] | None = None
        """What was taken from the cell, item by item."""
        self.whole: Any = None
        """What was taken from the cell for all the other items: an error, or the one result."""
        self.values: deque[Any] | None = None
        """Results, rebuilt, as far as they were not handed out."""

    @property
    def ended(self) -> bool:
        return self.entries is not None or self.ticket is None or self.ticket.ended()

    @property
    def settled(self) -> bool:
        """Whether nothing of it can have to be submitted again."""
        return self.entries is not None or self.values is not None or not self.items

    @property
    def left(self) -> int:
        """Results that were not handed out."""
        return self.count if self.values is None else len(self.values)


def _failed(error: BaseException, count: int = 1) -> _Batch:
    batch = _Batch([], count)
    batch.values = deque(_wire.Raise(error) for _ in range(count))
    return batch


class _Feeder:
    """The input's side: reads it, pickles it, and puts it under way.

    Only the feeder appends to `batches`, only the iterator changes what is there.
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
        self.background = not _is_present(iterable)
        # Not the pool itself: its end is what ends the thread.
        self._options, self._on_end = options, weakref.WeakMethod(on_end)
        self._single = chunksize == 1
        self.adaptive = self._single and engine.shares_cells
        self.size = chunksize
        self._ahead = AHEAD * engine.processes
        self.room = options.buffersize
        self.unbounded = False
        """The pool is being joined: all of the input is wanted, and all results are kept."""
        self.reading = True
        self.error: BaseException | None = None
        self.batches: list[_Batch] = []
        self._pulled: deque[Any] = deque()
        """Read, but not under way: the source may block in the middle of a batch."""
        self._slow = False
        self._abandoned = False
        self._pid = os.getpid()
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
        # In a forked child there is no thread to tell, and the lock may be its parent's.
        if os.getpid() == self._pid:
            with self._changed:
                self._changed.notify_all()

    def has_room(self) -> bool:
        """Whether more may be put under way."""
        batches = tuple(self.batches)
        if self.unbounded:
            return sum(batch.values is None for batch in batches) < self._ahead
        if len(batches) >= self._ahead:
            return False
        return self.room is None or self._under_way() < self.room

    def may_feed_here(self) -> bool:
        """Whether the caller itself is to read on."""
        return not self.background and self.reading and self.has_room()

    def _under_way(self) -> int:
        return sum(batch.left for batch in tuple(self.batches)) + len(self._pulled)

    def make_room(self) -> None:
        """Go on reading after a result was handed out, as far as that keeps nobody waiting."""
        if self.background:
            with self._changed:
                self._changed.notify_all()
            return
        while not self._slow and self.may_feed_here():
            self.feed()

    # --- Reading --------------------------------------------------------------------------

    def feed(self) -> None:
        """Read a batch and put it under way."""
        try:
            more = self._pull()
        except BaseException as error:
            if not self.background and not isinstance(error, Exception):
                # Ctrl-C in the caller's own thread: the input goes on with the next call.
                raise
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
        on_end = self._on_end()
        if on_end is not None:
            on_end()

    def _pull(self) -> bool:
        """Read until a batch is full, or the input has become slow; False if it has ended."""
        limit = 1 if self._slow and self.adaptive else self.size
        if self.room is not None:
            limit = max(1, min(limit, self.room - self._under_way()))
        start, pulled, size = time.perf_counter_ns(), 0, 0
        for value in self._source:
            item = self._encode(value)
            self._pulled.append(item)
            pulled += 1
            # The consumer may have lowered the size meanwhile: it does not wait for full batches.
            if pulled >= limit or pulled >= self.size:
                break
            if not self.adaptive:
                continue
            size += _size(item)
            if size >= LARGEST_BYTES or (not pulled % PULL and self._is_slow(start, pulled)):
                break
        else:
            return False
        self._slow = self._is_slow(start, pulled)
        return True

    def _encode(self, value: Any) -> Any:
        """Fix an item: the source may change it as soon as it is asked for the next one."""
        try:
            return self.engine.encode_item(value, alone=self._single)
        except Exception as error:
            return _wire.Raise(error)

    @staticmethod
    def _is_slow(start: int, pulled: int) -> bool:
        return time.perf_counter_ns() - start > SLOW * pulled

    # --- Putting under way ----------------------------------------------------------------

    def flush(self) -> None:
        """Put under way what was read."""
        with self._changed:
            batches = self.submit([self._pulled.popleft() for _ in range(len(self._pulled))])
            self.batches += batches
            self._changed.notify_all()

    def hurry(self) -> None:
        """Let nothing wait for a full batch: the source may block in the middle of it."""
        self.size = 1
        if self.background:
            self.flush()

    def submit(self, items: list[Any]) -> list[_Batch]:
        """Put items into cells, in their order; what cannot be sent is an error in its place."""
        batches: list[_Batch] = []
        together: list[Any] = []
        for item in items:
            if type(item) is not _wire.Raise and not _has_buffers(item):
                together.append(item)
                continue
            batches += self._submit_together(together)
            together = []
            if type(item) is _wire.Raise:
                batches.append(_failed(item.error))
            else:
                batches += self._submit_together([item])
        return batches + self._submit_together(together)

    def _submit_together(self, items: list[Any]) -> list[_Batch]:
        if not items or (self.background and self._abandoned):
            return []
        try:
            ticket = self.engine.submit_items(self._function, items, self._options)
        except Exception as error:
            if len(items) == 1 or not self.adaptive:
                return [_failed(error, len(items))]
        else:
            return [_Batch(items if len(items) > 1 else [], len(items), ticket)]
        return [batch for item in items for batch in self._submit_together([item])]

    def wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        """Wait until something is under way, the input has ended, or this is enough.

        False at the deadline.
        """
        with self._changed:
            while self.reading and not self._is_under_way() and not enough():
                self.engine.check()
                left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _is_under_way(self) -> bool:
        return any(batch.values is None for batch in tuple(self.batches))


def _has_buffers(item: Any) -> bool:
    return type(item) is tuple and item[1] is not None


def _size(item: Any) -> int:
    if type(item) is tuple:
        data, buffers = item
        return LARGEST_BYTES if buffers else len(data)
    return len(item) if type(item) in (str, bytes) else 0


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
        """The results of `_current`, the batch that is being handed out."""
        self._current: _Batch | None = None
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
        if not self._wanted:
            self._wanted = True
            self._pool._let_go(self)
        while True:
            self._acquire(deadline)
            try:
                value = self._next_there()
            finally:
                self._lock.release()
            if value is not _NOTHING:
                return self._hand_out(value)
            self._wait_or_separate(deadline, self._is_there)
            if deadline is not None and time.monotonic() >= deadline and not self._is_there():
                raise multiprocessing.TimeoutError

    def _acquire(self, deadline: float | None) -> None:
        left = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=left):
            raise multiprocessing.TimeoutError

    def _hand_out(self, value: Any) -> T:
        if self._feeder.room is not None and not self._results:
            with self._lock:
                self._drop_current()
        if self._bar is not None:
            self._bar.advance()
        if type(value) is _wire.Raise:
            raise value.error
        result: T = value
        return result

    # --- Results that are there -----------------------------------------------------------

    def _next_there(self) -> Any:
        """Take the next result, if nothing must be waited for."""
        feeder = self._feeder
        while True:
            try:
                return self._results.popleft()
            except IndexError:
                self._drop_current()
            batch = self._first_ended()
            if batch is not None:
                self._settle(batch)
                self._current, self._results = batch, batch.values or deque()
            elif not feeder.reading and not self._batches:
                self._finish()
            elif feeder.may_feed_here():
                feeder.feed()
            else:
                return _NOTHING

    def _drop_current(self) -> None:
        if self._current is not None and not self._current.values:
            if self._current in self._batches:
                self._batches.remove(self._current)
            self._current = None
            self._feeder.make_room()

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
        error, self._feeder.error = self._feeder.error, None
        if error is not None:
            raise error
        raise StopIteration

    def _first_ended(self) -> _Batch | None:
        """The batch to hand out next, if it is there."""
        return self._batches[0] if self._batches and self._batches[0].ended else None

    def _is_there(self) -> bool:
        return bool(self._results) or self._first_ended() is not None

    def _settle(self, batch: _Batch) -> None:
        """Rebuild a batch's results."""
        if batch.values is None:
            if batch.entries is None:
                self._take(batch)
            values = self._engine.decode_entries(batch.entries or [])
            if batch.whole is not None:
                success, value, _ = self._engine.decode(batch.whole)
                rest = batch.count - len(values)
                values += [value] if success else [_wire.Raise(value)] * rest
            batch.values = deque(values)
            batch.ticket, batch.items, batch.entries, batch.whole = None, [], [], None
            self._pool._note_settled()

    def _take(self, batch: _Batch) -> None:
        """Take what is in a cell; items that it has no outcome for go again."""
        ticket: Any = batch.ticket
        lost = ticket.lost()
        salvaged = ticket.salvage() if lost else []
        index = ticket.call()[2] if lost else 0
        taken = self._engine.take(ticket)
        if not lost:
            found = self._engine.entries(taken)
            batch.whole = taken if found is None else None
            entries = (found or [])[batch.known :][: batch.count]
            done = batch.count if found is None else len(entries)
            self._adapt(taken, len(found or [None]))
        else:
            entries = salvaged[batch.known :][: batch.count]
            # Between two items nobody was at work: the death is nobody's, and all others go again.
            charged = len(salvaged) <= index or not batch.items
            batch.whole = taken if charged else None
            done = min(batch.count, len(entries) + charged)
            self._feeder.size = 1 if self._feeder.adaptive else self._feeder.size
        again = self._feeder.submit(batch.items[done:])
        place = self._batches.index(batch) + 1
        self._batches[place:place] = again
        batch.count, batch.entries = done, entries

    def _adapt(self, taken: tuple[Any, ...], items: int) -> None:
        """Let as many items share a cell as take about `BATCH_TIME`, growing step by step."""
        feeder = self._feeder
        if feeder.adaptive:
            each = max(1, self._engine.duration(taken) // items)
            wanted = max(1, min(BATCH_TIME // each, LARGEST_BATCH))
            feeder.size = min(wanted, 2 * feeder.size)

    # --- Waiting --------------------------------------------------------------------------

    def _shared(self) -> list[_Batch]:
        return [batch for batch in tuple(self._batches) if batch.items and not batch.ended]

    def _wait_or_separate(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Wait for a result; if none comes soon, see that nothing waits for a neighbour."""
        feeder = self._feeder
        if not feeder.adaptive:
            self._wait(deadline, enough)
            return
        soon = deadline
        if (feeder.background and feeder.size > 1) or self._shared():
            soon = time.monotonic() + PATIENCE
            soon = soon if deadline is None else min(soon, deadline)
        if not self._wait(soon, enough):
            with self._lock:
                feeder.hurry()
                for batch in self._shared():
                    self._take_apart(batch)

    def _take_apart(self, batch: _Batch) -> None:
        """Leave a batch its slow item: what is done before it, and the rest in cells of its own."""
        ticket: Any = batch.ticket
        if ticket.ended():
            return
        # What is there of it already: items that it has no outcome for in the end go again.
        kept = ticket.steal() - batch.known
        items, rest = batch.items[:kept], batch.items[kept:]
        pieces = [piece for item in rest for piece in self._feeder.submit([item])]
        done = ticket.salvage()[batch.known :][:kept]
        if done:
            before = _Batch([], len(done))
            before.entries = done
            pieces = [before, batch, *pieces]
        else:
            pieces = [batch, *pieces]
        place = self._batches.index(batch)
        self._batches[place : place + 1] = pieces
        batch.items, batch.count = items[len(done) :], kept - len(done)
        batch.known += len(done)

    def _wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        batch = self._first_unsettled()
        if batch is None:
            return self._feeder.wait(deadline, enough)
        return batch.ticket is None or self._engine.await_(batch.ticket, deadline)

    # --- For the pool ---------------------------------------------------------------------

    @property
    def fed(self) -> bool:
        """Whether nothing will be submitted any more."""
        return not self._feeder.reading and all(batch.settled for batch in tuple(self._batches))

    def pump(self) -> None:
        """Read all of the input and keep the results: the pool is being joined."""
        feeder = self._feeder
        feeder.unbounded, feeder.room = True, None
        feeder.make_room()
        while True:
            with self._lock:
                batch = self._first_unsettled()
                if batch is not None and batch.ended:
                    self._settle(batch)
                    self._merge(batch)
                    feeder.make_room()
                    continue
                if not feeder.reading and batch is None:
                    return
                if feeder.may_feed_here():
                    feeder.feed()
                    continue
            # Results that are there are the consumer's: they are not enough here.
            self._wait_or_separate(time.monotonic() + SLICE, lambda: False)

    def _first_unsettled(self) -> _Batch | None:
        return next((batch for batch in tuple(self._batches) if batch.values is None), None)

    def _merge(self, batch: _Batch) -> None:
        """Hang results on those before them, so that a long list of batches does not grow."""
        place = self._batches.index(batch)
        before = self._batches[place - 1].values if place else None
        if before and batch.values is not None:
            before.extend(batch.values)
            del self._batches[place]

    def show(self, bar: Bar) -> None:
        """Report results that were handed out to a progress bar."""
        self._bar = bar
        # An iterator that is left in the middle must give the terminal back.
        weakref.finalize(self, bar.close)


class IMapUnorderedIterator(IMapIterator[T]):
    """Results in the order in which they arrive."""

    def _first_ended(self) -> _Batch | None:
        return next((batch for batch in tuple(self._batches) if batch.ended), None)

    def _first_unsettled(self) -> _Batch | None:
        unsettled = [batch for batch in tuple(self._batches) if batch.values is None]
        ended = (batch for batch in unsettled if batch.ended)
        return next(ended, unsettled[0] if unsettled else None)

    def _wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        nudges = self._engine.nudges
        tickets = [batch.ticket for batch in tuple(self._batches) if batch.ticket is not None]
        if not tickets:
            return self._feeder.wait(deadline, enough)
        return self._engine.await_any(tickets, deadline, nudges)
