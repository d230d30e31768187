"""The thread that advances `imap` iterators that are not read.

A reading consumer does all the work in its own thread; this thread then only checks now and then
whether it still reads. It starts with the first iterator whose input is not submitted at once, and
ends when there has been none for a while, or with the pool.
"""

from __future__ import annotations

import os
import threading
import time

from garrison._typing import TYPE_CHECKING
from garrison.errors import GarrisonError
from garrison.pool._monitor import Monitor

if TYPE_CHECKING:
    from garrison.pool._backend import Backend
    from garrison.pool._imap_stream import ResultStream

__all__ = ["Advancer"]

UNREAD_AFTER_S = 0.05
"""An iterator without a reader for so long counts as unread."""
IDLE_CHECK_S = 0.1
"""Between two checks while nothing happens at all."""
IDLE_CHECKS = 10
"""Checks for another iterator before the thread ends: to start a thread costs more than a small
`imap`."""


class Advancer:
    """Advances the iterators of one pool."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._streams: list[ResultStream] = []
        self._marks: dict[int, tuple[int, int]] = {}
        self._changed = Monitor()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._pid = os.getpid()

    def add(self, stream: ResultStream) -> None:
        """Advance an iterator until all of its input is submitted."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="garrison-advancer", daemon=True)
                # It waits for the lock, then finds the stream; if it cannot start, nothing is kept.
                thread.start()
                self._thread = thread
            self._streams.append(stream)

    def stop(self) -> None:
        """End this thread and the threads that read an input: the pool has ended."""
        self._stopped = True
        if os.getpid() == self._pid:
            with self._changed:
                self._cancel_all()
                self._changed.notify_all()
            self._backend.interrupt_waits()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the thread to leave, after `stop`."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        pause = UNREAD_AFTER_S
        while streams := self._wait_for_streams():
            try:
                busy = self._advance_unread(streams)
            except GarrisonError:
                # The pool has ended: readers get the error.
                busy = False
                with self._changed:
                    self._cancel_all()
            pause = UNREAD_AFTER_S if busy else min(2 * pause, IDLE_CHECK_S)
            if not busy:
                self._rest(pause)

    def _wait_for_streams(self) -> list[ResultStream]:
        """Return the streams with input left to submit; none if it is time to leave."""
        with self._changed:
            for _ in range(IDLE_CHECKS):
                self._streams = [each for each in self._streams if not each.is_fully_submitted]
                if self._streams or self._stopped:
                    break
                self._changed.wait(IDLE_CHECK_S)
            if self._stopped:
                self._cancel_all()
            if not self._streams:
                self._thread = None
            return list(self._streams)

    def _cancel_all(self) -> None:
        for stream in self._streams:
            stream.cancel()
        self._streams = []

    def _rest(self, seconds: float) -> None:
        with self._changed:
            if not self._stopped:
                self._changed.wait(seconds)

    def _advance_unread(self, streams: list[ResultStream]) -> bool:
        """Advance the streams not read since the last check; return whether there is more to do."""
        marks = {id(stream): stream.mark for stream in streams}
        before, self._marks = self._marks, marks
        unread = [stream for stream in streams if before.get(id(stream)) == marks[id(stream)]]
        if not unread:
            # A consumer reads: check again before long.
            self._rest(UNREAD_AFTER_S)
            return True
        done = [stream.advance() for stream in unread]
        if any(done):
            # There are new tasks: a wait for any of them must be restarted.
            self._backend.interrupt_waits()
            return True
        return self._await_any(unread)

    def _await_any(self, unread: list[ResultStream]) -> bool:
        """Wait a moment for the end of a task; return whether there is a task to wait for."""
        tasks = [task for stream in unread for task in stream.tasks()]
        delaying = [stream for stream in unread if stream.delays_results]
        if not tasks and not delaying:
            return False
        deadline = time.monotonic() + (UNREAD_AFTER_S if delaying else IDLE_CHECK_S)
        watched = self._backend.running_tasks(tasks)
        if not self._backend.wait_any(watched, deadline, self._backend.interrupts):
            for stream in delaying:
                stream.split_batches()
        return True
