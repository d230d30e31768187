"""The iterators of `imap` and `imap_unordered`, awaited.

::

    async input ──▶ Bridge ──▶ imap ──▶ Feeder, a thread ──▶ AsyncIMapIterator ──▶ results

A feeder waits where the consumer of a usual `imap` does, and tells the loop once for all results
that it has found. It is a few results ahead at most; how far the input is read ahead is up to
`imap`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterable
from typing import Generic, TypeVar

from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import Library

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

R = TypeVar("R")

__all__ = ["AsyncIMapIterator", "Bridge", "iterate"]

AHEAD = 512
"""Results that a feeder is ahead of the consumer."""
IN_A_ROW = 256
"""Results that a consumer gets before other coroutines of the loop run."""
LOOK_S = 0.1
"""Between two looks of a feeder at whether its consumer is gone. Each wait of a pool ends so often
anyhow, to see whether the supervisor lives."""


class Feeder:
    """Takes results of an iterator in a thread, for a consumer in a loop."""

    def __init__(self, library: Library, results: Any, source: Bridge | None) -> None:
        self.library: Library = library
        self._results, self._source = results, source
        self.ready: deque[tuple[bool, Any]] = deque()
        """(True, result) or (False, exception)."""
        self.over: bool = False
        """Whether there will be no more."""
        self.waiting: deque[Any] = deque()
        """The calls of consumers that wait for a result."""
        self._closed = False
        self._room = threading.Event()
        self._room.set()
        self._thread = threading.Thread(target=self._run, name="garrison-aio-imap", daemon=True)
        self._thread.start()

    # --- In the loop ----------------------------------------------------------------------------

    def taken(self) -> None:
        """Note that a result was taken."""
        if not self._room.is_set() and len(self.ready) < AHEAD // 2:
            self._room.set()

    def wake(self) -> None:
        """Let the consumers look: for each result there is one."""
        while self.waiting:
            call = self.waiting.popleft()
            if not call.done():
                call.set_result(None)
                if not self.over:
                    return

    def close(self) -> None:
        """Withdraw what is left: the consumer is gone."""
        self._closed = True
        self._room.set()
        if self._source is not None:
            self._source.close()

    async def closed(self) -> None:
        """Wait for the thread, after `close`."""
        if self._thread.is_alive():
            await self.library.shielded(self.library.in_thread(self._thread.join))

    # --- In the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed and self._feed():
                pass
        except RuntimeError:
            pass  # the loop has ended
        finally:
            self._withdraw()

    def _withdraw(self) -> None:
        results, self._results = self._results, None
        results.close()

    def _feed(self) -> bool:
        """Wait for a result, and take all others that are there; False after the last."""
        if len(self.ready) >= AHEAD:
            self._room.clear()
            if len(self.ready) >= AHEAD:
                self._room.wait()
            return True
        was_empty = not self.ready
        try:
            self.ready.append((True, self._results.next(LOOK_S)))
            self._take_more()
        except StopIteration:
            self.over = True
        except multiprocessing.TimeoutError:
            return True
        except BaseException as error:
            self.ready.append((False, error))
            if not self._is_task_error(error):
                self.over = True
        if self.waiting or was_empty or self.over:
            self.library.post(self.wake)
        return not self.over

    def _take_more(self) -> None:
        ready, there = self.ready, self._results.stream.results
        while there and len(ready) < AHEAD:
            ready.append((True, next(self._results)))

    def _is_task_error(self, error: BaseException) -> bool:
        """Whether it is one item's, so that there may be results after it."""
        from garrison.errors import PoolBroken, PoolTerminated

        return not isinstance(error, (PoolBroken, PoolTerminated, KeyboardInterrupt, SystemExit))


class AsyncIMapIterator(Generic[R]):
    """Results of `imap`, for ``async for``; made by `aio.Pool.imap`.

    An exception of a task is raised in its place; the results after it can be had all the same.
    Dropping the iterator, or ``await results.aclose()``, withdraws what has not begun.
    """

    def __init__(self, feeder: Feeder) -> None:
        self._feeder = feeder
        self._in_a_row = 0
        self._closing = weakref.finalize(self, feeder.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        """Return the next result.

        Raises
        ------
        StopAsyncIteration
            When the input is exhausted and all results were handed out.
        """
        feeder = self._feeder
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            self._in_a_row = 0
            await feeder.library.pause()
        while not feeder.ready:
            if feeder.over:
                raise StopAsyncIteration
            await self._wait()
        success, value = feeder.ready.popleft()
        feeder.taken()
        if feeder.waiting and feeder.ready:
            feeder.wake()  # another consumer waits, and there is more
        if success:
            return value  # type: ignore[no-any-return]
        try:
            raise value
        finally:
            del value  # its frames must not lead back to it

    async def _wait(self) -> None:
        feeder = self._feeder
        self._in_a_row = 0
        call = feeder.library.call()
        feeder.waiting.append(call)
        if feeder.ready or feeder.over:
            call.cancel()
            return
        try:
            await call
        except BaseException:
            if call.done() and feeder.ready:
                feeder.wake()  # another consumer takes what this one was woken for
            raise

    async def aclose(self) -> None:
        """End it: what no worker has begun is withdrawn."""
        self._closing()
        feeder = self._feeder
        feeder.over = True
        feeder.wake()
        await feeder.closed()
        feeder.ready.clear()


class Bridge:
    """An async iterable as an iterator for another thread."""

    AHEAD = 64
    """Items that are read ahead of the thread."""

    def __init__(self, library: Library, source: AsyncIterable[Any]) -> None:
        self._library = library
        self._source = source.__aiter__()
        self._changed = threading.Condition()
        self._items: deque[Any] = deque()
        self._over = False
        self._error: BaseException | None = None
        self._room: Any = None
        """A call that the reading coroutine waits for, if it is far enough ahead."""
        self._cancel = library.start(self._read)

    # --- In the thread --------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        with self._changed:
            while not self._items:
                if self._over:
                    error, self._error = self._error, None
                    if error is not None:
                        raise error
                    raise StopIteration
                self._changed.wait()
            item = self._items.popleft()
            room, low = self._room, len(self._items) <= self.AHEAD // 2
        if room is not None and low:
            with contextlib.suppress(RuntimeError):  # the loop may have ended
                self._library.post(_wake, room)
        return item

    # --- In the loop ----------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            async for item in self._source:
                with self._changed:
                    self._items.append(item)
                    self._changed.notify()
                    full = len(self._items) >= self.AHEAD
                    self._room = self._library.call() if full else None
                if full:
                    await self._room
        except BaseException as error:
            self._finish(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._finish(None)
            aclose = getattr(self._source, "aclose", None)
            if aclose is not None:
                await aclose()

    def _finish(self, error: BaseException | None) -> None:
        with self._changed:
            if not self._over:
                self._over, self._error = True, error
                self._changed.notify()

    def close(self) -> None:
        """Read no more; from any thread."""
        self._finish(None)
        with contextlib.suppress(RuntimeError):  # the loop may have ended
            self._library.post(self._cancel)


def _wake(call: Any) -> None:
    if not call.done():
        call.set_result(None)


def iterate(
    library: Library, method: Callable[..., Any], func: Any, iterable: Any, *limits: Any
) -> AsyncIMapIterator[Any]:
    """Return the results of `imap` or `imap_unordered`, awaited."""
    source = None
    if isinstance(iterable, AsyncIterable):
        iterable = source = Bridge(library, iterable)
    return AsyncIMapIterator(Feeder(library, method(func, iterable, *limits), source))
