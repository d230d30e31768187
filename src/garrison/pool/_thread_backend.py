"""Threads of this process as the backend of a pool. Nothing is pickled."""

from __future__ import annotations

import threading
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._task_backend import TaskBackend, refuse_timeout, run_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.options import Options

__all__ = ["ThreadBackend"]


class ThreadBackend(TaskBackend):
    """Runs tasks in threads."""

    def __init__(
        self,
        threads: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        options: Options | None = None,
    ) -> None:
        super().__init__(threads)
        self._options = options
        self._start = (initializer, initargs)
        self.threads: list[threading.Thread] = [
            threading.Thread(target=self._work, name=f"garrison-thread-{n + 1}", daemon=True)
            for n in range(threads)
        ]

    def members(self) -> list[Any]:
        """Return the threads."""
        return self.threads

    def check_options(self, options: Options) -> None:
        """Refuse a timeout: a thread cannot be ended from outside."""
        refuse_timeout(options, "a thread")

    def start(self) -> None:
        """Start the threads."""
        for thread in self.threads:
            thread.start()

    def _work(self) -> None:
        initializer, initargs = self._start
        try:
            state = None if initializer is None else initializer(*initargs)
        except BaseException as error:
            self._break(error)
            return
        while (task := self.next_task()) is not None:
            function, kind, value, options = task.job
            result = run_call(function, kind, value, options, state=state)
            del function, value
            with self.changed:
                self._end(task, result)
                self.changed.notify_all()
            del task, result
        if not self._terminating:
            number = self.threads.index(threading.current_thread())
            self.finalize(self._options, number, state)

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end; True when they have.

        This waits for functions of the user too, also after `stop`: as in the standard library, the
        caller may free what they use once the pool is joined. Running functions run to their end.
        """
        end = time.monotonic() + seconds
        for thread in self.threads:
            left = max(0.0, end - time.monotonic())
            if thread is threading.current_thread():
                continue
            thread.join(left)
            if thread.is_alive():
                return False
        return True
