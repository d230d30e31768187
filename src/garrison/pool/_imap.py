"""`Pool.imap` and `Pool.imap_unordered`: results while the input is still being read.

Nobody reads the input but the caller, in `next`. An item is taken from it only while no result can
be handed out, or while the input is quick; so an endless or slow input gives its first results at
once, and memory stays constant.

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
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from garrison.pool import _wire

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
"""Seconds after which items that share a cell with a slow one are taken back."""
LARGEST_BATCH = 256
SLOW = 50_000
"""Nanoseconds an item: an input slower than this is not read ahead."""
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
        on_end: Callable[[], None],
    ) -> None:
        self._pool, self._engine = pool, engine
        self._function = engine.announce(function, options)
        self._source = iter(iterable)
        self._finite = isinstance(iterable, Sized)
        self._options, self._on_end = options, on_end
        self._single = chunksize == 1
        self._adaptive = self._single and engine.shares_cells
        self._size = chunksize
        self._reading = True
        self._source_error: BaseException | None = None
        self._pull_time = 0.0
        self._ahead = AHEAD * engine.processes
        self._room = options.buffersize
        self._under_way = 0
        self._batches: deque[_Batch] = deque()
        self._results: deque[Any] = deque()
        self._lock = threading.RLock()
        self._bar: Bar | None = None
        self._feed()
        self._top_up()

    def __iter__(self) -> IMapIterator[T]:
        return self

    def __next__(self) -> T:
        try:
            value = self._results.popleft()
        except IndexError:
            return self.next()
        return self._hand_out(value)

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
        with self._lock:
            while not self._results:
                self._advance(deadline)
            value = self._results.popleft()
        return self._hand_out(value)

    def _hand_out(self, value: Any) -> T:
        self._under_way -= 1
        if self._bar is not None:
            self._bar.advance()
        kind = type(value)
        if kind is _wire.Raise:
            raise value.error
        result: T = value
        return result

    def _advance(self, deadline: float | None) -> None:
        """Do the one next thing that brings a result nearer."""
        if self._read_ended():
            self._top_up()
        elif not self._batches and not self._reading:
            self._finish()
        elif self._may_feed():
            self._feed()
        elif self._divide(deadline):
            pass
        elif not self._wait(deadline):
            raise multiprocessing.TimeoutError

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
        error, self._source_error = self._source_error, None
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

    def _divide(self, deadline: float | None) -> bool:
        """Give items that wait behind a slow one in its cell to other workers."""
        shared = [batch for batch in self._batches if len(batch.items) > 1]
        if not self._adaptive or not shared:
            return False
        soon = time.monotonic() + PATIENCE
        if self._wait(soon if deadline is None else min(soon, deadline)):
            return True
        self._size = 1
        for batch in shared:
            place = self._batches.index(batch)
            before, after = self._take_apart(batch)
            for rest in reversed(after):
                self._batches.insert(place + 1, rest)
            if before is not None:
                self._batches.insert(place, before)
        return True

    def _take_apart(self, batch: _Batch) -> tuple[_Batch | None, list[_Batch]]:
        """Leave a batch its slow item: what is done before it, and the rest in cells of its own."""
        if batch.ticket is None or batch.ended:
            return None, []
        kept = batch.ticket.steal()
        rest, batch.items = batch.items[kept:], batch.items[:kept]
        after = [self._submit([item]) for item in rest]
        done = _wire.decode_each(batch.ticket.salvage())
        batch.known = len(done)
        done_items, batch.items = batch.items[: len(done)], batch.items[len(done) :]
        return _Batch(done_items, None, done) if done else None, after

    def _wait(self, deadline: float | None) -> bool:
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
            if self._adaptive:
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
            parts.append(self._submit(batch.items[len(known) :]))
        self._batches.extendleft(reversed(parts))
        if self._adaptive:
            self._size = 1

    def _adapt(self, duration: int, items: int) -> None:
        """Let as many items share a cell as take about `BATCH_TIME`, growing step by step."""
        each = max(1, duration // max(1, items))
        wanted = max(1, min(BATCH_TIME // each, LARGEST_BATCH))
        self._size = min(wanted, 2 * self._size)

    # --- Reading the input ----------------------------------------------------------------

    def _may_feed(self) -> bool:
        if not self._reading or len(self._batches) >= self._ahead:
            return False
        return self._room is None or self._under_way < self._room

    def _top_up(self) -> None:
        """Read ahead, as long as that keeps nobody waiting."""
        while self._pull_time < SLOW and self._may_feed():
            self._feed()

    def _feed(self) -> None:
        items: list[Any] = []
        start = time.perf_counter_ns()
        size = self._size
        if self._room is not None:
            size = max(1, min(size, self._room - self._under_way))
        try:
            self._pull(items, size, start)
        except Exception as error:
            self._reading, self._source_error = False, error
            if not self._single:
                items.clear()
        if items:
            took = time.perf_counter_ns() - start
            self._pull_time += (took / len(items) - self._pull_time) / 4
            self._under_way += len(items)
            self._batches.append(self._submit_or_fail(items))
        if not self._reading:
            self._on_end()

    def _pull(self, items: list[Any], size: int, start: int) -> None:
        """Take up to `size` items; fewer if the input has become slow."""
        if self._pull_time >= SLOW and self._adaptive:
            size = 1
        while len(items) < size:
            wanted = min(PULL, size - len(items))
            before = len(items)
            items.extend(islice(self._source, wanted))
            if len(items) - before < wanted:
                self._reading = False
                return
            if self._adaptive and time.perf_counter_ns() - start > SLOW * PULL:
                return

    def _submit(self, items: list[Any]) -> _Batch:
        kind = _wire.MAP | _wire.EACH
        ticket = self._engine.submit_known(self._function, kind, items, self._options, len(items))
        return _Batch(items, ticket)

    def _submit_or_fail(self, items: list[Any]) -> _Batch:
        """An item that cannot be sent is that item's error, in its place."""
        try:
            return self._submit(items)
        except Exception as error:
            if len(items) == 1 or not self._adaptive:
                return _Batch(items, None, [_wire.Raise(error) for _ in items])
        results = [self._submit_or_fail([item]) for item in items]
        self._batches.extend(results[:-1])
        return results[-1]

    # --- For the pool ---------------------------------------------------------------------

    @property
    def finite(self) -> bool:
        """Whether the input is known to end: then all of it is worked on, whoever looks on."""
        return self._finite

    @property
    def fed(self) -> bool:
        """Whether all of the input has been submitted."""
        return not self._reading

    def pump(self) -> None:
        """Read all of the input and keep the results: the pool is being joined."""
        with self._lock:
            while self._reading:
                self._room = None
                if not self._read_ended() and self._may_feed():
                    self._feed()
                elif self._batches and not self._may_feed():
                    self._wait(None)

    def show(self, bar: Bar) -> None:
        """Report results that were handed out to a progress bar."""
        self._bar = bar
        # An iterator that is left in the middle must give the terminal back.
        weakref.finalize(self, bar.close)


class IMapUnorderedIterator(IMapIterator[T]):
    """Results in the order in which they arrive."""

    def _first_ended(self) -> int | None:
        for index, batch in enumerate(self._batches):
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
        tickets = [batch.ticket for batch in self._batches if batch.ticket is not None]
        return self._engine.await_any(tickets, deadline) is not None
