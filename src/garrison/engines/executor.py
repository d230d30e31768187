"""``engine=executor``: tasks run in a `concurrent.futures.Executor`, whatever that runs them on.

This is also the example of an engine of your own: docs/engines.md goes through it.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from functools import partial

from garrison.engines import Engine, PickledBackend, PoolSettings, Task, run_message
from garrison.errors import EngineLost
from garrison.options import Options

__all__ = ["OverExecutor"]


class OverExecutor(Engine):
    """Runs tasks in an executor, which stays as it was when the pool ends.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        A `ThreadPoolExecutor`, a `ProcessPoolExecutor`, an ``mpi4py.futures.MPIPoolExecutor``, ...

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from garrison import Pool
    >>> with ThreadPoolExecutor(2) as executor, Pool(engine=executor) as pool:
    ...     pool.map(str, range(3))
    ['0', '1', '2']
    """

    name: str = "executor"

    def __init__(self, executor: Executor) -> None:
        self.executor: Executor = executor

    def backend(self, settings: PoolSettings) -> ExecutorBackend:
        """Return a backend that has twice as many tasks in the executor as it has workers."""
        if settings.maxtasksperchild is not None:
            raise ValueError("maxtasksperchild: an executor replaces its workers as it likes")
        return ExecutorBackend(self.executor, settings)


class ExecutorBackend(PickledBackend):
    """Gives tasks to an executor as its workers get through them."""

    def __init__(self, executor: Executor, settings: PoolSettings) -> None:
        workers = settings.processes or getattr(executor, "_max_workers", None) or 1
        super().__init__(workers, settings.initializer, settings.initargs)
        self._executor = executor
        self._futures: set[Future[bytes]] = set()
        self._feeding = False

    def check_options(self, options: Options) -> None:
        """Refuse a timeout: no executor ends a running task."""
        super().check_options(options)
        if options.timeout is not None:
            raise ValueError("timeout: an executor cannot end a running task; use get(timeout=...)")

    # --- Tasks ------------------------------------------------------------------------------

    def _put(self, task: Task) -> Task:
        super()._put(task)
        self._feed()
        return task

    def _feed(self) -> None:
        """Give the executor tasks, unless a call of this is at it: it may be the caller."""
        with self.changed:
            if self._feeding:
                return
            self._feeding = True
        while (task := self._begin_next()) is not None:
            try:
                future = self._executor.submit(run_message, self.message(task))
            except RuntimeError as error:  # it was shut down, or its workers are gone
                self._lose(task, error)
                continue
            except BaseException:  # Ctrl-C: the task waits on
                with self.changed:
                    self._put_back([task])
                    self._feeding = False
                raise
            self._futures.add(future)
            future.add_done_callback(partial(self._ended, task))

    def _begin_next(self) -> Task | None:
        with self.changed:
            task = self._next() if self._running < 2 * self.parallelism else None
            self._feeding = task is not None
            return task

    def _ended(self, task: Task, future: Future[bytes]) -> None:
        """End a task; called in any thread."""
        self._futures.discard(future)
        if future.cancelled():
            return  # the pool was terminated
        error = future.exception()
        if error is None:
            self.finish(task, future.result())
        else:
            self._lose(task, error)
        self._feed()

    def _lose(self, task: Task, error: BaseException) -> None:
        lost = EngineLost(f"the executor has lost a task: {error!r}")
        self.lose(lost)
        self.fail(task, lost)

    # --- The end ----------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin no further task; what runs in the executor runs to its end."""
        super().stop()
        for future in list(self._futures):
            future.cancel()

    @property
    def busy(self) -> int:
        """Tasks that are at work, as far as an executor tells."""
        return min(self._running, self.parallelism)
