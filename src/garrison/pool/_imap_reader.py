"""The input's side of `imap`: reads, pickles and submits it.

A list or the like is read by any thread that uses the iterator, since that cannot block. Any other
input (a generator, a queue that is fed from the results) has a thread of its own.

The items of a chunk of a list are one pickle, as in the standard library. If one of them cannot be
sent, or a worker cannot load them, each becomes a pickle of its own, so that its error is its own.
Items of any other input are pickled one by one as they are read: the source may change them when it
is asked for the next.

With ``chunksize=1`` several small items share a cell: as many as take about `BATCH_TIME_NS`. Each
has a pickle and an outcome of its own, so the caller sees no difference. The core reads and encodes
them (`ItemBuffer`), since a batch of them takes less time than one line of Python.

Under the reader's lock no code of the user runs, and nothing waits.
"""

from __future__ import annotations

import array
import contextlib
import operator
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._encoding import ItemError
from garrison.pool._imap_batch import Batch
from garrison.pool._monitor import Monitor
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from garrison.options import Options
    from garrison.pool._backend import Backend, ItemBuffer, RunningTasks

__all__ = ["InputReader", "number"]

MAX_BATCH_BYTES = 64 << 10
"""Bytes of items that share a cell."""
SLOW_ITEM_NS = 50_000
"""An input that takes longer per item is submitted item by item."""
MAX_UNREAD = 1 << 16
"""Unread results from which on reading stops, of an input that may be endless."""
MAX_UNREAD_BYTES = 256 << 20
_END = sys.maxsize
_CHANGING = (list, dict, set, deque, bytearray)
_NONBLOCKING_TYPES = (
    list,
    tuple,
    range,
    str,
    bytes,
    bytearray,
    dict,
    set,
    frozenset,
    deque,
    array.array,
)


def _reads_without_blocking(iterable: Iterable[Any]) -> bool:
    """Whether reading cannot block. A length alone does not guarantee that."""
    numpy = sys.modules.get("numpy")
    kind = type(iterable)
    return kind in _NONBLOCKING_TYPES or (numpy is not None and kind is numpy.ndarray)


def number(batches: list[Batch], index: int) -> int:
    """Tell batches in a row where the input has their items; return the number of these."""
    first = index
    for batch in batches:
        batch.origins = ((0, index),)
        index += batch.count
    return index - first


def _has_end(iterable: Iterable[Any]) -> bool:
    """Whether it is finite: all of it is submitted, however many results are unread."""
    return hasattr(iterable, "__len__") and not hasattr(iterable, "__next__")


class InputReader:
    """Submits items, a few cells ahead for each worker.

    Only the reader appends to `batches`; only the stream changes what is there.
    """

    error: BaseException | None = None
    submitted: int = 0
    """Items that were submitted."""
    _unread_at_most = 0
    """Unread results when they were counted last, and items submitted since."""
    _reading = True
    _slow = _cancelled = False
    _submitting_after: int | None = None
    """While something is submitted: what this thread had submitted last before."""
    is_withdrawn: bool = False
    """Whether what was submitted has been cancelled."""
    _made: tuple[Any, list[Batch]] | None = None
    """The first of the pieces, and its batches, once there are any."""
    is_placing: bool = False
    """Whether batches may be in `batches` that are not in `running` yet."""
    has_taken: bool = False
    """Whether a batch may be in `batches` that was taken, and is not being handed out."""
    has_shared: bool = False
    """Whether a batch of several items may be among `batches`, untaken."""
    has_failed: bool = False
    """Whether a batch without a task was added since the stream has looked for one."""

    def __init__(
        self,
        backend: Backend,
        function: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        options: Options,
        on_end: Callable[[], None],
        ended: deque[Batch],
    ) -> None:
        self._backend = backend
        self._function = backend.register(function, options)
        # As it is at the call: the caller may change it afterwards, or while results come.
        self._source = iter(list(iterable) if type(iterable) in _CHANGING else iterable)
        self._lazy = backend.runs_in_caller  # an item is read when its result is asked for
        self.in_thread: bool = not (self._lazy or _reads_without_blocking(iterable))
        self.bounded: bool = not _has_end(iterable)
        """Whether unread results stop the reading."""
        # Not the pool itself: its finalizer ends the thread.
        self._options, self._on_end = options, weakref.WeakMethod(on_end)
        self._single = chunksize == 1
        self._whole: bool = not self._single and _reads_without_blocking(iterable)
        self.adaptive: bool = self._single and backend.batches_items
        self._limits = (MAX_BATCH_BYTES, SLOW_ITEM_NS) if self._single else (_END, _END)
        self.buffer: ItemBuffer = backend.item_buffer(chunksize)
        """Items that were read: the source may block in the middle of a batch."""
        self._unsubmitted: list[Any] = []  # the same of a list's chunk
        self._pieces: deque[Any] = deque()  # those that are submitted now
        self.last_size: int = chunksize
        """Items that share a cell at the end of an input whose length is known."""
        self.ahead: int = 1 if self._lazy else backend.tasks_ahead
        self.readahead_limit = limit = options.buffersize
        self._is_limited = self.bounded or limit is not None
        self.batches: list[Batch] = []
        self._loose: list[Batch] = []  # those that were submitted, and are not there yet
        self.running: RunningTasks = backend.running_tasks()
        """The tasks of batches, each with its batch."""
        self.ended = ended
        """Batches whose task has ended, in the order of their ends; they may be taken since."""
        self._pid, self._changed = os.getpid(), Monitor()

    def start(self) -> None:
        """Begin to read."""
        if self.in_thread:
            thread = threading.Thread(target=self._read, name="garrison-reader", daemon=True)
            thread.start()
        elif not self._lazy:
            self.read_ahead()
            self.resume_reading()

    def _read(self) -> None:
        try:
            while self.reading:
                self.read_ahead()
                # The consumer may wait for the first of all its tasks: this is one more.
                self._backend.interrupt_waits()
                with self._changed:
                    self._changed.wait_for(lambda: self._cancelled or self.may_read_more())
        except BaseException as error:
            self._end(error)

    @property
    def reading(self) -> bool:
        """Whether there is more input."""
        return self._reading and not self._cancelled

    @property
    def exhausted(self) -> bool:
        """Whether the input has ended."""
        return not self._reading

    @property
    def has_unsubmitted(self) -> bool:
        """Whether items that were read wait for others to share a cell with."""
        return bool(len(self.buffer) or self._pieces)

    @property
    def size(self) -> int:
        """Items that share a cell."""
        return self.buffer.size

    @size.setter
    def size(self, size: int) -> None:
        self.buffer.size = size

    def cancel(self) -> None:
        """Stop reading: the results are not wanted, or the pool has ended."""
        self._cancelled = True
        self._tell_reader()

    def withdraw(self, error: BaseException | None) -> None:
        """Read and submit nothing more: the iterator is over, with this error if there is one."""
        with self._changed:
            self.is_withdrawn = self._cancelled = True
            self.error, self._reading = error, False
            self._pieces.clear()
            self._changed.notify_all()

    def forget_loose(self) -> None:
        """Note that what was submitted is in its place."""
        self._loose.clear()
        self._submitting_after = None

    def cancel_loose(self, grace: float) -> None:
        """Cancel what was submitted and not placed: an interrupt has come between the two."""
        for batch in self._loose:
            if batch.task is not None:
                self._backend.cancel(batch.task, grace)
        self._loose.clear()
        if self._submitting_after is not None:
            self._backend.cancel_latest(self._submitting_after, grace)

    def forget_ended(self) -> None:
        """Drop the tasks that have ended: a traceback may keep this object for long."""
        self.running.collect(self.ended)
        self.ended.clear()

    def lift_limits(self) -> None:
        """Read to the end, however many results are unread."""
        self.bounded, self.readahead_limit, self._is_limited = False, None, False
        self._lazy = False
        self._tell_reader()

    def _tell_reader(self) -> None:
        # In a forked child there is no thread to notify, and the lock may be its parent's.
        if os.getpid() == self._pid:
            with self._changed:
                self._changed.notify_all()

    def may_read_more(self) -> bool:
        """Whether more may be submitted."""
        if len(self.batches) >= self.ahead:
            self.running.collect(self.ended)
            if len(self.running) >= self.ahead or self._lazy:
                return False
        return not self._is_limited or self._has_room()

    def _has_room(self) -> bool:
        """Whether more results may be unread."""
        limit = self.readahead_limit
        if limit is not None and self._unread() + len(self.buffer) >= limit:
            return False
        if not self.bounded:
            return True
        # An input of so many items comes to its end: that takes one look more.
        if self._unread_at_most > MAX_UNREAD:
            self._unread_at_most = self._unread()
        if self._unread_at_most > MAX_UNREAD:
            return False
        # Results count once they were taken.
        return not self.has_taken or (
            sum(batch.size for batch in tuple(self.batches)) < MAX_UNREAD_BYTES
        )

    def _unread(self) -> int:
        return sum(batch.left for batch in tuple(self.batches))

    def may_read_here(self) -> bool:
        """Whether the calling thread should read on."""
        return not self.in_thread and self.reading and self.may_read_more()

    def resume_reading(self) -> None:
        """Go on reading after a result was handed out, as far as that takes little time."""
        if self.in_thread:
            self._tell_reader()
            return
        if self._lazy:
            return
        # No further: the check costs time for each batch, and only taken results show how many
        # items should share a cell.
        while len(self.batches) < self.ahead and not self._slow and self.may_read_here():
            self.read_ahead()

    # --- Reading --------------------------------------------------------------------------

    def read_ahead(self) -> None:
        """Read a batch and submit it."""
        if self._whole:
            self._read_chunk()
            return
        try:
            more, self._slow = self.buffer.read(self._source, self._next_size(), *self._limits)
        except BaseException as error:
            if threading.current_thread() is threading.main_thread() and not isinstance(
                error, Exception
            ):
                # Ctrl-C in the caller's own thread: the input goes on with the next call.
                raise
            if not self._single:
                self.buffer.move_to([])
            self.flush()
            self._end(error)
            return
        self.flush()
        if not more:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            if not self.is_withdrawn:
                self.error, self._reading = error, False
            self._changed.notify_all()
        on_end = self._on_end()
        if on_end is not None:
            on_end()

    def _read_chunk(self) -> None:
        """Read a chunk and submit it in one pickle."""
        limit, values = self._next_size(), self._unsubmitted
        if self._pieces and self._pieces[-1][0] is values:
            # An interrupt has come before the chunk was submitted.
            self._unsubmitted = values = []
        # What was read before an interrupt is still there.
        values.extend(islice(self._source, limit - len(values)))
        chunk = values, self._encode_chunk(values)
        with self._changed:
            if values:
                self._pieces.append(chunk)
                self._unsubmitted = []
            self._submit_pieces()
        if len(values) < limit:
            self._end(None)

    def _next_size(self) -> int:
        """Items that the next batch may have."""
        limit = self.size
        if self.adaptive:
            if self._slow:
                limit = 1
            elif self.last_size < limit and not self.in_thread:
                # A share of what is left, or what is short enough: the workers end together.
                share = operator.length_hint(self._source) // self.ahead
                limit = max(self.last_size, min(limit, share))
        if self.readahead_limit is not None:
            limit = max(1, min(limit, self.readahead_limit - self._unread()))
        return limit

    def _encode_singly(self, values: list[Any]) -> list[Any]:
        """Encode items one by one; one that cannot be sent is an error in its place."""
        buffer = self._backend.item_buffer(len(values))
        buffer.read(iter(values), len(values), _END, _END)
        pieces: list[Any] = []
        buffer.move_to(pieces)
        return pieces

    def _encode_chunk(self, values: list[Any]) -> Any:
        """Encode items together, or one by one: a list, if one of them cannot be sent."""
        if len(values) > 1:
            # The culprit has its own error below.
            with contextlib.suppress(Exception):
                return self._backend.encode_chunk(values)
        return self._encode_singly(values)

    # --- Submitting -----------------------------------------------------------------------

    def flush(self) -> None:
        """Submit the items read."""
        with self._changed:
            self.buffer.move_to(self._pieces)
            self._submit_pieces()

    def _submit_pieces(self) -> None:
        """Submit what was read. After an interrupt the next call goes on where this one was."""
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            is_new = self._made is None or self._made[0] is not piece
            if is_new:
                self._made = piece, self.submit([piece])
            assert self._made is not None  # noqa: S101 - for type checkers
            batches = self._made[1]
            if is_new or not self._has_placed(batches):
                self._append(batches)
            pieces.popleft()
        self._made = None
        self._changed.notify_all()

    def _has_placed(self, batches: list[Batch]) -> bool:
        return not batches or batches[0] in self.batches or batches[0].was_taken

    def _append(self, batches: list[Batch]) -> None:
        # Before others see them, and their results are taken.
        items = number(batches, self.submitted)
        self.place(_END, _END, batches)
        self.submitted += items
        self._unread_at_most += items

    def place(self, first: int, last: int, batches: list[Batch]) -> None:
        """Replace some of the batches by others, and watch the tasks of these."""
        # Until all are watched: an interrupt may come before that.
        self.is_placing = True
        self.batches[first:last] = batches
        self.forget_loose()
        self.watch(batches)
        self.is_placing = False

    def watch(self, batches: list[Batch]) -> None:
        """Have these collected when they have ended; to watch a batch twice does no harm."""
        for batch in batches:
            task = batch.task
            if task is None:
                self.has_failed = True
            else:
                self.running.add(task, batch)
        if len(self.running) >= 2 * self.ahead:
            self.running.collect(self.ended)

    def flush_now(self) -> None:
        """Submit a partial batch: the source may block in the middle of it."""
        self.size = 1
        if self.in_thread:
            self.flush()

    def submit_again(self, batch: Batch, done: int) -> list[Batch]:
        """Submit the items of a lost batch after the first ones."""
        rest = batch.items[done:]
        if not batch.whole:
            return self.submit([rest])
        return self._submit_chunk(rest, self._encode_chunk(rest))

    def submit_one_by_one(self, batch: Batch) -> list[Batch]:
        """Submit the items of a batch that no worker could load, each with a pickle of its own."""
        return self.submit(self._encode_singly(batch.items))

    def submit_singly(self, items: Any) -> list[Batch]:
        """Submit each of some encoded items in a cell of its own."""
        return self.submit([items[place : place + 1] for place in range(len(items))])

    def _submit_chunk(self, values: list[Any], encoded: Any) -> list[Batch]:
        if type(encoded) is list:
            return self.submit(encoded)
        count = len(values)
        try:
            task = self._backend.submit_chunk(self._function, encoded, count, self._options)
        except Exception as error:
            return [Batch.failed(error, count)]
        batch = Batch(values, count, task, whole=True)
        self._loose.append(batch)
        return [batch]

    def submit(self, pieces: list[Any]) -> list[Batch]:
        """Submit encoded items or chunks, each in a cell; an error stands for an item."""
        if self.in_thread and self._cancelled:
            return []
        if not self.in_thread:
            self._submitting_after = self._backend.latest
        return [batch for piece in pieces for batch in self._submit_piece(piece)]

    def _submit_piece(self, items: Any) -> list[Batch]:
        if type(items) is ItemError:
            return [Batch.failed(items.error)]
        if type(items) is tuple:
            return self._submit_chunk(*items)
        count = len(items)
        try:
            task = self._backend.submit_items(self._function, items, self._options)
        except Exception as error:
            if count > 1 and self.adaptive:
                return self.submit_singly(items)
            return [Batch.failed(error, count)]
        if count > 1:
            self.has_shared = True
        batch = Batch(items if count > 1 else [], count, task)
        self._loose.append(batch)
        return [batch]

    def wait(self, deadline: float | None, enough: Callable[[], bool]) -> bool:
        """Wait until something is submitted, the input has ended, or `enough` is true.

        False at the deadline.
        """
        with self._changed:
            while self._reading and not self._has_tasks() and not enough():
                self._backend.check()
                interval = LIVENESS_CHECK_INTERVAL_S
                left = interval if deadline is None else min(interval, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def arrived(self) -> int:
        """Return the number of items with an outcome."""
        with self._changed:
            missing = sum(batch.count for batch in tuple(self.batches) if not batch.ended)
            return self.submitted - missing

    def _has_tasks(self) -> bool:
        return any(not batch.taken for batch in tuple(self.batches))
