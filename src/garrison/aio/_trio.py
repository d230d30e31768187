"""What `_library` needs, of trio. Loaded by a program that runs trio."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator

import trio

from garrison._typing import Any
from garrison.aio._library import AnyCall, Library

__all__ = ["TrioLibrary", "current"]


class _Cancelled(RuntimeError):
    """What awaiting a call raises that another task has cancelled."""


class TrioCall(AnyCall):
    """A result that tasks of trio wait for; what is used of a future of asyncio is here too."""

    def __init__(self) -> None:
        self._outcome: tuple[bool, Any] | None = None
        self._waiting: list[Any] = []
        self._callbacks: list[Callable[[TrioCall], object]] = []

    def add_done_callback(self, function: Callable[[TrioCall], object]) -> None:
        """Call a function when it is done."""
        if self._outcome is None:
            self._callbacks.append(function)
        else:
            function(self)

    def done(self) -> bool:
        """Whether it has a result, or was cancelled."""
        return self._outcome is not None

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._outcome is not None and type(self._outcome[1]) is _Cancelled

    def exception(self) -> BaseException | None:
        """Return the exception that awaiting it raises."""
        assert self._outcome is not None  # noqa: S101 - the caller has looked
        success, value = self._outcome
        return None if success else value

    def set_result(self, value: Any) -> None:
        """Set the result."""
        self._finish((True, value))

    def set_exception(self, error: BaseException) -> None:
        """Set the exception that awaiting it raises."""
        self._finish((False, error))

    def _finish(self, outcome: tuple[bool, Any]) -> None:
        self._outcome = outcome
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            trio.lowlevel.reschedule(task)
        self._call_back()

    def _call_back(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for function in callbacks:
            function(self)

    def result(self) -> Any:
        """Return the result, or raise the exception."""
        assert self._outcome is not None  # noqa: S101 - the caller has waited
        success, value = self._outcome
        if success:
            return value
        try:
            raise value
        finally:
            del value, self

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it; return whether it was not done."""
        del msg
        if self._outcome is not None:
            return False
        self._outcome = False, _Cancelled("this call was cancelled")
        self._was_cancelled()
        self._call_back()
        return True

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the result; to cancel the wait cancels the call."""
        if self._outcome is None:
            yield from self._wait(self.cancel).__await__()
        else:
            yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105 - it is
        return self.result()

    async def _wait(self, at_abort: Callable[[], object]) -> None:
        task = trio.lowlevel.current_task()
        self._waiting.append(task)

        def abort(_raise_cancel: Any) -> Any:
            self._waiting.remove(task)
            at_abort()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class TrioLibrary(Library):
    """A run of trio."""

    def __init__(self, token: Any) -> None:
        self.loop = token
        self.post = self.soon = token.run_sync_soon

    def call(self) -> TrioCall:
        """Return a new call."""
        return TrioCall()

    async def pause(self) -> None:
        """Let other tasks run."""
        await trio.lowlevel.checkpoint()

    async def shielded(self, call: Any) -> Any:
        """Wait for a call even if the waiter is cancelled meanwhile."""
        with trio.CancelScope(shield=True):
            return await call

    def start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run a coroutine function beside all others; return what cancels it."""
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await function()

        trio.lowlevel.spawn_system_task(run)
        cancel: Callable[[], object] = scope.cancel
        return cancel

    def add_reader(self, descriptor: int, function: Callable[[], object]) -> None:
        """Call a function whenever a descriptor is readable."""

        async def follow() -> None:
            try:
                while True:
                    await trio.lowlevel.wait_readable(descriptor)
                    function()
            except (trio.ClosedResourceError, OSError):
                pass

        trio.lowlevel.spawn_system_task(follow)

    def remove_reader(self, descriptor: int) -> None:
        """Undo `add_reader`, before the descriptor is closed."""
        trio.lowlevel.notify_closing(descriptor)


def current() -> TrioLibrary:
    """Return the library of the run of this thread."""
    if "trio" not in sys.modules:
        raise RuntimeError("no running event loop")
    return TrioLibrary(trio.lowlevel.current_trio_token())
