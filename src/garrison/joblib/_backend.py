"""joblib's contract of a backend over a pool of processes.

::

    submit            a batch → bytes, once per array → a task of the pool
    callback thread   a task has ended: joblib submits the next batch, the caller is woken
    get               the caller sleeps until its batch, or the first failure of any, is there
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import TimeoutError as MultiprocessingTimeout
from multiprocessing import current_process
from pickle import PickleBuffer, PicklingError

import joblib
from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    register_parallel_backend,
)

from garrison._typing import Any
from garrison.errors import GarrisonError, PoolBroken, PoolClosed, PoolTerminated
from garrison.joblib import _workers
from garrison.joblib._arrays import SharedArrays
from garrison.joblib._tasks import run_batch

__all__ = ["GarrisonBackend", "register"]

ABORT_GRACE_S = 0.2
"""Seconds that a running task has to clean up when its call ends early."""
_POOL_IS_GONE = (PoolBroken, PoolClosed, PoolTerminated)
_OWN_SETTINGS = frozenset(
    {"idle_worker_timeout", "initargs", "initializer", "retries", "start_method"}
)
_FROM_JOBLIB = frozenset(
    {"context", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose"}
)
"""What joblib hands to every backend."""


class _Job:
    """A batch that was submitted: what joblib keeps for it."""

    __slots__ = (
        *(
            "backend",
            "callback",
            "done",
            "dropped",
            "failed",
            "function",
            "kept",
            "result",
            "size",
            "task",
        ),
    )

    def __init__(
        self, backend: GarrisonBackend, batch: Any, callback: Callable[[_Job], object]
    ) -> None:
        self.backend = backend
        self.callback = callback
        self.size = len(batch)
        self.function = batch.items[0][0]
        self.kept: list[Any] = []
        """Shared memory that a worker will open."""
        self.done = self.failed = self.dropped = False
        self.result: Any = None
        self.task: Any = None

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the results: joblib calls this where it does not take them in the callback."""
        return self.backend.wait_for(self, timeout)


class GarrisonBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # joblib has no types
    """Runs the tasks of `joblib.Parallel` in a pool of garrison.

    It is made by ``parallel_config(backend="garrison")`` or ``Parallel(backend="garrison")``, and
    takes their other arguments.

    Parameters
    ----------
    inner_max_num_threads : int, optional
        Threads of OpenMP, BLAS and the like in each worker; by default each has its share of the
        processors.
    initializer, initargs : callable, tuple
        Called as ``initializer(*initargs)`` in each worker before its first task.
    idle_worker_timeout : float
        Seconds after which workers without a task end.
    start_method : str, optional
        ``"forkserver"``, ``"spawn"`` or ``"fork"``. By default ``JOBLIB_START_METHOD``, else
        ``"forkserver"``: after a fork of a program that has used OpenMP, OpenMP may wait for ever.
    retries : int
        How often a batch is tried again after its worker died.

    Examples
    --------
    >>> import garrison.joblib
    >>> from joblib import Parallel, delayed
    >>> Parallel(n_jobs=2, backend="garrison")(delayed(abs)(n) for n in (-1, 2, -3))
    [1, 2, 3]
    >>> garrison.joblib.shutdown()
    """

    supports_inner_max_num_threads = True
    supports_return_generator = True
    supports_timeout = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        _check_names(settings)
        self._settings = settings
        self.parallel: Any = None
        self._workers: Any = None
        self._pool: Any = None
        self._arrays = SharedArrays(None, None)
        self._jobs: set[_Job] = set()
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    @property
    def supports_retrieve_callback(self) -> bool:
        """Whether joblib takes results in the callback, and looks every 10 ms if there are some.

        Results in order are waited for instead: a call of short tasks takes a fraction of 10 ms.
        """
        return self.parallel is None or not self.parallel.return_ordered

    # --- From call to call ----------------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of workers; 1 in a worker, which has no workers of its own."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == 1:
            return 1
        if current_process().daemon:
            warnings.warn(
                "garrison-backed parallel loops cannot be called in a worker process, "
                'setting n_jobs=1; the backend "threading" can',
                stacklevel=3,
            )
            return 1
        return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
        **settings: Any,
    ) -> int:
        """Get workers for the calls of a `Parallel`; return their number."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        _check_names(settings)
        chosen = {**self._settings, **settings}
        method = chosen.get("start_method") or os.environ.get("JOBLIB_START_METHOD", "").strip()
        self.parallel = parallel
        self._arrays_of_call = partial(SharedArrays, max_nbytes, mmap_mode)
        self._retries = chosen.get("retries", 0)
        self._wanted = _workers.Settings(
            n_jobs,
            method or "forkserver",
            self._prepare_worker_env(n_jobs),
            chosen.get("initializer"),
            tuple(chosen.get("initargs", ())),
            300.0 if chosen.get("idle_worker_timeout") is None else chosen["idle_worker_timeout"],
        )
        self._acquire()
        return n_jobs

    def _acquire(self) -> None:
        self._workers = _workers.acquire(self._wanted)
        self._workers.calls.add(self)
        pool = self._workers.pool
        self._pool = pool.options(retries=self._retries) if self._retries else pool

    def start_call(self) -> None:
        """Begin a call: arrays may have changed since the last one."""
        self._arrays = self._arrays_of_call()
        self._failure = None

    def terminate(self) -> None:
        """Leave the workers to the next call."""
        self.reset_batch_stats()
        self._arrays = SharedArrays(None, None)
        workers, self._workers, self._pool = self._workers, None, None
        if workers is not None:
            workers.calls.discard(self)
            _workers.release(workers)

    # --- Batches --------------------------------------------------------------------------

    def submit(self, func: Any, callback: Callable[[_Job], object]) -> _Job:
        """Submit a batch. joblib calls this in the caller's thread, and in that of callbacks."""
        job = _Job(self, func, callback)
        self._jobs.add(job)
        try:
            data, buffers = self._encode(func)
            job.kept = self._arrays.take_used()
            job.task = self._pool.apply_async(
                run_batch,
                (data, *map(PickleBuffer, buffers or ())),
                callback=partial(self._end, job, False),
                error_callback=partial(self._end, job, True),
            )
        except Exception as error:
            self._end(job, True, error)
        return job

    apply_async = submit  # its name before joblib 1.5

    def _encode(self, batch: Any) -> Any:
        try:
            return self._workers.pool._backend.encode_call(batch, self._arrays.reducers)
        except (PicklingError, GarrisonError):
            raise
        except Exception as error:
            msg = f"could not pickle the task to send it to the workers: {error!r}"
            raise PicklingError(msg) from error

    def _end(self, job: _Job, failed: bool, result: Any) -> None:
        """Note the end of a batch. joblib's lock is taken first, as everywhere."""
        with self.parallel._lock:
            if job.dropped or job not in self._jobs:
                return
            self._jobs.discard(job)
            job.failed, job.result, job.kept = failed, result, []
            if failed:
                self._explain(job)
            if self.supports_retrieve_callback or not failed:
                job.callback(job)
        with self._changed:
            job.done = True
            if failed and self._failure is None:
                self._failure = result
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Fail all batches: the workers were ended, in another thread."""
        for job in tuple(self._jobs):
            if not job.done:
                self._end(job, True, error)

    def _explain(self, job: _Job) -> None:
        error = job.result
        if isinstance(error, _POOL_IS_GONE):
            self._workers.usable = False
        # The pool's note shows the pickle of the batch; the rest of it stays.
        notes = getattr(error, "__notes__", [])
        if notes and notes[-1].startswith("called with ("):
            name = getattr(job.function, "__qualname__", repr(job.function))
            tasks = "1 task" if job.size == 1 else f"{job.size} tasks"
            batch = f"in a batch of {tasks} of joblib that begins with {name}"
            notes[-1] = f"{batch}; {notes[-1].rpartition('); ')[2]}"

    def retrieve_result_callback(self, out: _Job) -> Any:
        """Return a batch's results, or raise what it raised."""
        result, out.result = out.result, None
        if out.failed:
            raise result
        return result

    def wait_for(self, job: _Job, timeout: float | None = None) -> Any:
        """Wait for a batch, or for the first failure of any."""
        with self._changed:
            if not self._changed.wait_for(partial(self._is_over, job), timeout):
                raise MultiprocessingTimeout
        if self._failure is not None:
            raise self._failure
        if not job.done:
            # joblib has stopped: the iterator of tasks has failed.
            self.parallel._raise_error_fast()
        return self.retrieve_result_callback(job)

    def _is_over(self, job: _Job) -> bool:
        return job.done or self._failure is not None or self.parallel._aborting

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel all tasks of the call. The workers stay, and other calls are not affected."""
        with self.parallel._lock:
            jobs, self._jobs = self._jobs, set()
            for job in jobs:
                job.dropped = True
        for job in jobs:
            if job.task is not None:
                job.task.cancel(grace=ABORT_GRACE_S)
        if ensure_ready and not self._workers.usable:
            self._workers.calls.discard(self)
            _workers.release(self._workers)
            self._acquire()


def _check_names(settings: dict[str, Any]) -> None:
    unknown = sorted(settings.keys() - _OWN_SETTINGS - _FROM_JOBLIB)
    if unknown:
        known = ", ".join(sorted(_OWN_SETTINGS))
        raise TypeError(f"the garrison backend has no setting {unknown[0]!r}; there are {known}")


def register() -> None:
    """Make ``backend="garrison"`` known to joblib. Importing `garrison.joblib` does it already.

    Examples
    --------
    >>> from garrison.joblib import register
    >>> register()
    """
    register_parallel_backend("garrison", GarrisonBackend)
