"""`imap` of a coroutine function: a window of calls over an input."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Sized

from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import Library
from garrison.errors import PoolBroken, PoolClosed, PoolTerminated

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = ["CoroutineIterator"]

_END: Any = object()


class CoroutineIterator:
    """Results of a coroutine function for each item, for ``async for``."""

    def __init__(
        self,
        library: Library,
        begin: Callable[[Any], Any],
        iterable: Any,
        ahead: int,
        *,
        ordered: bool,
    ) -> None:
        self._library, self._begin, self._ahead = library, begin, ahead
        self._asynchronous = isinstance(iterable, AsyncIterable)
        self._in_thread = not (self._asynchronous or isinstance(iterable, Sized))
        self._source: Any = iterable.__aiter__() if self._asynchronous else iter(iterable)
        self._ordered = ordered
        self._calls: deque[Any] = deque()
        """Those whose results were not handed out, in the order of the input."""
        self._done: deque[Any] = deque()
        """Those of them that are done, in the order of their ends."""
        self._waiting: deque[Any] = deque()
        self._exhausted = False
        self.skips: bool = False
        """Whether failed items are left out."""
        self.bar: Any = None
        """The progress bar, if there is one."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Return the next result.

        Raises
        ------
        StopAsyncIteration
            When the input is exhausted and all results were handed out.
        """
        while True:
            await self._fill()
            if not self._calls:
                self._close_bar()
                raise StopAsyncIteration
            call = self._next_done()
            if call is not None:
                self._calls.remove(call)
                if self.bar is not None:
                    self.bar.advance()
                if self._is_skipped(call):
                    continue
                return call.result()
            waiter = self._library.call()
            self._waiting.append(waiter)
            await waiter

    def _is_skipped(self, call: Any) -> bool:
        """Whether it is one that failed, and failures are left out; not if the pool has ended."""
        if not self.skips or call.cancelled():
            return False
        error = call.exception()
        return error is not None and not isinstance(error, (PoolBroken, PoolClosed, PoolTerminated))

    def _close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _next_done(self) -> Any:
        if self._ordered:
            return self._calls[0] if self._calls[0].done() else None
        return self._done.popleft() if self._done else None

    def _note(self, call: Any) -> None:
        if not self._ordered:
            self._done.append(call)
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _fill(self) -> None:
        """Begin as many calls as may run at a time."""
        while not self._exhausted and len(self._calls) < self._ahead:
            item = await self._next_item()
            if item is _END:
                self._exhausted = True
            else:
                call = self._begin(item)
                self._calls.append(call)
                call.add_done_callback(self._note)

    async def _next_item(self) -> Any:
        if self._asynchronous:
            try:
                return await self._source.__anext__()
            except StopAsyncIteration:
                return _END
        if self._in_thread:  # it may block
            return await self._library.in_thread(next, self._source, _END)
        return next(self._source, _END)

    async def aclose(self) -> None:
        """Cancel what is left."""
        self._exhausted = True
        self._close_bar()
        while self._calls:
            self._calls.popleft().cancel()

    def __del__(self) -> None:
        """Cancel what is left: the results are not wanted."""
        for call in getattr(self, "_calls", ()):
            call.cancel()
        if getattr(self, "bar", None) is not None:
            self._close_bar()
