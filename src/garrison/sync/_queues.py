"""`Queue`, `JoinableQueue` and `SimpleQueue`."""

from __future__ import annotations

import io
import operator
import resource
import types
from typing import Any

from garrison import _core
from garrison.memory import _handles as _handles  # noqa: PLC0414 - queues travel as handles

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

MOST = 2**31 - 1
"""Items that a queue can be limited to, as in the standard library."""
REGION = 1 << 36
"""Address space for one process's big items in one queue; memory only as it is used."""


class _Ring(_core.Queue):
    """What all queues have in common: `put` and `get` are the core's."""

    def _make(self, maxsize: int) -> None:
        self._spot = self._found(maxsize, _region_length())

    def __getstate__(self) -> Any:
        return (self._spot,)

    def __setstate__(self, state: Any) -> None:
        (self._spot,) = state
        self._attach(self._spot)

    def __repr__(self) -> str:
        name, limit = type(self).__name__, self._limit
        return f"<{name} with {self.qsize()}{f' of {limit}' if limit else ''} items>"

    __class_getitem__: Any = classmethod(types.GenericAlias)


def _region_length() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return REGION
    # Several regions, each mapped twice, are to fit beside everything else.
    return max(1 << 24, min(REGION, limit // 32) >> 12 << 12)


class Queue(_Ring):
    """A queue between processes, first in first out.

    As `multiprocessing.Queue`, but the items lie in shared memory and there is no thread: when
    `put` returns the item is in the queue, whatever becomes of the process that has put it, and
    when it cannot be put `put` raises. `qsize`, `empty` and `full` are exact.

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
        self._make(_checked(maxsize))

    @property
    def _maxsize(self) -> int:
        return self._limit or MOST

    def join_thread(self) -> None:
        """Return: what was put is in the queue, there is no thread to wait for.

        Raises
        ------
        AssertionError
            If the queue is not closed, as in the standard library.
        """
        if not self._closed:
            raise AssertionError(f"Queue {self!r} not closed")

    def cancel_join_thread(self) -> None:
        """Do nothing: a process can always leave, and what it has put stays in the queue."""


class JoinableQueue(Queue):
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
        """Report that an item that was taken is dealt with.

        Raises
        ------
        ValueError
            If it is called more often than items were put.
        """
        self._task_done()

    def join(self) -> None:
        """Wait until `task_done` was called for every item that was put."""
        self._join()


class SimpleQueue(_Ring):
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
        self._make(0)

    @property
    def _reader(self) -> _End:
        return _End(self)

    _writer = _reader


class _End:
    """What remains of the standard library's pipe: whether it is closed."""

    def __init__(self, queue: SimpleQueue) -> None:
        self.closed = queue._closed

    def fileno(self) -> int:
        """Raise: there is no pipe that could be waited for."""
        msg = (
            "a queue of garrison's has no descriptor to wait for; use get(timeout=...) in a thread "
            "or multiprocessing.Queue where descriptors are waited for"
        )
        raise io.UnsupportedOperation(msg)


def _checked(maxsize: Any) -> int:
    try:
        number = operator.index(maxsize)
    except TypeError:
        msg = f"maxsize must be an integer (0: no limit), not {maxsize!r}"
        raise TypeError(msg) from None
    if number > MOST:
        msg = f"maxsize must be at most {MOST:,}, not {number:,}; 0 means no limit"
        raise OverflowError(msg)
    return max(number, 0)
