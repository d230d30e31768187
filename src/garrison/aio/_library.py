"""The event loop that is running: asyncio's (and so uvloop's, and that of a notebook), or trio's.

What the package awaits is a `Call` or a `TrioCall`, and what other threads tell a loop goes through
its `Library`. Nothing else here knows which of the two is running.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Generator

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeVar

    R = TypeVar("R")
    FutureBase = asyncio.Future[Any]
else:
    FutureBase = asyncio.Future

__all__ = [
    "AnyCall",
    "AsyncioLibrary",
    "Call",
    "Library",
    "cancel_task",
    "current",
    "fail_with_pool",
    "finish",
    "is_closed",
    "outcome_of",
    "outcome_of_call",
]


class AnyCall:
    """What is awaited. It stands where a coroutine is asked for too: ``group.create_task(call)``.

    To await a coroutine around a future takes three times as long as the future itself.
    """

    on_cancel: Callable[[], object] | None = None
    """Called once if this is cancelled before it is done."""
    result_from: Any = None
    """The `AsyncResult` that it gets its result from, whose task is cancelled with it."""
    _steps: Any = None

    def _was_cancelled(self) -> None:
        result, self.result_from = self.result_from, None
        if result is not None:
            cancel_task(result)
        elif self.on_cancel is not None:
            self.on_cancel()

    @abstractmethod
    def cancel(self, msg: Any = None) -> bool:
        """Cancel it; return whether it was not done."""

    @abstractmethod
    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the result."""

    def send(self, value: Any) -> Any:
        """Go on, as a coroutine does."""
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """Raise an exception in it, as in a coroutine: its result is not wanted any more."""
        self.cancel()
        error = value if isinstance(value, BaseException) else kind
        if isinstance(error, type):
            error = error() if value is None else error(value)
        raise error if traceback is None else error.with_traceback(traceback)

    def close(self) -> None:
        """End it, as a coroutine that is not awaited any more."""
        self.cancel()


Coroutine.register(AnyCall)  # type: ignore[type-abstract] # of the abc's own methods it has all


def cancel_task(result: Any) -> None:
    """Cancel what an `AsyncResult` waits for, without waiting for anything."""
    result.cancel()


class Call(AnyCall, FutureBase):
    """A future of asyncio."""

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it; return whether it was not done."""
        if not FutureBase.cancel(self, msg):
            return False
        self._was_cancelled()
        return True

    __await__ = FutureBase.__await__


class Library:
    """What is needed of an event loop."""

    loop: Any
    post: Callable[..., object]
    """Has the loop call a function, from any thread; RuntimeError if it has ended."""
    soon: Callable[..., object]
    """Has the loop call a function after what it has to do already; from the loop."""

    @abstractmethod
    def call(self) -> Any:
        """Return a new `AnyCall` of this loop."""

    @abstractmethod
    async def pause(self) -> None:
        """Let other coroutines run."""

    @abstractmethod
    async def shielded(self, call: Any) -> Any:
        """Wait for a call even if the waiter is cancelled meanwhile; that is raised at the end."""

    @abstractmethod
    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run a coroutine function beside all others; return what cancels it."""

    @abstractmethod
    def add_reader(self, descriptor: int, function: Callable[[], object]) -> None:
        """Call a function whenever a descriptor is readable."""

    @abstractmethod
    def remove_reader(self, descriptor: int) -> None:
        """Undo `add_reader`, before the descriptor is closed."""

    def in_thread(
        self,
        function: Callable[..., R],
        *args: Any,
        undo: Callable[[R], object] | None = None,
    ) -> Any:
        """Return a call that has the result of a function which a thread of its own runs.

        `undo` is called with the result if nobody waits for it any more.
        """
        call = self.call()

        def end(success: bool, value: Any) -> None:
            if not call.done():
                finish(call, success, value)
            elif success and undo is not None:
                undo(value)

        self.start_thread(lambda: outcome_of(function, *args), end)
        return call

    def start_thread(
        self, run: Callable[[], tuple[bool, Any]], end: Callable[[bool, Any], object]
    ) -> None:
        """Run a function in a thread, then call `end` with what it returned, in the loop."""

        def both() -> None:
            outcome = run()
            with contextlib.suppress(RuntimeError):  # the loop may have ended
                self.post(end, *outcome)

        threading.Thread(target=both, name="garrison-aio-call", daemon=True).start()


def is_closed(loop: Any) -> bool:
    """Whether a loop was closed; that of trio is not asked."""
    closed = getattr(loop, "is_closed", None)
    return closed is not None and bool(closed())


def outcome_of(function: Callable[..., Any], *args: Any) -> tuple[bool, Any]:
    """Call a function: success, and its result or exception."""
    try:
        return True, function(*args)
    except BaseException as error:
        return False, error


def outcome_of_call(call: Any) -> tuple[bool, Any]:
    """Return success, and the result or exception, of a call that is done."""
    return outcome_of(call.result)


def fail_with_pool(call: Any, error: BaseException) -> None:
    """Set the exception of a call whose pool has ended; it is not logged if nobody asks for it."""
    call.set_exception(error)
    call.exception()


def finish(call: Any, success: bool, value: Any) -> None:
    """Set the result of a call, or its exception."""
    if success:
        call.set_result(value)
    elif isinstance(value, StopIteration):  # which no future can have
        error = RuntimeError("the task raised StopIteration")
        error.__cause__ = value
        call.set_exception(error)
    else:
        call.set_exception(value)


class AsyncioLibrary(Library):
    """A loop of asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.post = loop.call_soon_threadsafe
        self.soon = loop.call_soon

    def call(self) -> Call:
        """Return a new future."""
        return Call(loop=self.loop)

    async def pause(self) -> None:
        """Let other coroutines run."""
        await asyncio.sleep(0)

    async def shielded(self, call: Any) -> Any:
        """Wait for a call even if the waiter is cancelled meanwhile; that is raised at the end."""
        cancelled = None
        while not call.done():
            try:
                await asyncio.shield(call)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return call.result()

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run a coroutine function beside all others; return what cancels it."""
        task = self.loop.create_task(function())
        _running.add(task)
        task.add_done_callback(_running.discard)
        cancel: Callable[[], object] = task.cancel
        return cancel

    def add_reader(self, descriptor: int, function: Callable[[], object]) -> None:
        """Call a function whenever a descriptor is readable."""
        self.loop.add_reader(descriptor, function)

    def remove_reader(self, descriptor: int) -> None:
        """Undo `add_reader`, before the descriptor is closed."""
        if not self.loop.is_closed():
            self.loop.remove_reader(descriptor)


_running: set[asyncio.Task[None]] = set()
"""What `start` has begun: a loop has weak references only."""


def current() -> Library:
    """Return the library of the loop that is running.

    Raises
    ------
    RuntimeError
        If none is running in this thread.
    """
    try:
        return AsyncioLibrary(asyncio.get_running_loop())
    except RuntimeError:
        pass
    if "trio" in sys.modules:  # only a program that has loaded it can run it
        trio: Any = importlib.import_module("garrison.aio._trio")
        with contextlib.suppress(RuntimeError):
            return trio.current()  # type: ignore[no-any-return]
    raise RuntimeError("no running event loop: call this in a coroutine") from None
