"""Sessions whose requests take long: all of them share one turn of the event loop.

A session that uses up its turn is deferred. Its requests then run in the order of arrival, in turns
with other deferred sessions, until a turn of its is short again. All other sessions are served at
once, between two turns of the deferred ones.
"""

from __future__ import annotations

import time
from collections import deque

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.server._store_session import StoreSession
    from garrison.net import EventLoop

__all__ = ["DeferredSessions"]


class DeferredSessions:
    """The sessions to be continued, the longest waiting first.

    Parameters
    ----------
    loop
    serve : callable
        Carries out requests of a session for one turn at most.
    """

    def __init__(self, loop: EventLoop, serve: Callable[[StoreSession], None]) -> None:
        self._loop = loop
        self._serve = serve
        self._queue: deque[StoreSession] = deque()
        self._is_due = False

    def add(self, session: StoreSession) -> None:
        """Continue a session in a later turn of the loop."""
        if session not in self._queue:
            self._queue.append(session)
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(0, self._run)

    def _run(self) -> None:
        """Continue sessions until the time of one turn is over."""
        self._is_due = False
        end = time.monotonic() + self._loop.limits.turn_s
        count = len(self._queue)  # those that are added meanwhile have had their turn
        try:
            for _ in range(count):
                self._serve(self._queue.popleft())
                if time.monotonic() >= end:
                    break
        finally:
            if self._queue:
                self.add(self._queue[0])
