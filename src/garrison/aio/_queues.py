"""`Queue`, awaited."""

from __future__ import annotations

import queue as queues
from functools import partial

from garrison import sync
from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import current
from garrison.aio._sizes import is_small
from garrison.aio._waiting_room import LOOK_S, Waiter, WaitingRoom

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Queue"]


def _wait_for_items(queue: sync.Queue[Any], waiters: list[Waiter]) -> list[Waiter]:
    return waiters[:1] if queue._has_item(True, LOOK_S) else []


def _wait_for_room(queue: sync.Queue[Any], waiters: list[Waiter]) -> list[Waiter]:
    return waiters[:1] if queue._has_room(LOOK_S) else []


class Queue:
    """A queue between coroutines of any processes, first in first out: a `garrison.Queue`.

    Parameters
    ----------
    maxsize : int or garrison.Queue
        How many items a new queue can hold (0 or less: as many as fit into memory), or the queue
        to use, which code without an event loop may use too.

    Examples
    --------
    >>> import asyncio
    >>> from garrison import aio
    >>> async def main():
    ...     queue = aio.Queue()
    ...     await queue.put("one")
    ...     return await queue.get()
    >>> asyncio.run(main())
    'one'
    """

    def __init__(self, maxsize: int | sync.Queue[Any] = 0) -> None:
        self._shared: sync.Queue[Any]
        self._shared = sync.Queue(maxsize) if isinstance(maxsize, int) else maxsize
        # Nothing in them leads back to here: a queue that is dropped is gone at once.
        self._getters = WaitingRoom(partial(_wait_for_items, self._shared), one_by_one=True)
        self._putters = WaitingRoom(partial(_wait_for_room, self._shared), one_by_one=True)

    @property
    def queue(self) -> sync.Queue[Any]:
        """The queue itself, for code without an event loop."""
        return self._shared

    async def get(self) -> Any:
        """Take the next item, and wait until there is one. To cancel this takes none."""
        return await self._attempt(self._getters, self._shared.get_nowait, queues.Empty)

    async def put(self, item: Any) -> None:
        """Put an item, and wait until there is room. To cancel this while it waits puts nothing.

        A large item is copied by a thread.
        """
        put = self._shared.put_nowait
        if is_small((item,)):
            await self._attempt(self._putters, lambda: put(item), queues.Full)
            return
        library = current()
        while True:
            try:
                await library.shielded(library.in_thread(put, item))
            except queues.Full:
                await self._putters.wait(library)
                self._putters.go_on()
            else:
                return

    @staticmethod
    async def _attempt(
        room: WaitingRoom, attempt: Callable[[], Any], failure: type[Exception]
    ) -> Any:
        if not room:
            try:
                return attempt()
            except failure:
                pass
        library = current()
        while True:
            try:
                await room.wait(library)
                # In the step of the waiter itself: if it is cancelled, nothing was taken.
                return attempt()
            except failure:
                pass  # others were faster
            finally:
                room.go_on()

    def get_nowait(self) -> Any:
        """Take the next item if there is one now, or raise `queue.Empty`."""
        return self._shared.get_nowait()

    def put_nowait(self, item: Any) -> None:
        """Put an item if there is room now, or raise `queue.Full`."""
        self._shared.put_nowait(item)

    def qsize(self) -> int:
        """Return the number of items."""
        return self._shared.qsize()

    def empty(self) -> bool:
        """Whether there is no item in the queue."""
        return self._shared.empty()

    def full(self) -> bool:
        """Whether the queue holds `maxsize` items."""
        return self._shared.full()

    def close(self) -> None:
        """Use the queue no longer in this process."""
        self._shared.close()

    def __reduce__(self) -> Any:
        return type(self), (self._shared,)

    def __repr__(self) -> str:
        return f"<aio {self._shared!r}>"
