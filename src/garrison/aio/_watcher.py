"""How an event loop learns which tasks have ended.

::

    submit ──▶ Watcher.watch ──▶ RunningTasks ◀── one thread sleeps on them all
                                      │
    the loop: Call.set_result ◀── one message for all tasks that have ended meanwhile

A watcher belongs to one loop and one backend. Its thread starts with the first task that is waited
for, sleeps where every wait of the pool sleeps, and ends when there has been nothing to wait for
for a while. In the loop no code of it waits.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import Library, cancel_task, fail_with_pool, finish, outcome_of
from garrison.errors import GarrisonError, PoolTerminated

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Watcher", "watcher_of"]

MAX_WATCHED = 512
"""Tasks looked at together: they start in the order of their submission, so the first ones end
first, and a look takes as long as there are tasks."""
IDLE_S = 1.0
"""Seconds without a task after which the thread ends: to start one costs more than a small task."""
LARGE_RESULT = 1 << 18
"""Bytes of a pickle from which it is decoded in a thread."""


class Watcher:
    """Tells an event loop which tasks of a backend have ended."""

    def __init__(self, backend: Any, library: Library) -> None:
        self._backend, self.library = backend, library
        self._running = backend.running_tasks()
        self._window = MAX_WATCHED if isinstance(self._running, _core.RunningTasks) else 1 << 62
        self._backlog: deque[tuple[Any, Any]] = deque()
        self._changed = threading.Condition()
        self._gate = threading.Lock()
        """Held but for the moment in which the loop lets the thread go on."""
        self._gate.acquire()
        self._thread: threading.Thread | None = None
        self._idle = True
        self._stopped = False
        self._pending: set[Any] = set()
        """Calls that have no result yet, of the loop alone."""
        self._pid = os.getpid()

    # --- In the loop ----------------------------------------------------------------------------

    def result(self, result: Any) -> Any:
        """Return a call that gets the result of an `AsyncResult`; to cancel it cancels the task."""
        call = self.library.call()
        self._follow(result, call)
        return call

    def result_of_thread(self, submit: Callable[..., Any], *args: Any) -> Any:
        """As `result`, of an `AsyncResult` that a thread gets by calling `submit`."""
        call = self.library.call()

        def end(success: bool, value: Any) -> None:
            if not success:
                if not call.done():
                    finish(call, False, value)
            elif call.done():
                cancel_task(value)
            else:
                self._follow(value, call)

        self.library.start_thread(lambda: outcome_of(submit, *args), end)
        return call

    def _follow(self, result: Any, call: Any) -> None:
        call.result_from = result
        if result._outcome is None:
            self._add(result._task, call)
        else:
            self._settle(call)

    def settled(self, result: Any) -> Any:
        """Return a call that gets the result of an ended `AsyncResult`."""
        call = self.library.call()
        call.result_from = result
        self._settle(call)
        return call

    def ended(self, task: Any) -> Any:
        """Return a call that gets None when a task has ended."""
        call = self.library.call()
        self._add(task, call)
        return call

    def _add(self, task: Any, call: Any) -> None:
        self._pending.add(call)
        running = self._running
        if self._backlog or len(running) >= self._window:
            self._backlog.append((task, call))
        else:
            running.add(task, call)
        if self._idle:
            self._wake()
        elif task.ended():
            # Perhaps before it was watched: then nothing else tells the thread.
            self._backend.interrupt_waits()

    def _wake(self) -> None:
        with self._changed:
            self._idle = False
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="garrison-aio", daemon=True)
                thread.start()
                self._thread = thread
                _watchers[id(self._backend), self.library.loop] = self
            self._changed.notify()

    def _drain(self) -> None:
        """Settle the calls whose tasks have ended; the thread goes on when there are no more."""
        ended: list[Any] = []
        if self._refill() + self._running.collect(ended):
            self._settle_all(ended)
            # What others have to do in the loop comes first: more may have ended by then.
            self.library.soon(self._drain)
        else:
            self._gate.release()

    def _settle_all(self, calls: list[Any]) -> None:
        self._pending.difference_update(calls)
        for call in calls:
            if not call.done():
                self._settle(call)

    def _refill(self) -> bool:
        backlog, running = self._backlog, self._running
        refilled = False
        while backlog and len(running) < self._window:
            running.add(*backlog.popleft())
            refilled = True
        return refilled

    def _settle(self, call: Any) -> None:
        result = call.result_from
        if result is None:
            call.set_result(None)
            return
        if result._outcome is None and result._task.result_size >= LARGE_RESULT:
            self._settle_in_thread(call, result)
            return
        try:
            success, value = result._resolve()
        except BaseException as error:
            success, value = False, error
        finish(call, success, value)

    def _settle_in_thread(self, call: Any, result: Any) -> None:
        def take(success: bool, value: Any) -> None:
            if success:
                success, value = value
            if not call.done():
                finish(call, success, value)

        self.library.start_thread(lambda: outcome_of(result._resolve_gently), take)

    def _end(self, error: Exception) -> None:
        """No task will end any more."""
        self._fail_all(error)
        self._gate.release()

    def _finish(self) -> None:
        """The pool has ended, and the thread is gone."""
        ended: list[Any] = []
        self._running.collect(ended)
        self._settle_all(ended)
        self._fail_all(PoolTerminated("the pool has ended before this task was over"))

    def _fail_all(self, error: Exception) -> None:
        calls = [call for call in self._pending if not call.done()]
        self._pending.clear()
        self._backlog.clear()
        self._running = self._backend.running_tasks()
        for call in calls:
            result = call.result_from
            if result is not None and result._task.ended():
                self._settle(call)
            else:
                call.result_from = None
                fail_with_pool(call, type(error)(*error.args))

    def stop(self) -> None:
        """End the thread: the pool has ended. Calls without a result fail."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if os.getpid() == self._pid:
            self._backend.interrupt_waits()

    def join(self) -> None:
        """Wait for the thread to leave, after `stop`."""
        thread = self._thread
        if thread is not None and os.getpid() == self._pid:
            thread.join()

    # --- In the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._wait_for_tasks():
                self._serve()
            if self._stopped:
                self.library.post(self._finish)
        except RuntimeError:
            self._thread = None  # the loop has ended: nobody waits
        finally:
            _watchers.pop((id(self._backend), self.library.loop), None)

    def _wait_for_tasks(self) -> bool:
        """Sleep until there is a task; False if it is time to leave."""
        with self._changed:
            self._idle = True
            # A task that was added before that is seen here, one after it wakes this thread.
            while self._stopped or not (self._running or self._backlog):
                if self._stopped or not self._changed.wait(IDLE_S):
                    self._thread = None
                    return False
            self._idle = False
        return True

    def _serve(self) -> None:
        """Wait for the end of a task, and until the loop has seen all that have ended."""
        interrupts = self._backend.interrupts
        if self._stopped:
            return
        try:
            self._backend.wait_any(self._running, None, interrupts)
        except (GarrisonError, OSError) as error:
            self.library.post(self._end, error)
        else:
            self.library.post(self._drain)
        while not self._gate.acquire(timeout=IDLE_S):
            self.library.post(_nothing)  # it raises if the loop has ended


def _nothing() -> None:
    """Be called by a loop that has not ended."""


_watchers: dict[tuple[int, Any], Watcher] = {}
"""Those with a thread, which keeps the backend and the loop alive."""


def watcher_of(backend: Any, library: Library) -> Watcher:
    """Return the watcher of a backend and a loop."""
    found = _watchers.get((id(backend), library.loop))
    return Watcher(backend, library) if found is None else found
