"""Threads that run the methods of a server's objects: one for each thread of a client that calls.

A method may wait for ever, and may depend on its thread (as an `RLock` does). So each calling
thread has its own thread here, which ends after an idle minute. A client that does not call has
none.
"""

from __future__ import annotations

import queue
import threading

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Job = Callable[[], None]

__all__ = ["CallThreads"]

IDLE = 60.0


class CallThreads:
    """The threads of a server, by caller."""

    def __init__(self, idle: float = IDLE) -> None:
        self._idle = idle
        self._jobs: dict[Hashable, queue.SimpleQueue[Job | None]] = {}
        self._lock = threading.Lock()

    def run(self, caller: Hashable, job: Job) -> None:
        """Queue a job for the thread of a caller."""
        with self._lock:
            jobs = self._jobs.get(caller)
            if jobs is None:
                jobs = self._jobs[caller] = queue.SimpleQueue()
                work = threading.Thread(target=self._work, args=(caller, jobs), daemon=True)
                work.start()
            jobs.put(job)

    def _work(self, caller: Hashable, jobs: queue.SimpleQueue[Job | None]) -> None:
        while True:
            try:
                job = jobs.get(timeout=self._idle)
            except queue.Empty:
                job = None
            if job is not None:
                job()
            elif self._leave(caller, jobs):
                return

    def _leave(self, caller: Hashable, jobs: queue.SimpleQueue[Job | None]) -> bool:
        with self._lock:
            # A job may have been queued since.
            if not jobs.empty():
                return False
            if self._jobs.get(caller) is jobs:
                del self._jobs[caller]
            return True

    def end(self, belongs: Callable[[Hashable], bool]) -> None:
        """End the threads of these callers, once their queued jobs are done."""
        with self._lock:
            for caller in [each for each in self._jobs if belongs(each)]:
                self._jobs.pop(caller).put(None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._jobs)
