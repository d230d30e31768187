"""The one thread of a pool, and only where somebody asked for it.

It calls callbacks, and submits the rest of a `map_async` that is larger than the window.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import threading

from garrison._typing import TYPE_CHECKING
from garrison.errors import GarrisonError
from garrison.pool._results import Announced, MapResult
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from garrison import _core
    from garrison.pool._process_backend import Engine
    from garrison.pool._results import AsyncResult

__all__ = ["Herald"]

AT_ONCE = 512
"""Results waited for at the same time: tasks start in order, so the first ones end first."""


class Herald:
    """Waits for results in the background. Its thread starts with the first of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: list[AsyncResult] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def idle(self) -> bool:
        """Whether every callback has been called."""
        return not self._pending

    def announce(self, result: AsyncResult) -> None:
        """Watch a result until it is there."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="garrison-herald", daemon=True)
                # It waits for the lock and finds the result; if it cannot start, nothing is kept.
                thread.start()
                self._thread = thread
            self._pending.append(result)
        self._engine.nudge()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the thread, which ends when nothing is pending."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._thread = None
                    return
                watched = self._pending[:AT_ONCE]
            tickets = [ticket for ticket in map(_ticket, watched) if ticket is not None]
            try:
                if len(tickets) == len(watched):
                    self._engine.wait_some(tickets, LIVENESS_CHECK_INTERVAL_S)
            except GarrisonError as error:
                self._fail_all(error)
                continue
            for result in _in_order_of_ends(watched):
                self._look(result)

    def _look(self, result: AsyncResult) -> None:
        inner = result.inner if isinstance(result, Announced) else result
        try:
            over = inner.step() if isinstance(inner, MapResult) else inner.ready()
            if over and isinstance(result, Announced):
                result.deliver()
        except GarrisonError as error:
            over = True
            if isinstance(result, Announced):
                result.fail(error)
        except BaseException:
            over = True
            _show(sys.exc_info())
        if over:
            with self._lock, contextlib.suppress(ValueError):
                self._pending.remove(result)

    def _fail_all(self, error: GarrisonError) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
        for result in pending:
            if isinstance(result, Announced) and not result.inner.ready():
                result.fail(error)
            elif isinstance(result, Announced):
                self._look(result)


def _ticket(result: AsyncResult) -> _core.Ticket | None:
    """The task to wait for next; None if there is something to do already."""
    inner = result.inner if isinstance(result, Announced) else result
    if isinstance(inner, MapResult):
        head = inner.in_flight[0] if inner.in_flight else None
        return head[0] if head else None
    ticket: _core.Ticket = inner._ticket
    return ticket


def _in_order_of_ends(results: list[AsyncResult]) -> list[AsyncResult]:
    """Those with something to do, in the order in which their tasks ended."""
    tickets = ((result, _ticket(result)) for result in results)
    ended = [
        (0 if ticket is None else ticket.ended_at, result)
        for result, ticket in tickets
        if ticket is None or ticket.ended()
    ]
    return [result for _, result in sorted(ended, key=operator.itemgetter(0))]


def _show(info: tuple[object, ...]) -> None:
    kind, value, traceback = info
    args = threading.ExceptHookArgs((kind, value, traceback, threading.current_thread()))
    if kind is SystemExit:
        sys.stderr.write(f"a callback of a garrison pool called sys.exit({value}); ignored\n")
    else:
        threading.excepthook(args)
