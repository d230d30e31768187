"""The thread of an executor that ends futures with callbacks or other waiters.

It starts with the first of them, waits for all of them in the core at once, and sleeps on a lock
while there are none.
"""

from __future__ import annotations

import contextlib
import sys
import threading

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError

if TYPE_CHECKING:
    from garrison.executor._future import Future
    from garrison.executor._work import Work

__all__ = ["Watcher"]


class Watcher:
    """Waits for watched futures of one executor."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._backend = work.backend
        self._tasks: Any = self._backend.running_tasks()
        self._futures: set[Future[Any]] = set()
        self._changed = threading.Condition()
        self._ending = self._has_withdrawn = self._idle = False
        # Not daemonic: `work.finish` is called before the interpreter waits for such threads.
        self._thread = threading.Thread(target=self._run, name="garrison-executor", daemon=False)
        self._thread.start()

    def add(self, future: Future[Any]) -> None:
        """Watch a future."""
        task = future._call._task
        with self._changed:
            self._futures.add(future)
            self._tasks.add(task, future)
            self._changed.notify()
        # One that ends from now on wakes the thread by itself.
        if task.ended():
            self._backend.interrupt_waits()

    def notice_withdrawn(self) -> None:
        """Have the thread look for futures whose calls were withdrawn."""
        self._has_withdrawn = True
        self._backend.interrupt_waits()

    @property
    def busy(self) -> bool:
        """Whether it has futures that have not ended, or is at a callback."""
        with self._changed:
            return bool(self._futures) or not self._idle

    def stop(self) -> None:
        """Let the thread end once no future is left, and wait for it."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                interrupts = self._backend.interrupts
                ended = self._withdrawn()
                if not (self._tasks.collect(ended) or ended):
                    self._backend.wait_any(self._tasks, None, interrupts)
                    continue
            except GarrisonError as error:
                self._fail_all(error)
                continue
            for future in ended:
                self._futures.discard(future)
                _call(future.end_watched)
            # The next wait must not keep the last results.
            ended.clear()
            future = None  # type: ignore[assignment]

    def _withdrawn(self) -> list[Future[Any]]:
        if not self._has_withdrawn:
            return []
        self._has_withdrawn = False
        with self._changed:
            return [future for future in self._futures if future.is_withdrawn()]

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._idle = True
            while not self._futures:
                if self._ending:
                    return False
                self._changed.wait()
            self._idle = False
        return True

    def _fail_all(self, error: GarrisonError) -> None:
        """End all futures: those whose tasks have ended with their results."""
        self._work.note(error)
        with self._changed:
            futures, self._futures = self._futures, set()
            self._tasks = self._backend.running_tasks()
        for future in futures:
            if future._call._task.ended():
                _call(future.end_watched)
            else:
                _call(lambda future=future: future.fail(error))


def _call(end: Any) -> None:
    """End a future; a callback that raises no `Exception` must not end the thread."""
    try:
        end()
    except BaseException:
        with contextlib.suppress(Exception):
            args = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(args))
