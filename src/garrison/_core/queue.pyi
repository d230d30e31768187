"""A queue between processes."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from garrison._core.shared_block import SharedBlock

_T = TypeVar("_T")

class Queue(Generic[_T]):
    """A queue between processes."""

    def __init__(self, *args: Any, **options: Any) -> None: ...
    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item into the queue.

        Parameters
        ----------
        obj
            Anything that can be pickled.
        block : bool
            Whether to wait while the queue is full.
        timeout : float, optional
            Seconds to wait at most; by default as long as it takes.

        Raises
        ------
        queue.Full
            If there was no room in time.
        garrison.errors.QueueClosed
            If this process has closed the queue. It is a ValueError too.
        garrison.ArgumentUnpicklable
            If the item cannot be pickled.
        """

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        """Take the next item out of the queue.

        Parameters
        ----------
        block : bool
            Whether to wait while the queue is empty.
        timeout : float, optional
            Seconds to wait at most; by default as long as it takes.

        Raises
        ------
        queue.Empty
            If there was no item in time.
        garrison.errors.QueueClosed
            If this process has closed the queue. It is a ValueError too.
        """

    def put_nowait(self, obj: _T) -> None:
        """Put an item into the queue if there is room now, or raise `queue.Full`."""

    def get_nowait(self) -> _T:
        """Take the next item out of the queue if there is one now, or raise `queue.Empty`."""

    def put_many(
        self, items: Iterable[_T], block: bool = True, timeout: float | None = None
    ) -> None:
        """Put several items, all of them at once or none."""

    def get_many(
        self, max_items: int, block: bool = True, timeout: float | None = None
    ) -> list[_T]:
        """Take up to `max_items` items, waiting for the first one only, or raise `queue.Empty`."""

    def qsize(self) -> int:
        """How many items are in the queue."""

    def empty(self) -> bool:
        """Whether there is no item in the queue."""

    def full(self) -> bool:
        """Whether the queue holds `maxsize` items."""

    def close(self) -> None:
        """Use the queue no longer in this process."""

    @property
    def _closed(self) -> bool:
        """Whether it was closed in this process."""

    def _close_end(self, putting: bool) -> None:
        """Put no more in this process, or take no more."""

    def _is_end_closed(self, putting: bool) -> bool:
        """Whether this process can put no more, or take no more."""

    def _descriptor(self, putting: bool) -> int:
        """A descriptor that is readable while there is an item; or one that is always writable."""

    def _await_watch(self, seconds: float) -> None:
        """Wait until the process that has the descriptor has seen what was put and taken."""

    def _has_item(self, block: bool, timeout: float | None) -> bool:
        """Wait until there is an item; False if there was none in time."""

    def _has_room(self, limit: float) -> bool:
        """Wait at most `limit` seconds until there is room for an item; whether there is."""

    _LOCKS: tuple[int, int]
    @property
    def _limit(self) -> int:
        """How many items it can hold; 0: any number."""

    def _allocate(self, maxsize: int, region_len: int) -> SharedBlock:
        """Make a new queue of it."""

    def _attach(self, block: SharedBlock) -> None:
        """Make the queue of it that lies there."""

    def _unfinished(self) -> int:
        """How many items were put and not yet reported as done."""

    def _task_done(self) -> None:
        """Report that one of the items that were put is dealt with."""

    def _join(self) -> None:
        """Wait until every item that was put was reported as done."""

def retire_senders() -> None:
    """Give up what this process has sent: it ends, and nobody will collect what comes back."""
