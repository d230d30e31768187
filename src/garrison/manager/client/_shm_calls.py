"""Calls of a server's objects through shared memory, for the processes of its machine.

Each calling thread has a pair of queues in shared memory, and in the server a thread at the other
end. A call is one item put and one item taken, without a socket, an event loop or another thread.
The session's connection remains: when it ends, so does the server's thread; when the server ends,
waiting callers raise `ManagerLost`.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from queue import Empty

from garrison._os.process_watch import ProcessWatch
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ManagerLost
from garrison.net import Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.client._client import Client
    from garrison.sync import Queue

__all__ = ["SharedMemoryCaller"]

CHECK_INTERVAL_S = 0.2
"""Seconds between two checks whether the server is alive."""


def _process(server: int) -> ProcessWatch:
    try:
        return ProcessWatch(server)
    except ProcessLookupError:
        msg = f"the server, process {server}, has ended; the call was not carried out"
        raise ManagerLost(msg) from None


class SharedMemoryCaller:
    """A thread's pair of queues to a server."""

    def __init__(self, client: Client, server: int) -> None:
        self._pid = os.getpid()
        self.closed = True  # until it is complete
        # Late: the containers of this machine need no calls.
        from garrison.sync import Queue

        self._calls: Queue = Queue()
        self._answers: Queue = Queue()
        self._numbers = itertools.count(1)
        self._early: dict[int, tuple[Any, ...]] = {}
        self._awaited: set[int] = set()
        self._server = _process(server)
        self.closed = False
        client.ask(
            Verb.OPEN_SHM_CALLS,
            client.serialize((self._calls, self._answers)),
            threading.get_ident(),
        )

    def call(self, ident: str, method: str, payload: bytes) -> tuple[Any, ...]:
        """Call a method; return the fields of the reply.

        Raises
        ------
        ManagerLost
            If the server is gone.
        """
        number = next(self._numbers)
        self._awaited.add(number)
        try:
            self._calls.put((number, ident, method, payload))
            return self._answer(number)
        finally:
            self._awaited.discard(number)

    def _answer(self, number: int) -> tuple[Any, ...]:
        # A signal handler's call, within another, may have taken the other's reply.
        while number not in self._early:
            try:
                answered, *fields = self._answers.get(timeout=CHECK_INTERVAL_S)
            except Empty:
                self._check()
                continue
            if answered == number:
                return tuple(fields)
            if answered in self._awaited:
                self._early[answered] = tuple(fields)
        return self._early.pop(number)

    def _check(self) -> None:
        if self._server.has_ended() and self._answers.empty():
            msg = "the manager's server process has ended; this call may or may not have happened"
            raise ManagerLost(msg)

    def close(self) -> None:
        """End the server's thread. In a forked child the queues are the parent's."""
        if not self.closed and self._pid == os.getpid():
            self.closed = True
            self._calls.put(None)
            self._server.close()
            del self._calls, self._answers

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the interpreter's end this module is empty; the server notices the end of the session.
        if not is_finalizing():
            self.close()
