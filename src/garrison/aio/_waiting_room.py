"""Where coroutines wait for an object that processes share.

All coroutines of a process that wait for one object have one thread together, which sleeps where a
usual waiter does. It is there only while one of them waits; an object that is free costs no thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from garrison._typing import Any
from garrison.aio._library import Library, finish, is_closed

__all__ = ["LOOK_S", "Waiter", "WaitingRoom"]

LOOK_S = 0.1
"""Between two looks at whether anybody still waits. A usual waiter wakes up as often, to see
whether the holder lives."""


class Waiter:
    """A coroutine that waits."""

    __slots__ = ("call", "library", "since")

    def __init__(self, library: Library, since: Any) -> None:
        self.library, self.since = library, since
        self.call: Any = library.call()


class WaitingRoom:
    """The coroutines of this process that wait for one object.

    Parameters
    ----------
    look : callable
        Waits in the thread, `LOOK_S` at most; gets the waiters, the longest first, and returns
        those that have what they wait for.
    undo : callable, optional
        Gives back what a waiter was given that is gone.
    one_by_one : bool
        Whether the thread waits after each waiter until that has called `go_on`.
    forget : callable, optional
        Gets a waiter whose loop was closed.
    """

    def __init__(
        self,
        look: Callable[[list[Waiter]], list[Waiter]],
        undo: Callable[[], object] | None = None,
        *,
        one_by_one: bool = False,
        forget: Callable[[Waiter], object] | None = None,
    ) -> None:
        self._look, self._undo, self._one_by_one = look, undo, one_by_one
        self._forget = forget
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._thread: threading.Thread | None = None
        self._gate = threading.Semaphore(0)

    def __bool__(self) -> bool:
        """Whether anybody waits here."""
        return bool(self._waiters) and self._pid == os.getpid()

    async def wait(self, library: Library, since: Any = None, *, surely: bool = False) -> None:
        """Wait until `look` gives the caller what it waits for.

        With `surely` to cancel this is of no effect before it has it.
        """
        waiter = Waiter(library, since)
        self._add(waiter)
        call = waiter.call
        try:
            await (library.shielded(call) if surely else call)
        except BaseException:
            if not call.done():
                with contextlib.suppress(RuntimeError):  # the loop may have ended
                    call.cancel()
            elif self._undo is not None and not surely and not _has_failed(call):
                self._undo()  # it came, but the caller was cancelled
            raise

    def go_on(self) -> None:
        """Let the thread look for the next waiter."""
        self._gate.release()

    def _add(self, waiter: Waiter) -> None:
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            self._waiters.append(waiter)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="garrison-aio-wait", daemon=True)
                thread.start()
                self._thread = thread

    # --- In the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                self._waiters = [each for each in self._waiters if not each.call.done()]
                waiters = list(self._waiters)
                if not waiters:
                    self._thread = None
                    return
            try:
                given = self._look(waiters)
            except BaseException as error:
                self._tell(waiters[0], self._fail, error)
            else:
                for waiter in given:
                    self._tell(waiter, self._give)
                if not given:
                    self._forget_closed_loops()

    def _forget_closed_loops(self) -> None:
        with self._lock:
            waiters = self._waiters
            gone = [each for each in waiters if is_closed(each.library.loop)]
            self._waiters = [each for each in waiters if each not in gone]
        for waiter in gone:
            if self._forget is not None:
                self._forget(waiter)

    def _tell(self, waiter: Waiter, function: Callable[..., object], *args: Any) -> None:
        with self._lock:
            self._waiters.remove(waiter)
        while self._gate.acquire(blocking=False):
            pass  # of a waiter that was cancelled
        try:
            waiter.library.post(function, waiter.call, *args)
            if self._one_by_one:
                self._gate.acquire(timeout=LOOK_S)
            elif self._undo is not None and not args:
                while not self._gate.acquire(timeout=LOOK_S):
                    waiter.library.post(_nothing)  # it raises if the loop has ended
        except RuntimeError:
            # Nobody will take it, unless the loop has had that to do before it ended.
            if self._undo is not None and not args and not self._gate.acquire(blocking=False):
                self._undo()
            if self._forget is not None:
                self._forget(waiter)

    # --- In the loop ----------------------------------------------------------------------------

    def _give(self, call: Any) -> None:
        if not call.done():
            call.set_result(None)
            if self._one_by_one:
                return  # the waiter says when
        elif self._undo is not None:
            self._undo()
        self.go_on()

    @staticmethod
    def _fail(call: Any, error: BaseException) -> None:
        if not call.done():
            finish(call, False, error)


def _nothing() -> None:
    """Be called by a loop that has not ended."""


def _has_failed(call: Any) -> bool:
    return call.cancelled() or call.exception() is not None
