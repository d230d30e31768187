"""An `imap` under way: what is submitted, what has come back, and what follows from it.

::

    source ──▶ Feeder ──▶ batches under way ──▶ Stream ──▶ IMapIterator ──▶ results
                                                  ▲
                                      Advancer, while nobody reads

The iterator's consumer moves the stream, in `next`. While nobody does, or while the consumer waits
for one result, the pool's `Advancer` does: it takes what has ended out of the cells, and feeds on.

A batch stays in the list of batches until its last result is handed out, and what is changed in
the list is changed by one store: whatever exception flies through here (Ctrl-C, code of the user
while a result is rebuilt), the next call goes on from there.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import weakref
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _imap_batch
from garrison.pool._imap_batch import Batch, Whole
from garrison.pool._imap_reader import Feeder
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.options import Options

__all__ = ["NOTHING", "Stream", "UnorderedStream"]

BATCH_TIME = 150_000
"""Nanoseconds of work that may share a cell: long against a cell's cost, short against a person's
or a core's patience at the end of the input."""
BATCH_WAIT_S = 0.002
"""Seconds that items wait for company: for their neighbours in a cell, or for a full batch."""
LARGEST_BATCH = 256
AT_ONCE = 64
"""Batches that are read in a row while nobody else can come by."""
NOTHING: Any = object()


class Stream:
    """Results in the order of the input."""

    def __init__(
        self,
        pool: Any,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        options: Options,
    ) -> None:
        self._engine = engine = pool._engine
        self.feeder = Feeder(engine, function, iterable, chunksize, options, pool._close_if_fed)
        self._batches = self.feeder.batches
        self._on_settled = weakref.WeakMethod(pool._note_settled)
        self._lock = threading.RLock()
        self._turn = 0
        self._dropped = False
        self._current: Batch | None = None
        self.results: deque[Any] = deque()
        """The results of `_current`, the batch that is being handed out."""
        self.calls = 0
        """How often a consumer had to look further than `results`."""

    # --- For the consumer -----------------------------------------------------------------

    def next(self, deadline: float | None) -> Any:
        """Wait for the next result, or its `Raise`; TimeoutError at the deadline."""
        self.calls += 1
        while True:
            self._acquire(deadline)
            try:
                value = self._next_there()
            finally:
                self._lock.release()
            if value is not NOTHING:
                return value
            self._wait_or_separate(deadline, self._is_there)
            if deadline is not None and time.monotonic() >= deadline and not self._is_there():
                raise multiprocessing.TimeoutError

    def _acquire(self, deadline: float | None) -> None:
        left = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=left):
            raise multiprocessing.TimeoutError

    def _next_there(self) -> Any:
        """Take the next result, if nothing must be waited for."""
        feeder = self.feeder
        while True:
            try:
                return self.results.popleft()
            except IndexError:
                batch = self._current
            if batch is not None:
                self._go_on_with(batch)
            elif (batch := self._first_ended()) is not None:
                if batch.entries is None:
                    self._take(batch)
                self._current = batch
            elif feeder.exhausted and not self._batches:
                self._finish()
            elif feeder.may_feed_here():
                feeder.feed()
            else:
                return NOTHING

    def _go_on_with(self, batch: Batch) -> None:
        """Go on to the next results of the current batch; let go of it after the last."""
        if batch.has_more:
            self.results = batch.results(self._engine)
            return
        if batch in self._batches:
            self._batches.remove(batch)
        self._current = None
        self.feeder.make_room()

    def drop_read(self) -> None:
        """Make room as soon as the last result of a batch was handed out."""
        with self._lock:
            if self._current is not None and not self._current.left:
                self._go_on_with(self._current)

    def _finish(self) -> None:
        error, self.feeder.error = self.feeder.error, None
        if error is not None:
            raise error
        raise StopIteration

    def _first_ended(self) -> Batch | None:
        """The batch to hand out next, if it is there."""
        return self._batches[0] if self._batches and self._batches[0].ended else None

    def _is_there(self) -> bool:
        return bool(self.results) or self._first_ended() is not None

    # --- Results out of their cells -------------------------------------------------------

    def _take(self, batch: Batch) -> None:
        """Take what is in a cell; items that it has no outcome for go again."""
        engine, ticket = self._engine, batch.ticket
        lost = ticket.lost()
        salvaged = ticket.salvage() if lost else []
        index = ticket.call()[2] if lost else 0
        try:
            taken = engine.take(ticket)
        except RuntimeError:
            # It was withdrawn, and an interrupt came before its items were submitted again.
            self._replace(batch, self.feeder.submit(batch.items))
            return
        entries: list[Any]
        if not lost:
            found = engine.entries(taken)
            charged = found is None
            entries = (found or [])[batch.known :][: batch.count]
            self._adapt(taken, len(found or [None]))
            done = batch.count if charged else len(entries)
        else:
            entries = salvaged[batch.known :][: batch.count]
            # Between two items nobody was at work: the death is nobody's, and all others go again.
            charged = len(salvaged) <= index or not batch.items
            done = min(batch.count, len(entries) + charged)
            self.feeder.size = 1 if self.feeder.adaptive else self.feeder.size
        if charged:
            entries += [Whole(taken)] * (done - len(entries))
        shared = bool(batch.items)
        if done < len(batch.items):
            place = self._batches.index(batch) + 1
            self._batches[place:place] = self.feeder.submit(batch.items[done:])
        self._turn += 1
        batch.close(entries, engine.size(taken) if self.feeder.bounded else 0, self._turn)
        if shared and (on_settled := self._on_settled()) is not None:
            on_settled()

    def _adapt(self, taken: tuple[Any, ...], items: int) -> None:
        """Let as many items share a cell as take about `BATCH_TIME`, growing step by step."""
        feeder = self.feeder
        if feeder.adaptive:
            each = max(1, self._engine.duration(taken) // items)
            wanted = max(1, min(BATCH_TIME // each, LARGEST_BATCH))
            feeder.size = min(wanted, 2 * feeder.size)

    def _merge(self, batch: Batch) -> None:
        """Hang results on those before them, so that a long list of batches does not grow."""
        before = self._before(batch)
        if before is None or before is self._current or not before.untouched:
            return
        if before.count + batch.count <= _imap_batch.LARGEST:
            places = (self._batches.index(before), self._batches.index(batch))
            first, last = min(places), max(places)
            between = self._batches[first + 1 : last]
            self._batches[first : last + 1] = [Batch.joined(before, batch), *between]

    def _before(self, batch: Batch) -> Batch | None:
        """The taken batch whose results come directly before this one's."""
        place = self._batches.index(batch)
        before = self._batches[place - 1] if place else None
        return before if before is not None and before.taken else None

    # --- Waiting --------------------------------------------------------------------------

    def _shared(self) -> list[Batch]:
        return [batch for batch in tuple(self._batches) if len(batch.items) > 1 and not batch.ended]

    @property
    def hesitates(self) -> bool:
        """Whether something waits for its neighbours, in a cell or before it."""
        return self.feeder.adaptive and (self.feeder.waiting or bool(self._shared()))

    def _wait_or_separate(self, deadline: float | None, enough: Callable[[], bool]) -> None:
        """Wait for a result; if none comes soon, see that nothing waits for a neighbour."""
        feeder = self.feeder
        if not feeder.adaptive:
            self._wait(deadline, enough)
            return
        soon = deadline
        if (feeder.background and feeder.size > 1) or self._shared():
            soon = time.monotonic() + BATCH_WAIT_S
            soon = soon if deadline is None else min(soon, deadline)
        if not self._wait(soon, enough):
            self.separate()

    def separate(self) -> None:
        """Let no item wait for its neighbours any longer."""
        with self._lock:
            self.feeder.hurry()
            for batch in self._ended():
                self._take(batch)
            shared = self._shared()
            # First of all what no worker has begun, so that all goes on in the order of the input.
            back = [batch for batch in shared if batch.ticket.withdraw()]
            for batch in shared:
                whole = batch in back
                self._replace(batch, self._singly(batch.items) if whole else self._rest_of(batch))

    def _singly(self, items: list[Any]) -> list[Batch]:
        return [piece for item in items for piece in self.feeder.submit([item])]

    def _replace(self, batch: Batch, pieces: list[Batch]) -> None:
        place = self._batches.index(batch)
        self._batches[place : place + 1] = pieces

    def _rest_of(self, batch: Batch) -> list[Batch]:
        """Leave a batch its slow item: what is done before it, and the rest in cells of its own."""
        ticket = batch.ticket
        if ticket.ended():
            return [batch]
        # What is there of it already: items that it has no outcome for in the end go again.
        kept = ticket.steal() - batch.known
        pieces = [batch, *self._singly(batch.items[kept:])]
        done = ticket.salvage()[batch.known :][:kept]
        if done:
            self._turn += 1
            before = Batch([], len(done))
            before.close(done, 0, self._turn)
            pieces.insert(0, before)
        batch.items, batch.count = batch.items[len(done) : kept], kept - len(done)
        batch.known += len(done)
        return pieces

    def _wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        batch = self._first_untaken()
        ticket = None if batch is None else batch.ticket
        if ticket is None:
            return batch is not None or self.feeder.wait(deadline, enough)
        arrived: bool = self._engine.await_(ticket, deadline)
        return arrived

    def _first_untaken(self) -> Batch | None:
        return next((batch for batch in tuple(self._batches) if not batch.taken), None)

    # --- Without a consumer ---------------------------------------------------------------

    @property
    def fed(self) -> bool:
        """Whether nothing will be submitted any more."""
        return not self.feeder.reading and all(batch.settled for batch in tuple(self._batches))

    @property
    def mark(self) -> tuple[int, int]:
        """What changes as long as somebody reads."""
        return self.calls, len(self.results)

    def arrived(self) -> int:
        """Return the number of results that have come, read or unread."""
        with self._lock:
            return self.feeder.arrived()

    def tickets(self) -> list[Any]:
        """Return what is under way."""
        return [ticket for batch in tuple(self._batches) if (ticket := batch.ticket) is not None]

    def advance(self) -> bool:
        """Take what has ended and feed on, without waiting; whether anything was done."""
        done = False
        with self._lock:
            for batch in self._ended():
                self._take(batch)
                if batch.taken:
                    self._merge(batch)
                done = True
            if self._dropped:
                # Nobody will ask for them.
                for batch in [batch for batch in tuple(self._batches) if batch.taken]:
                    self._batches.remove(batch)
            for _ in range(AT_ONCE):
                if not self.feeder.may_feed_here():
                    break
                self.feeder.feed()
                done = True
        if self.feeder.background and done:
            self.feeder.make_room()
        return done

    def _ended(self) -> list[Batch]:
        """Batches to take, in the order of their ends."""
        ended = [batch for batch in tuple(self._batches) if not batch.taken and batch.ended]
        return sorted(ended, key=_ended_at)

    def pump(self) -> None:
        """Read all of the input and keep the results: the pool is being joined."""
        self.feeder.unbound()
        while True:
            while self.advance():
                pass
            if not self.feeder.reading and self._first_untaken() is None:
                return
            # Results that are there are the consumer's: they are not enough here.
            self._wait_or_separate(time.monotonic() + LIVENESS_CHECK_INTERVAL_S, lambda: False)

    def drop(self) -> None:
        """Nobody will read any more. What has an end, or was never looked at, is worked on."""
        self._dropped = True
        if self.feeder.bounded and self.calls:
            self.feeder.abandon()
        else:
            self.feeder.unbound()

    def abandon(self) -> None:
        """Read no more of the input: nobody works on it."""
        self.feeder.abandon()


def _ended_at(batch: Batch) -> int:
    ended_at: int = batch.ticket.ended_at
    return ended_at


class UnorderedStream(Stream):
    """Results in the order in which they arrive."""

    def _first_ended(self) -> Batch | None:
        taken: Batch | None = None
        ended: list[Batch] = []
        for batch in tuple(self._batches):
            ticket = batch.ticket
            if ticket is None:
                taken = batch if taken is None or batch.turn < taken.turn else taken
            elif taken is None and ticket.ended():
                ended.append(batch)
        if taken is not None or not ended:
            return taken
        return ended[0] if len(ended) == 1 else min(ended, key=_ended_at)

    def _first_untaken(self) -> Batch | None:
        untaken = [batch for batch in tuple(self._batches) if not batch.taken]
        ended = (batch for batch in untaken if batch.ended)
        return next(ended, untaken[0] if untaken else None)

    def _before(self, batch: Batch) -> Batch | None:
        taken = [each for each in tuple(self._batches) if each.taken and each is not batch]
        return max(taken, key=lambda each: each.turn, default=None)

    def _wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        nudges = self._engine.nudges
        tickets = self.tickets()
        if not tickets:
            return self.feeder.wait(deadline, enough)
        arrived: bool = self._engine.await_any(tickets, deadline, nudges)
        return arrived
