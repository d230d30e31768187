"""`Executor`: what `concurrent.futures.ProcessPoolExecutor` promises, over a garrison pool."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as StandardExecutor
from functools import partial
from itertools import islice

from garrison import _os, _standard
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolClosed
from garrison.executor._future import Future
from garrison.executor._work import Work, is_exiting
from garrison.options import Options, check_int
from garrison.pool import Pool
from garrison.pool.chunk_call import chunk_call

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from typing import ParamSpec, TypeVar

    from typing_extensions import Unpack

    from garrison.options import OptionValues

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = ["Executor", "ProcessPoolExecutor"]

_OF_POOLS = ("progress", "buffersize")
"""Options that mean nothing to single calls."""


class Executor(StandardExecutor):
    """An executor of processes that no loss can break.

    Everything of `concurrent.futures.ProcessPoolExecutor` is there, of the newest Python. A worker
    that dies costs the future of its call, and no other.

    Parameters
    ----------
    max_workers : int, optional
        Number of workers; by default the number of processors that this process may use.
    mp_context : multiprocessing context, optional
        Decides the start method. With `max_tasks_per_child` the default is ``"spawn"``.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` in each worker before its first call.
    initargs : tuple
        Arguments of the initializer.
    max_tasks_per_child : int, optional
        After so many calls a worker is replaced by a fresh one.
    cancel_running : bool
        Whether `Future.cancel` ends a call that a worker has begun: `garrison.TaskInterrupt` is
        raised in it, and a second later its worker is ended and replaced.
    engine : str or object, optional
        What runs the calls, as for `garrison.Pool`.
    **options
        Those of `garrison.Options`, for all calls, without `progress`, `buffersize` and
        ``on_error="skip"``.

    Examples
    --------
    >>> from garrison import Executor
    >>> with Executor(2) as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        cancel_running: bool = False,
        engine: Any = None,
        **options: Unpack[OptionValues],
    ) -> None:
        wanted = _check_options(options, has_state=initializer is not None)
        if max_workers is not None and check_int("max_workers", max_workers) <= 0:
            raise ValueError("max_workers must be greater than 0")
        if mp_context is None:
            mp_context = _default_context(fresh=max_tasks_per_child is not None)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            _check_lifetime(max_tasks_per_child, mp_context)
        self._max_workers: int = _os.usable_cpus() if max_workers is None else max_workers
        self._mp_context: BaseContext = mp_context
        self._start_pool = partial(
            _ExecutorPool,
            max_workers if engine is not None else self._max_workers,
            initializer,
            initargs,
            max_tasks_per_child,
            mp_context,
            engine=engine,
            **options,
        )
        self._cancel_running = cancel_running
        self._retries, self._returns_failures = wanted.retries, wanted.on_error == "return"
        self._work: Work | None = None
        self._shut_down = False
        self._shutdown_lock = threading.Lock()

    # --- Calls ----------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call ``fn(*args, **kwargs)`` in a worker; return its future at once.

        Raises
        ------
        RuntimeError
            After `shutdown`, or at the end of the interpreter.
        concurrent.futures.process.BrokenProcessPool
            If no worker can start.
        """
        work = self._work
        if work is None:
            work = self._start()
        if work.closed:
            self._refuse()
        try:
            return work.submit(fn, args, kwargs)
        except PoolClosed:  # by another thread
            self._refuse()
            raise

    def _start(self) -> Work:
        """Start the workers, with the first call."""
        with self._shutdown_lock:
            if self._shut_down or is_exiting():
                self._refuse()
            if self._work is None:
                self._work = Work(self._start_pool(), cancel_running=self._cancel_running)
                self._finalizer = weakref.finalize(self, self._work.close)
                self._finalizer.atexit = False
        return self._work

    def _refuse(self) -> None:
        """Raise if there can be no more calls."""
        if self._broken:
            from garrison.executor._errors import error_of_future

            raise error_of_future(self._broken)
        if self._shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if is_exiting():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator of the results of ``map(fn, *iterables)``, in order.

        Parameters
        ----------
        fn : callable
            Takes as many arguments as there are iterables.
        *iterables : iterable
            Read to their end at once, unless there is a `buffersize`.
        timeout : float, optional
            Seconds from now for all results.
        chunksize : int
            Calls that a worker gets at once. With ``on_error="return"`` it gets one.
        buffersize : int, optional
            Tasks that may be submitted ahead of the results that were handed out.

        Raises
        ------
        TimeoutError
            If a result does not arrive in time.
        Exception
            What the call raised whose turn it is; what has not begun is cancelled.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else time.monotonic() + timeout
        calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize == 1 or self._returns_failures:
            return self._results(fn, calls, deadline, buffersize)
        chunks = _chunks(calls, chunksize)
        return _items(self._results(chunk_call(fn), chunks, deadline, buffersize))

    def _results(
        self,
        fn: Callable[..., Any],
        calls: Iterator[tuple[Any, ...]],
        deadline: float | None,
        buffersize: int | None,
    ) -> Iterator[Any]:
        """Submit what may be submitted now, and return an iterator that does the rest."""
        futures = deque(self.submit(fn, *args) for args in islice(calls, buffersize))
        # The iterator must not keep the executor.
        more = None if buffersize is None else partial(_submit_next, weakref.ref(self), fn, calls)
        return _in_order(futures, more, deadline)

    # --- The end --------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the workers end when all that were submitted are over.

        Parameters
        ----------
        wait : bool
            Wait for that.
        cancel_futures : bool
            Cancel the calls that have not begun.
        """
        with self._shutdown_lock:
            self._shut_down = True
            work = self._work
        if work is None:
            return
        work.close()
        if cancel_futures:
            work.cancel_all()
        if wait:
            work.finish()
            # Its memory too, unless a future is still to be read.
            self._finalizer.detach()
            self._work = None

    def terminate_workers(self) -> None:
        """Send SIGTERM to the workers, whose calls end with `BrokenProcessPool`; cancel others."""
        self._force_shutdown(operation="terminate")

    def kill_workers(self) -> None:
        """Kill the workers, whose calls end with `BrokenProcessPool`; cancel others."""
        self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation: str) -> None:
        if operation not in {"terminate", "kill"}:
            raise ValueError(f"Unsupported operation: {operation!r}")
        processes = self._processes
        self.shutdown(wait=False, cancel_futures=True)
        if self._retries and self._work is not None:
            self._work.give_up()
        for process in processes.values():
            getattr(process, operation)()

    # --- What programs look at ------------------------------------------------------------

    @property
    def _processes(self) -> dict[int, BaseProcess]:
        """The workers, by their process numbers."""
        members = [] if self._work is None else self._work.backend.members()
        return {member.pid: member for member in members if isinstance(member.pid, int)}

    @property
    def _broken(self) -> Any:
        return self._work is not None and (self._work.broken or False)

    def __repr__(self) -> str:
        if self._work is None:
            return (
                f"<{type(self).__qualname__} {'shut down' if self._shut_down else 'not started'}>"
            )
        return f"<{type(self).__qualname__} {repr(self._work.pool).partition(' ')[2]}"


class _ExecutorPool(Pool):
    """The pool of an executor."""

    _of_executor = True


def _default_context(*, fresh: bool) -> BaseContext:
    context: BaseContext = _standard.current_context()
    return context.get_context("spawn") if fresh else context.get_context()


def _check_options(options: OptionValues, *, has_state: bool) -> Options:
    for name in _OF_POOLS:
        if name in options:
            raise TypeError(f"{name} is an option of pools, not of executors")
    wanted = Options(**options)
    if wanted.on_error == "skip":
        raise ValueError("on_error='skip' is for pools: each call has a future, which must end")
    if wanted.pass_state and not has_state:
        raise ValueError("pass_state: the state is what the initializer returns; there is none")
    return wanted


def _check_lifetime(calls: Any, context: BaseContext) -> None:
    if not isinstance(calls, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if calls <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if context.get_start_method() == "fork":
        # As in the standard library, which would fork replacements from a program with threads.
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
            "supply a different mp_context."
        )


# --- map ------------------------------------------------------------------------------------------


def _in_order(
    futures: deque[Future[Any]],
    more: Callable[[], Future[Any] | None] | None,
    deadline: float | None,
) -> Iterator[Any]:
    try:
        while futures:
            if more is not None and (another := more()) is not None:
                futures.append(another)
            # No name of it may be left while the caller has the result.
            left = None if deadline is None else deadline - time.monotonic()
            yield _result_or_cancel(futures.popleft(), left)
    finally:
        for future in futures:
            future.cancel()


def _result_or_cancel(future: Future[Any], timeout: float | None) -> Any:
    try:
        return future.result(timeout)
    finally:
        future.cancel()
        del future  # an exception's frames must not lead back to it


def _submit_next(
    executor: weakref.ref[Executor], fn: Callable[..., Any], calls: Iterator[tuple[Any, ...]]
) -> Future[Any] | None:
    submitting = executor()
    if submitting is None:
        return None
    for args in calls:
        return submitting.submit(fn, *args)
    return None


def _chunks(calls: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while chunk := tuple(islice(calls, size)):
        yield (chunk,)


def _items(chunks: Iterator[list[Any]]) -> Iterator[Any]:
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


Executor.__module__ = "garrison.executor"
ProcessPoolExecutor = Executor
