"""The thread that moves `imap` iterators on while nobody reads them.

A consumer that reads does all that is to be done in its own thread; this one then only looks now
and then whether that is still so. It begins with the first iterator that is not fed at once, and
ends when there has been none for a while, or with the pool.
"""

from __future__ import annotations

import os
import threading
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError

if TYPE_CHECKING:
    from garrison.pool._imap_stream import Stream

__all__ = ["Advancer"]

LAG = 0.05
"""Seconds without a look at an iterator, after which it counts as unread."""
LONGEST = 0.1
"""Seconds between two looks while nothing happens at all."""
LINGER = 10
"""So often the thread looks in vain for another iterator: to start one, or to wake it, costs more
than a small `imap`."""


class Advancer:
    """Advances the iterators of one pool."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._streams: list[Stream] = []
        self._marks: dict[int, tuple[int, int]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._pid = os.getpid()

    def add(self, stream: Stream) -> None:
        """Look after an iterator until all of its input is worked on."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="garrison-advancer", daemon=True)
                # It waits for the lock and finds the stream; if it cannot start, nothing is kept.
                thread.start()
                self._thread = thread
            self._streams.append(stream)

    def stop(self) -> None:
        """Have the thread leave, and all that read an input: the pool has ended."""
        self._stopped = True
        if os.getpid() == self._pid:
            with self._changed:
                self._abandon_all()
                self._changed.notify_all()
            self._engine.nudge()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the thread to leave, after `stop`."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        pause = LAG
        while streams := self._wait_for_streams():
            try:
                busy = self._look_at(streams)
            except GarrisonError:
                # The pool has ended: those who read will be told.
                busy = False
                with self._changed:
                    self._abandon_all()
            pause = LAG if busy else min(2 * pause, LONGEST)
            if not busy:
                self._rest(pause)

    def _wait_for_streams(self) -> list[Stream]:
        """Return the streams that are not fed; none if it is time to leave."""
        with self._changed:
            for _ in range(LINGER):
                self._streams = [stream for stream in self._streams if not stream.fed]
                if self._streams or self._stopped:
                    break
                self._changed.wait(LONGEST)
            if self._stopped:
                self._abandon_all()
            if not self._streams:
                self._thread = None
            return list(self._streams)

    def _abandon_all(self) -> None:
        for stream in self._streams:
            stream.abandon()
        self._streams = []

    def _rest(self, seconds: float) -> None:
        with self._changed:
            if not self._stopped:
                self._changed.wait(seconds)

    def _look_at(self, streams: list[Stream]) -> bool:
        """Advance those that nobody has read since the last look; whether there is more to do."""
        marks = {id(stream): stream.mark for stream in streams}
        before, self._marks = self._marks, marks
        unread = [stream for stream in streams if before.get(id(stream)) == marks[id(stream)]]
        if not unread:
            # Somebody reads: look again before long.
            self._rest(LAG)
            return True
        done = [stream.advance() for stream in unread]
        if any(done):
            # Whoever waits for any of all results has more to wait for.
            self._engine.nudge()
            return True
        return self._await_any(unread)

    def _await_any(self, unread: list[Stream]) -> bool:
        """Wait a moment for the end of a task; whether there is anything to wait for."""
        tickets = [ticket for stream in unread for ticket in stream.tickets()]
        hesitant = [stream for stream in unread if stream.hesitates]
        if not tickets and not hesitant:
            return False
        deadline = time.monotonic() + (LAG if hesitant else LONGEST)
        if not self._engine.await_any(tickets, deadline, self._engine.nudges):
            for stream in hesitant:
                stream.separate()
        return True
