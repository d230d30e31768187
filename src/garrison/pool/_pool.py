"""`Pool` and `ThreadPool`, from the start of their workers to the end."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import util

from garrison import _standard
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolClosed, PoolTerminated
from garrison.options import Options, check_int
from garrison.pool._callbacks import CallbacksInCaller, CallbackThread
from garrison.pool._imap_advancer import Advancer
from garrison.pool._stdlib_names import (
    CLOSE,
    RUN,
    TERMINATE,
    Insides,
    StandardPool,
    hide,
)
from garrison.pool._task_methods import PoolWithOptions, TaskMethods, raise_not_callable
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Unpack

    from garrison.options import OptionValues
    from garrison.pool._backend import Backend
    from garrison.pool._imap_stream import ResultStream
    from garrison.pool._logs import LogReader
    from garrison.pool._map_results import MapResult
    from garrison.pool._progress import Bar
    from garrison.pool._statistics import Statistics

    P = TypeVar("P", bound="BasePool")

__all__ = ["BasePool", "Pool"]

CALLBACK_GRACE_S = 1.0
"""Seconds that a callback has to return at the end of the program."""
MAX_PROCESSES = 4096
"""The most workers of a pool on this machine."""
PROCESSES = "processes"
"""The engine that needs no other."""
_FRESH = ("spawn", "forkserver")
"""Start methods under which a worker does not have the program's memory."""
_ENDED = {CLOSE: "closed", TERMINATE: "terminated"}


class BasePool(TaskMethods, Insides):
    """The life of a pool, with any backend."""

    _maxtasks: int | None = None
    _log: LogReader | None = None

    def __init__(self, backend: Backend, options: Options) -> None:
        backend.check_options(options)
        self._check_state(options)
        self._backend = backend
        self._options = options
        self._plain_call = backend.plain_calls(options)
        self._choose_result_types()
        self._callbacks = (CallbacksInCaller if backend.runs_in_caller else CallbackThread)(backend)
        self._advancer = Advancer(backend)
        self._pending_readers: list[ResultStream | MapResult[Any]] = []
        self._backend_closed = False
        self._readers_lock = threading.RLock()
        self._bars: weakref.WeakSet[Bar] = weakref.WeakSet()
        self._pid = os.getpid()
        self._state = RUN
        helpers = (self._callbacks, self._advancer)
        # Before anything is started: an interrupted start is cleaned up too. The priority is that
        # of the standard library's pools, before any child is waited for.
        args = (backend, helpers, self._pid)
        self._finalizer = util.Finalize(self, _stop_at_exit, args, exitpriority=15)
        try:
            backend.start()
        except BaseException:
            self._state = TERMINATE
            _stop(backend, self._pid)
            self._finalizer.cancel()
            raise

        if options.logs:
            self._show_output()

    def _show_output(self) -> None:
        """Show what tasks write from now on, until the pool ends."""
        log = self._backend.show_output()
        if log is not None and self._log is None:
            self._log = log
            # After the pool, whose workers may write to its end.
            util.Finalize(self, log.close, exitpriority=14)

    @property
    def _pool_ref(self) -> BasePool:  # not an attribute: that were a cycle
        return self

    def options(self, **changes: Unpack[OptionValues]) -> PoolWithOptions:
        """Return this pool with other options for tasks.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.options(timeout=30, retries=2).map(abs, [-1, -2])
        [1, 2]
        """
        return PoolWithOptions(self, self._options.replace(**changes))

    def _check_state(self, options: Options) -> None:
        if options.pass_state and self._initializer is None:
            raise ValueError("pass_state: the state is what the initializer returns; there is none")

    def _check_running(self) -> None:
        if self._state != RUN:
            msg = f"Pool not running: it was {_ENDED[self._state]}; make a new one"
            raise PoolClosed(msg)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            msg = (
                f"this pool belongs to process {self._pid}, this is {os.getpid()}; "
                "make a pool of your own here"
            )
            raise PoolClosed(msg)

    # --- The end --------------------------------------------------------------------------

    @property
    def finalizer_values(self) -> list[Any]:
        """What the pool's `finalizer` has returned, in the order in which the workers began.

        All of it is there after `close` and `join`. If one has raised, its `Failure` is there. A
        worker that was killed, `terminate` included, has none.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2, initializer=list, finalizer=len, pass_state=True) as pool:
        ...     _ = pool.map(list.append, range(5))
        ...     pool.close()
        ...     pool.join()
        >>> sum(pool.finalizer_values)
        5
        """
        values: list[Any] = self._backend.finalizer_values()
        return values

    def close(self) -> None:
        """Take no more tasks; the workers end when all submitted tasks are done.

        Raises
        ------
        garrison.PoolClosed
            In another process than the one that made the pool.
        """
        self._check_process()
        if self._state == RUN:
            self._state = CLOSE
            self._close_when_submitted()

    def _track_reader(self, reader: ResultStream | MapResult[Any]) -> None:
        """Keep a result whose input is not submitted yet, even if the caller drops it."""
        if reader.is_fully_submitted:
            return
        with self._readers_lock:
            self._pending_readers = [
                *(each for each in self._pending_readers if not each.is_fully_submitted),
                reader,
            ]

    def _new_bar(self, progress: Any, function: Callable[..., Any], total: int | None) -> Bar:
        # Late, as for all options that few pools have.
        from garrison.pool._progress import new_bar

        bar = new_bar(progress, function, total)
        self._bars.add(bar)
        return bar

    def _on_reader_progress(self) -> None:
        """Note that some tasks of an iterator will not be submitted again."""
        if self._state == CLOSE:
            self._close_when_submitted()

    def _close_when_submitted(self) -> None:
        """Let the workers end once there will be no further task."""
        with self._readers_lock:
            self._pending_readers = [
                reader for reader in self._pending_readers if not reader.is_fully_submitted
            ]
            if self._state != CLOSE or self._backend_closed or self._pending_readers:
                return
        self._backend.close()
        self._backend_closed = True

    def terminate(self) -> None:
        """End all workers now. Waits for missing results end with `PoolTerminated`."""
        if self._pid != os.getpid():
            return
        self._state = TERMINATE
        self._advancer.stop()
        # Before a traceback is shown: a live bar would overwrite it.
        for bar in list(self._bars):
            bar.close()
        # Not the finalizer, which runs once: if an interrupt ends this call, the next must work.
        _stop(self._backend, self._pid)
        self._finalizer.cancel()
        self._callbacks.join()
        self._advancer.join()
        if self._log is not None:
            self._log.close()

    def join(self) -> None:
        """Wait for the workers to end. Call `close` or `terminate` first.

        Raises
        ------
        ValueError
            If the pool is still running.
        """
        self._check_process()
        if self._state == RUN:
            msg = "Pool is still running: call close() or terminate() before join()"
            raise ValueError(msg)
        with self._readers_lock:
            readers = list(self._pending_readers)
        for reader in readers:
            if self._state == CLOSE:
                # Another thread may terminate the pool meanwhile; then it is over as well.
                with contextlib.suppress(PoolTerminated):
                    reader.submit_all()
        self._close_when_submitted()
        while not self._backend.join(LIVENESS_CHECK_INTERVAL_S):
            pass
        self._callbacks.join()
        self._advancer.stop()
        self._advancer.join()
        if self._state == CLOSE:
            _stop(self._backend, self._pid)
            self._finalizer.cancel()
        if self._log is not None:
            self._log.close()

    def __enter__(self: P) -> P:
        self._check_running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()

    def __del__(
        self, _warn: Any = warnings.warn, _getpid: Any = os.getpid, _running: str = RUN
    ) -> None:
        """Warn of a pool that was not closed; its finalizer ends it.

        Names are bound here: at the end of an interpreter the module may be empty already.
        """
        if getattr(self, "_state", None) == _running and self._pid == _getpid():
            try:
                message = f"unclosed running multiprocessing pool {self!r}"
                _warn(message, ResourceWarning, source=self, stacklevel=2)
            except (AttributeError, TypeError):
                pass

    def __reduce__(self) -> Any:
        msg = "pool objects cannot be passed between processes or pickled"
        raise NotImplementedError(msg)


def _stop(backend: Backend, pid: int) -> None:
    if os.getpid() == pid:
        backend.stop()


def _stop_at_exit(backend: Backend, helpers: tuple[CallbackThread, Advancer], pid: int) -> None:
    _stop(backend, pid)
    if os.getpid() == pid:
        # No thread should be in the core when the interpreter ends.
        callbacks, advancer = helpers
        backend.interrupt_waits()
        advancer.stop()
        callbacks.join(CALLBACK_GRACE_S)
        advancer.join(CALLBACK_GRACE_S)


class Pool(BasePool, StandardPool):  # type: ignore[misc] # more exact types
    """A pool of processes that no loss can break.

    Parameters
    ----------
    processes : int, optional
        Number of workers; by default the number of processors that this process may use.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` in each worker before its first task.
    initargs : tuple
        Arguments of the initializer.
    maxtasksperchild : int, optional
        After so many tasks (a chunk counts as one) a worker is replaced by a fresh one.
    context : multiprocessing context, optional
        Decides the start method: fork, spawn or forkserver. An `engine` starts its workers itself.
    engine : str or object, optional
        What runs the tasks, if not processes of this machine: a name (``"serial"``, ``"threads"``,
        ``"interpreters"``, ``"ray"``, ``"dask"``), the address of a cluster, a
        `garrison.engines.Engine`, or an object that an engine works with. Without it, the
        environment variable ``GARRISON_ENGINE`` decides. See docs/engines.md.
    **options
        The fields of `Options`, for all tasks: ``Pool(2, timeout=5)``.

    Examples
    --------
    >>> from garrison import Pool
    >>> with Pool(2) as pool:
    ...     pool.map(lambda x: x**2, range(1, 11))
    [1, 4, 9, 16, 25, 36, 49, 64, 81, 100]
    """

    _backend: Any
    """A `Backend`."""
    _of_executor: bool = False
    """Whether it is an executor's: a task's `SystemExit` is its result, for example."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        engine: Any = None,
        **options: Unpack[OptionValues],
    ) -> None:
        wanted = Options(**options)
        if engine is None and "GARRISON_ENGINE" in os.environ:
            engine = _engine_of_program()
        local = engine is None or (isinstance(engine, str) and engine == PROCESSES)
        if processes is not None:
            most = MAX_PROCESSES if local else None
            processes = check_int("Number of processes", processes, least=1, most=most)
        if maxtasksperchild is not None:
            maxtasksperchild = _check_maxtasks(maxtasksperchild)
        if initializer is not None and not callable(initializer):
            raise_not_callable(initializer, "initializer")
        self._ctx = _standard.current_context() if context is None else context
        self._maxtasks = maxtasksperchild
        self._initializer, self._initargs = (initializer, tuple(initargs))
        if local:
            backend = self._process_backend(processes, wanted)
        else:
            backend = self._engine_backend(engine, processes, wanted)
        super().__init__(backend, wanted)
        # Some engines know how much room they have once they are started.
        self._processes = backend.parallelism if processes is None else processes

    def _process_backend(self, processes: int | None, wanted: Options) -> Backend:
        # Late: a program that only derives from this class, or has it in an annotation, does
        # without all that runs a pool.
        from garrison import _os
        from garrison.pool._process_backend import ProcessBackend
        from garrison.pool._seeds import Seeds

        if processes is None:
            processes = _os.usable_cpus()
        context = self._ctx
        method = context.get_start_method()
        if "numpy" in sys.modules and (method not in _FRESH or wanted.seed is not None):
            # Once here instead of once in each worker, where it is wanted for the seeds.
            importlib.import_module("numpy.random")
        seeds = Seeds(wanted.seed, inherited=method != "spawn")
        self.seed: int = seeds.seed
        make, plain = partial(self.Process, context), self.Process is Pool.Process
        start = (self._initializer, self._initargs)
        return ProcessBackend(
            processes,
            context,
            make,
            start,
            self._maxtasks,
            seeds,
            plain=plain,
            of_executor=self._of_executor,
            options=wanted,
        )

    def _engine_backend(self, engine: Any, processes: int | None, wanted: Options) -> Backend:
        from garrison.pool._seeds import Seeds

        # By its name: engines are a layer above, of which a usual program loads nothing.
        engines: Any = importlib.import_module("garrison.engines")
        self.seed = Seeds(wanted.seed, inherited=True).seed
        settings = engines.PoolSettings(
            processes,
            self._initializer,
            self._initargs,
            self._maxtasks,
            wanted,
            self.seed,
        )
        backend: Backend = engines.find_engine(engine).backend(settings)
        return backend

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - as the original
        """Return ``ctx.Process(*args, **kwds)``."""
        return ctx.Process(*args, **kwds)

    @property
    def _pool(self) -> list[Any]:
        members: list[Any] = self._backend.members()
        return members

    def _repopulate_pool(self) -> None:
        """Do nothing: the backend replaces workers by itself."""

    def statistics(self) -> Statistics:
        """The present state of the pool, as one frozen record.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.statistics().workers
        2
        """
        # Late: few programs ask.
        from garrison.pool._statistics import Statistics

        return Statistics(**self._backend.state())

    def __repr__(self) -> str:
        if getattr(self, "_state", None) is None:
            return f"<{type(self).__qualname__} not started>"
        if self._state == TERMINATE:
            return f"<{type(self).__qualname__} terminated>"
        now = self._backend.state()
        lost = f", {now['deaths']} lost" if now["deaths"] else ""
        closed = "closed, " if self._state == CLOSE else ""
        text = (
            f"{closed}{now['workers']} workers ({now['busy']} busy), {now['queued']} queued{lost}"
        )
        return f"<{type(self).__qualname__} {text}>"


def _engine_of_program() -> Any:
    engines: Any = importlib.import_module("garrison.engines")
    return engines.engine_of_program(os.environ)


def _check_maxtasks(value: Any) -> int:
    if not isinstance(value, int) or value <= 0:
        msg = f"maxtasksperchild must be a positive int or None, not {value!r}"
        raise ValueError(msg)
    return value


hide(Pool)
Pool.__module__ = "garrison.pool"
