"""`imap` of a coroutine function: a window of calls over an input.

::

    input ──▶ reading, one item at a time ──▶ calls, `ahead` at most ──▶ results

What reads the input is no part of `__anext__`: to cancel a wait for a result loses no item, and
ends no async generator.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterable, Sized
from functools import partial

from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import Library, finish, outcome_of, outcome_of_call
from garrison.errors import PoolBroken, PoolClosed, PoolTerminated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

__all__ = ["CoroutineIterator"]

_END: Any = object()
_LATER: Any = object()
"""There is no room for another item."""


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
        self._at_once = isinstance(iterable, Sized) and not self._asynchronous
        self._source: Any = iterable.__aiter__() if self._asynchronous else iter(iterable)
        self._ordered = ordered
        self._calls: deque[Any] = deque()
        """Those whose results were not handed out, in the order of the input."""
        self._done: deque[Any] = deque()
        """Those of them that are done, in the order of their ends."""
        self._waiting: deque[Any] = deque()
        self._reading: Any = None
        """A call that gets the next item, or `_END` or `_LATER`."""
        self._stop_reading: Callable[[], object] | None = None
        self._failed_input: Any = None
        """A call that has the exception of the input."""
        self._exhausted = self._closed = False
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
            self._fill()
            call = self._next_done()
            if call is not None:
                self._calls.remove(call)
                if self.bar is not None:
                    self.bar.advance()
                if self._is_skipped(call):
                    continue
                return call.result()
            if self._closed or not (self._calls or self._reading):
                self._close_bar()
                raise StopAsyncIteration
            await self._change()

    def _is_skipped(self, call: Any) -> bool:
        """Whether it is one that failed, and failures are left out; not if the pool has ended."""
        if not self.skips or call.cancelled() or call is self._failed_input:
            return False
        error = call.exception()
        return error is not None and not isinstance(error, (PoolBroken, PoolClosed, PoolTerminated))

    def _close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()

    async def _change(self) -> None:
        """Wait until a call is done, or an item was read."""
        waiter = self._library.call()
        self._waiting.append(waiter)
        await waiter

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _next_done(self) -> Any:
        if self._ordered:
            return self._calls[0] if self._calls and self._calls[0].done() else None
        return self._done.popleft() if self._done else None

    def _note(self, call: Any) -> None:
        if not (self._ordered or self._closed):
            self._done.append(call)
        self._wake()

    # --- The input ------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin as many calls as may run at a time, as far as the input is there."""
        while not self._exhausted and self._reading is None and len(self._calls) < self._ahead:
            if self._at_once:
                self._take(*outcome_of(next, self._source, _END))
            else:
                self._read()

    def _read(self) -> None:
        if self._asynchronous:
            reading = self._library.call()
            read = partial(_read_some, weakref.ref(self), self._source, reading)
            self._stop_reading = self._library.start(read)
        else:  # it may block
            reading = self._library.in_thread(next, self._source, _END)
        self._reading = reading
        reading.add_done_callback(partial(_tell, weakref.ref(self), CoroutineIterator._has_read))

    def _has_read(self, reading: Any) -> None:
        self._reading = self._stop_reading = None
        if reading.cancelled():
            self._exhausted = True
        elif not self._exhausted:
            self._take(*outcome_of_call(reading))
            self._fill()
        self._wake()

    def _take_and_ask(self, item: Any) -> bool:
        """Begin the call for an item; return whether there may be another one now."""
        if not self._exhausted:
            self._take(True, item)
        return not self._exhausted and len(self._calls) < self._ahead

    def _take(self, success: bool, item: Any) -> None:
        """Begin the call for an item. An exception of the input takes its place, and ends it."""
        if success and item is _LATER:
            return
        if success and item is _END:
            self._exhausted = True
            return
        if success:
            success, item = outcome_of(self._begin, item)
        call = item
        if not success:
            self._exhausted = True
            self._failed_input = call = self._library.call()
            finish(call, False, item)
            call.exception()  # it is not logged if nobody comes for it
        self._calls.append(call)
        call.add_done_callback(partial(_tell, weakref.ref(self), CoroutineIterator._note))

    # --- The end --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Cancel what is left, and close an input that is an async generator."""
        self._exhausted = self._closed = True
        self._close_bar()
        calls, self._calls, self._done = self._calls, deque(), deque()
        _cancel_all(calls)
        if self._stop_reading is not None:
            await self._library.pause()  # it has begun then, and notes its end
        while self._stop_reading is not None:
            self._stop_reading()
            await self._change()
        close = getattr(self._source, "aclose", None) if self._asynchronous else None
        if close is not None:
            await close()

    def __del__(self) -> None:
        """Cancel what is left: the results are not wanted."""
        calls, stop = getattr(self, "_calls", ()), getattr(self, "_stop_reading", None)
        with contextlib.suppress(RuntimeError):  # the loop may have ended
            if calls:
                self._library.post(_cancel_all, calls)
            if stop is not None:
                self._library.post(stop)
        if getattr(self, "bar", None) is not None:
            self._close_bar()


def _cancel_all(calls: Iterable[Any]) -> None:
    for call in calls:
        call.cancel()


def _tell(iterator: Any, method: Callable[[Any, Any], None], call: Any) -> None:
    """Call a method of an iterator that may be gone."""
    found = iterator()
    if found is not None:
        method(found, call)


async def _read_some(iterator: Any, source: Any, reading: Any) -> None:
    """Give an iterator items of an async input as long as it has room, then say why no more."""
    success, item = True, _END
    try:
        more = True
        while more:
            item = await source.__anext__()
            found = iterator()
            more = found is not None and found._take_and_ask(item)
            del found
        item = _LATER
    except StopAsyncIteration:
        item = _END
    except Exception as error:
        success, item = False, error
    except BaseException:
        reading.cancel()
        raise
    if not reading.done():
        finish(reading, success, item)
