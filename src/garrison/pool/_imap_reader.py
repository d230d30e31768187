"""The input's side of `imap`: reads it, pickles it, and puts it under way.

A list and its like are read by the iterator, whoever of its threads comes by: reading them cannot
block. Any other input (a generator, a queue that is fed from the results) has a thread of its own.

With ``chunksize=1`` several small items share a cell: as many as take about `stream.BATCH_TIME`.
Each is pickled when it is read, and has its own outcome, so nobody can tell.

No code of the user runs, and nobody waits, under the feeder's lock.
"""

from __future__ import annotations

import array
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _encoding
from garrison.pool._imap_batch import Batch
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from garrison.options import Options

__all__ = ["Feeder"]

LARGEST_BYTES = 64 << 10
"""Bytes of items that share a cell."""
SLOW = 50_000
"""Nanoseconds an item: an input slower than this is submitted item by item."""
PULL = 16
"""Items between two looks at the clock."""
AHEAD = 4
"""Cells under way for each process."""
UNREAD = 1 << 16
"""Results that are kept unread of an input that may be endless."""
UNREAD_BYTES = 256 << 20
_CHANGING = (list, dict, set, deque, bytearray)
_PRESENT = (list, tuple, range, str, bytes, bytearray, dict, set, frozenset, deque, array.array)


def _is_present(iterable: Iterable[Any]) -> bool:
    """Whether reading cannot block. Having a length is no proof of that."""
    numpy = sys.modules.get("numpy")
    kind = type(iterable)
    return kind in _PRESENT or (numpy is not None and kind is numpy.ndarray)


def _is_sized(iterable: Iterable[Any]) -> bool:
    """Whether it has an end: all of it is worked on, however many results are unread."""
    return hasattr(iterable, "__len__") and not hasattr(iterable, "__next__")


class Feeder:
    """Puts items under way, as far as a few cells for each process.

    Only the feeder appends to `batches`, only the stream changes what is there.
    """

    def __init__(
        self,
        engine: Any,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        options: Options,
        on_end: Callable[[], None],
    ) -> None:
        self.engine = engine
        self._function = engine.announce(function, options)
        # As it is at the call: the caller may change it afterwards, or while results come.
        self._source = iter(list(iterable) if type(iterable) in _CHANGING else iterable)
        self.background = not _is_present(iterable)
        self.bounded = not _is_sized(iterable)
        """Whether results that nobody reads hold it up."""
        # Not the pool itself: its end is what ends the thread.
        self._options, self._on_end = options, weakref.WeakMethod(on_end)
        self._single = chunksize == 1
        self.adaptive = self._single and engine.shares_cells
        self.size = chunksize
        self._ahead = AHEAD * engine.processes
        self.room = options.buffersize
        self._reading = True
        self.error: BaseException | None = None
        self.batches: list[Batch] = []
        self.submitted = 0
        """Items that were put under way."""
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
            while self.reading:
                self.feed()
                # The consumer may wait for the first of all its tasks: this is one more.
                self.engine.nudge()
                with self._changed:
                    self._changed.wait_for(lambda: self._abandoned or self.has_room())
        except BaseException as error:
            self._end(error)

    @property
    def reading(self) -> bool:
        """Whether there is more of the input to come."""
        return self._reading and not self._abandoned

    @property
    def exhausted(self) -> bool:
        """Whether the input has come to its end."""
        return not self._reading

    @property
    def waiting(self) -> bool:
        """Whether items wait for others to share a cell with."""
        return bool(self._pulled)

    def abandon(self) -> None:
        """Read no more: nobody wants the results, or nobody works on them."""
        self._abandoned = True
        self._tell_reader()

    def unbound(self) -> None:
        """Read to the end, however many results are unread."""
        self.bounded, self.room = False, None
        self._tell_reader()

    def _tell_reader(self) -> None:
        # In a forked child there is no thread to tell, and the lock may be its parent's.
        if os.getpid() == self._pid:
            with self._changed:
                self._changed.notify_all()

    def has_room(self) -> bool:
        """Whether more may be put under way."""
        batches = tuple(self.batches)
        if len(batches) >= self._ahead and self._under_way(batches) >= self._ahead:
            return False
        if self.room is not None and self._unread(batches) + len(self._pulled) >= self.room:
            return False
        if not self.bounded:
            return True
        size = sum(batch.size for batch in batches)
        return self._unread(batches) < UNREAD and size < UNREAD_BYTES

    @staticmethod
    def _under_way(batches: tuple[Batch, ...]) -> int:
        tickets = [batch.ticket for batch in batches]
        return len([1 for ticket in tickets if ticket is not None and not ticket.ended()])

    @staticmethod
    def _unread(batches: tuple[Batch, ...]) -> int:
        return sum(batch.left for batch in batches)

    def may_feed_here(self) -> bool:
        """Whether the caller itself is to read on."""
        return not self.background and self.reading and self.has_room()

    def make_room(self) -> None:
        """Go on reading after a result was handed out, as far as that keeps nobody waiting."""
        if self.background:
            self._tell_reader()
            return
        # No further: each look at the room costs as much as there are batches, and only results
        # that are taken tell how many items should share a cell.
        while not self._slow and len(self.batches) < self._ahead and self.may_feed_here():
            self.feed()

    # --- Reading --------------------------------------------------------------------------

    def feed(self) -> None:
        """Read a batch and put it under way."""
        try:
            more = self._pull()
        except BaseException as error:
            if threading.current_thread() is threading.main_thread() and not isinstance(
                error, Exception
            ):
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
            self._reading = False
            self._changed.notify_all()
        on_end = self._on_end()
        if on_end is not None:
            on_end()

    def _pull(self) -> bool:
        """Read until a batch is full, or the input has become slow; False if it has ended."""
        limit = 1 if self._slow and self.adaptive else self.size
        if self.room is not None:
            limit = max(1, min(limit, self.room - self._unread(tuple(self.batches))))
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
            return _encoding.Raise(error)

    @staticmethod
    def _is_slow(start: int, pulled: int) -> bool:
        return time.perf_counter_ns() - start > SLOW * pulled

    # --- Putting under way ----------------------------------------------------------------

    def flush(self) -> None:
        """Put under way what was read."""
        with self._changed:
            items = [self._pulled.popleft() for _ in range(len(self._pulled))]
            self.batches += self.submit(items)
            self.submitted += len(items)
            self._changed.notify_all()

    def hurry(self) -> None:
        """Let nothing wait for a full batch: the source may block in the middle of it."""
        self.size = 1
        if self.background:
            self.flush()

    def submit(self, items: list[Any]) -> list[Batch]:
        """Put items into cells, in their order; what cannot be sent is an error in its place."""
        batches: list[Batch] = []
        together: list[Any] = []
        for item in items:
            if type(item) is not _encoding.Raise and not _has_buffers(item):
                together.append(item)
                continue
            batches += self._submit_together(together)
            together = []
            if type(item) is _encoding.Raise:
                batches.append(Batch.failed(item.error))
            else:
                batches += self._submit_together([item])
        return batches + self._submit_together(together)

    def _submit_together(self, items: list[Any]) -> list[Batch]:
        if not items or (self.background and self._abandoned):
            return []
        try:
            ticket = self.engine.submit_items(self._function, items, self._options)
        except Exception as error:
            if len(items) == 1 or not self.adaptive:
                return [Batch.failed(error, len(items))]
        else:
            return [Batch(items if len(items) > 1 else [], len(items), ticket)]
        return [batch for item in items for batch in self._submit_together([item])]

    def wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        """Wait until something is under way, the input has ended, or this is enough.

        False at the deadline.
        """
        with self._changed:
            while self._reading and not self._is_under_way() and not enough():
                self.engine.check()
                interval = LIVENESS_CHECK_INTERVAL_S
                left = interval if deadline is None else min(interval, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def arrived(self) -> int:
        """Return the number of items whose outcome is there."""
        with self._changed:
            missing = sum(batch.count for batch in tuple(self.batches) if not batch.ended)
            return self.submitted - missing

    def _is_under_way(self) -> bool:
        return any(not batch.taken for batch in tuple(self.batches))


def _has_buffers(item: Any) -> bool:
    return type(item) is tuple and item[1] is not None


def _size(item: Any) -> int:
    if type(item) is tuple:
        data, buffers = item
        return LARGEST_BYTES if buffers else len(data)
    return len(item) if type(item) in (str, bytes) else 0
