"""`Queue`, `JoinableQueue` and `SimpleQueue`."""

from __future__ import annotations

import operator
import os
import types
import weakref
from collections import deque
from multiprocessing import util

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any, TypedBase
from garrison.sync._locks import Lock
from garrison.sync._pipe_ends import PipeEndStub, Reader, Writer

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

if TYPE_CHECKING:
    from multiprocessing import queues

    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
    CoreQueue = _core.Queue
    StandardQueue = queues.Queue
    StandardJoinableQueue = queues.JoinableQueue
    StandardSimpleQueue = queues.SimpleQueue
else:
    T = None
    _theirs = _standard.load("queues")
    CoreQueue = TypedBase(_core.Queue)
    StandardQueue = TypedBase(_theirs.Queue)
    StandardJoinableQueue = TypedBase(_theirs.JoinableQueue)
    StandardSimpleQueue = TypedBase(_theirs.SimpleQueue)

MOST = 2**31 - 1
"""The largest `maxsize`, as in the standard library."""
REGION = 1 << 36
"""Bytes of a queue's file for one process's large items; unused, they take no memory."""


class QueueBase(CoreQueue[T], Transferable):
    """The base of all queues: `put` and `get` are the core's."""

    def _create(self, maxsize: int) -> None:
        self._spot = self._allocate(maxsize, REGION)
        self._opid = os.getpid()

    def __getstate__(self) -> Any:
        assert_transfer(self)
        return (self._spot,)

    def __setstate__(self, state: Any) -> None:
        (self._spot,) = state
        self._attach(self._spot)

    def __repr__(self) -> str:
        name, limit = type(self).__name__, self._limit
        return f"<{name} with {self.qsize()}{f' of {limit}' if limit else ''} items>"

    __class_getitem__: Any = classmethod(types.GenericAlias)

    # --- Private attributes of a standard queue ---------------------------------------------------

    def _end(self, kind: type[PipeEndStub]) -> PipeEndStub:
        """Return an end; the same object as long as it is referenced."""
        known = vars(self).setdefault("_ends", weakref.WeakValueDictionary())
        end: PipeEndStub | None = known.get(kind)
        if end is None:
            end = known[kind] = kind(self)
        return end

    @property
    def _reader(self) -> Reader:
        return self._end(Reader)  # type: ignore[return-value] # the kind that was asked for

    @property
    def _writer(self) -> Writer:
        return self._end(Writer)  # type: ignore[return-value] # as above

    def _poll(self, timeout: float | None = 0.0) -> bool:
        return self._reader.poll(timeout)

    @property
    def _rlock(self) -> Lock:
        """The lock of the reading end."""
        return Lock._from_block(self._spot, self._LOCKS[0], QUIET)

    @property
    def _wlock(self) -> Lock:
        """The lock of the writing end."""
        return Lock._from_block(self._spot, self._LOCKS[1], QUIET)


QUIET = 2
"""The handler of a dead owner where its successor has nothing to repair."""


def raise_at_put(e: Exception, obj: object) -> None:
    """Raise the error, as `put` does unless a subclass overrides `_on_queue_feeder_error`."""
    del obj
    raise e


SECONDS_TO_BE_SEEN = 5.0
"""How long a process stays at its end for one that is stopped, and sees nothing."""


def await_watch_at_exit(queue: QueueBase[Any]) -> None:
    """Have this process stay until the queue's descriptor shows what it has put and taken.

    Else a program that waits for the queue and for the process would see the end of the process
    first, and think that it has put nothing.
    """
    finalizer: Any = util.Finalize
    finalizer(queue, _await_watch, (weakref.ref(queue),), exitpriority=1)


def _await_watch(found: weakref.ref[QueueBase[Any]]) -> None:
    queue = found()
    if queue is not None:
        queue._await_watch(SECONDS_TO_BE_SEEN)


class Queue(QueueBase[T], StandardQueue[T]):
    """A queue between processes, first in first out.

    As `multiprocessing.Queue`, but the items are in shared memory and there is no thread. When
    `put` returns, the item is in the queue, even if the process then dies; if the item cannot be
    put, `put` raises. `qsize`, `empty` and `full` are exact.

    Parameters
    ----------
    maxsize : int
        How many items the queue can hold; 0 or less: as many as fit into memory.

    Raises
    ------
    TypeError
        If `maxsize` is not an integer.

    Examples
    --------
    >>> from garrison.sync import Queue
    >>> queue = Queue(maxsize=2)
    >>> queue.put("one")
    >>> queue.put("two")
    >>> queue.full()
    True
    >>> queue.get(), queue.get(timeout=1)
    ('one', 'two')
    """

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._create(_check_maxsize(maxsize))

    _ignore_epipe = False
    _thread = _jointhread = _close = None
    _joincancelled = False
    _on_queue_feeder_error = staticmethod(raise_at_put)

    @property
    def _maxsize(self) -> int:
        return self._limit or MOST

    @property
    def _buffer(self) -> deque[Any]:
        """The buffer of unsent items, always empty."""
        return deque()

    @property
    def _sem(self) -> _FreeSlots:
        return _FreeSlots(self)

    def _terminate_broken(self) -> None:
        self.close()

    def join_thread(self) -> None:
        """Do nothing: there is no thread to wait for, and all items are in the queue.

        Raises
        ------
        AssertionError
            If the queue is not closed, as in the standard library.
        """
        if not self._closed:
            raise AssertionError(f"Queue {self!r} not closed")

    def cancel_join_thread(self) -> None:
        """Do nothing: a process can always exit, and its items stay in the queue."""


class _FreeSlots:
    """The standard library's semaphore of a queue: the number of free places."""

    kind = 1

    def __init__(self, queue: Queue) -> None:
        self._queue, self.maxvalue = queue, queue._maxsize

    @property
    def _semlock(self) -> _FreeSlots:
        return self

    def get_value(self) -> int:
        return self.maxvalue - self._queue.qsize()

    _get_value = get_value

    def locked(self) -> bool:
        return self._queue.full()

    _is_zero = locked


class _UnfinishedTasks(_FreeSlots):
    """The standard library's semaphore of unfinished tasks."""

    def get_value(self) -> int:
        return self._queue._unfinished()

    _get_value = get_value

    def locked(self) -> bool:
        return not self.get_value()

    _is_zero = locked


class JoinableQueue(Queue[T], StandardJoinableQueue[T]):
    """A queue whose items are reported as done; see `Queue`.

    Examples
    --------
    >>> from garrison.sync import JoinableQueue
    >>> queue = JoinableQueue()
    >>> queue.put(1)
    >>> queue.get()
    1
    >>> queue.task_done()
    >>> queue.join()
    """

    def task_done(self) -> None:
        """Report that an item is done.

        Raises
        ------
        ValueError
            If it is called more often than items were put.
        """
        self._task_done()

    def join(self) -> None:
        """Wait until `task_done` was called for every item that was put."""
        self._join()

    @property
    def _unfinished_tasks(self) -> _UnfinishedTasks:
        return _UnfinishedTasks(self)


class SimpleQueue(QueueBase[T], StandardSimpleQueue[T]):
    """A queue without a limit; see `Queue`.

    Examples
    --------
    >>> from garrison.sync import SimpleQueue
    >>> queue = SimpleQueue()
    >>> queue.put("one")
    >>> queue.get(), queue.empty()
    ('one', True)
    """

    def __init__(self, *, ctx: Any = None) -> None:
        self._create(0)

    def empty(self) -> bool:
        """Whether there is no item in the queue."""
        return not self._reader.poll()


for _each in (Queue, JoinableQueue, SimpleQueue):
    _standard.hide(_each, "its items lie in shared memory, and no thread sends them")
del _each


def _check_maxsize(maxsize: Any) -> int:
    try:
        number = operator.index(maxsize)
    except TypeError:
        msg = f"maxsize must be an integer (0: no limit), not {maxsize!r}"
        raise TypeError(msg) from None
    if number > MOST:
        msg = f"maxsize must be at most {MOST:,}, not {number:,}; 0 means no limit"
        raise OverflowError(msg)
    return max(number, 0)
