"""Threads that run the methods of a server's objects: one for each thread of a client that calls.

A method may wait for ever, and may depend on its thread (as an `RLock` does). So each calling
thread has its own thread here, which ends after an idle minute. A client that does not call has
none. Their number is bounded, for each client and in all: thread numbers are the client's word.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING
from garrison.errors import GarrisonError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from garrison.net import Limits

    Job = Callable[[], None]

__all__ = ["CallThreads", "ThreadBudget", "TooManyThreads"]

IDLE = 60.0


class TooManyThreads(GarrisonError, RuntimeError):
    """A call would need another thread of the server than may be started."""


class ThreadBudget:
    """Counts the threads that run calls, for each client and in all. Safe to use from threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._by_client: Counter[Hashable] = Counter()
        self.total: int = 0
        """Threads of all clients."""

    def take(self, client: Hashable) -> None:
        """Count another thread of a client, or raise `TooManyThreads`."""
        limits = self._limits
        with self._lock:
            mine = self._by_client[client]
            if mine >= limits.threads_per_client or self.total >= limits.max_threads:
                raise TooManyThreads(
                    f"this client's calls use {mine} threads of the server, and those of all "
                    f"clients {self.total}; at most {limits.threads_per_client} and "
                    f"{limits.max_threads} may (Limits.threads_per_client, max_threads): "
                    "call from fewer threads"
                )
            self._by_client[client] += 1
            self.total += 1

    def give_back(self, client: Hashable) -> None:
        """Note that a thread of a client has ended."""
        with self._lock:
            self.total -= 1
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]


@dataclass(eq=False)
class _CallThread:
    client: Hashable
    number: Hashable
    jobs: queue.SimpleQueue[Job | None] = field(default_factory=queue.SimpleQueue)
    counted: bool = True
    """Whether it still counts: not if it was idle and has been told to end."""


class CallThreads:
    """The threads of a server, by client and number of its thread."""

    def __init__(self, budget: ThreadBudget, idle: float = IDLE) -> None:
        self._budget = budget
        self._idle_s = idle
        self._threads: dict[tuple[Hashable, Hashable], _CallThread] = {}
        self._idle: dict[_CallThread, None] = {}
        """The longest idle first."""
        self._lock = threading.Lock()

    def run(self, client: Hashable, number: Hashable, job: Job) -> None:
        """Queue a job for the thread of a client's thread, or raise `TooManyThreads`."""
        with self._lock:
            thread = self._threads.get((client, number))
            if thread is None:
                thread = self._threads[client, number] = self._start(client, number)
            self._idle.pop(thread, None)
            thread.jobs.put(job)

    def _start(self, client: Hashable, number: Hashable) -> _CallThread:
        try:
            self._budget.take(client)
        except TooManyThreads:
            if not self._end_an_idle_thread(client):
                raise
            self._budget.take(client)
        thread = _CallThread(client, number)
        try:
            threading.Thread(target=self._work, args=(thread,), daemon=True).start()
        except BaseException:
            self._budget.give_back(client)
            raise
        return thread

    def _end_an_idle_thread(self, client: Hashable) -> bool:
        """End the longest idle thread, of this client if there is one."""
        mine = (each for each in self._idle if each.client == client)
        found = next(mine, None) or next(iter(self._idle), None)
        if found is None:
            return False
        self._forget(found)
        self._stop_counting(found)
        found.jobs.put(None)
        return True

    def _work(self, thread: _CallThread) -> None:
        try:
            while True:
                try:
                    job = thread.jobs.get(timeout=self._idle_s)
                except queue.Empty:
                    job = None
                if job is not None:
                    job()
                    del job  # it may keep arguments alive
                    self._note_idle(thread)
                elif self._leave(thread):
                    return
        finally:
            with self._lock:
                self._stop_counting(thread)

    def _note_idle(self, thread: _CallThread) -> None:
        with self._lock:
            if thread.jobs.empty() and self._is_known(thread):
                self._idle[thread] = None

    def _leave(self, thread: _CallThread) -> bool:
        with self._lock:
            # A job may have been queued since.
            if not thread.jobs.empty():
                return False
            self._forget(thread)
            return True

    def _is_known(self, thread: _CallThread) -> bool:
        return self._threads.get((thread.client, thread.number)) is thread

    def _forget(self, thread: _CallThread) -> None:
        self._idle.pop(thread, None)
        if self._is_known(thread):
            del self._threads[thread.client, thread.number]

    def _stop_counting(self, thread: _CallThread) -> None:
        if thread.counted:
            thread.counted = False
            self._budget.give_back(thread.client)

    def end(self, client: Hashable) -> None:
        """End the threads of a client, once their queued jobs are done."""
        with self._lock:
            for thread in [each for each in self._threads.values() if each.client == client]:
                self._forget(thread)
                thread.jobs.put(None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._threads)
