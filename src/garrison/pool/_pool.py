"""`Pool`: the whole surface of `multiprocessing.Pool`, and options."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sized
from functools import partial
from inspect import isgenerator
from itertools import repeat
from multiprocessing import util
from typing import TypeVar

from garrison import _os, _standard
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolClosed, PoolTerminated, SharedMemoryFull
from garrison.options import Options, whole
from garrison.pool import _chunking, _encoding
from garrison.pool._callbacks import Herald
from garrison.pool._function_registry import NotCallable
from garrison.pool._imap import IMapIterator, IMapUnorderedIterator
from garrison.pool._imap_advancer import Advancer
from garrison.pool._process_backend import Engine
from garrison.pool._progress import Bar
from garrison.pool._results import Announced, AnnouncedMap, AsyncResult, Chunk, MapResult
from garrison.pool._seeds import Seeds
from garrison.pool._stdlib_names import CLOSE, RUN, TERMINATE, Insides, StandardPool, hide
from garrison.supervisor import LIVENESS_CHECK_INTERVAL_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from types import TracebackType

__all__ = ["Pool", "Statistics"]

T = TypeVar("T")
P = TypeVar("P", bound="BasePool")
Callback = Callable[[Any], object] | None


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What a pool does at the moment."""

    workers: int
    busy: int
    queued: int
    in_flight: int
    completed: int
    deaths: int
    retried: int
    supervisor_pid: int | None
    supervisors_lost: int
    worker_pids: tuple[int, ...]


class TaskMethods:
    """The methods that take tasks: the same for a pool and for a view of it with other options."""

    _home: Any
    _engine: Any
    _options: Options

    # --- One call -------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> T:
        """Call ``func(*args, **kwds)`` in a worker and return its result.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.apply(pow, (2, 10))
        1024
        """
        result: T = self.apply_async(func, args, kwds).get()
        return result

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Have ``func(*args, **kwds)`` called in a worker; the result comes with ``get()``.

        `callback` gets the result, `error_callback` the exception, in a thread of the pool.
        """
        home = self._home
        if home._state != RUN:
            home._check_running()
        if not callable(func):
            func = NotCallable(func)
        engine, options = self._engine, self._options
        try:
            if kwds:
                ticket = engine.submit(func, _encoding.CALL, (args, kwds), options)
            else:
                ticket = engine.submit(func, _encoding.ARGS, args, options)
            result = AsyncResult(home, engine, ticket)
        except Exception as error:
            # What cannot be sent is the outcome of the call, as with the standard library.
            home._check_process()
            if isinstance(error, SharedMemoryFull):
                raise
            result = AsyncResult(home, engine, None, (False, error))
        if callback is None and error_callback is None:
            return result
        return self._announced(result, callback, error_callback)

    def _announced(
        self, result: AsyncResult, callback: Callback, error_callback: Callback
    ) -> AsyncResult:
        for each in (callback, error_callback):
            if each is not None and not callable(each):
                _not_callable(each, "a callback")
        kind = AnnouncedMap if isinstance(result, MapResult) else Announced
        return kind(result, self._home._herald, callback, error_callback)

    # --- Many calls, all results ----------------------------------------------------------

    def map(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """Apply `func` to each element and return the list of results, in order.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.map(abs, [-1, 2, -3])
        [1, 2, 3]
        """
        return _finish(self._many(func, iterable, _encoding.MAP, chunksize))

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """Like `map`, but the elements are tuples of arguments.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.starmap(pow, [(2, 3), (3, 2)])
        [8, 9]
        """
        return _finish(self._many(func, iterable, _encoding.STARMAP, chunksize))

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Like `map`, but return an `AsyncResult` at once."""
        result = self._many(func, iterable, _encoding.MAP, chunksize)
        return self._background(result, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """Like `starmap`, but return an `AsyncResult` at once."""
        result = self._many(func, iterable, _encoding.STARMAP, chunksize)
        return self._background(result, callback, error_callback)

    def _background(
        self, result: MapResult, callback: Callback, error_callback: Callback
    ) -> AsyncResult:
        if callback is not None or error_callback is not None:
            return self._announced(result, callback, error_callback)
        if not result.fed:
            # Nobody may be waiting, so somebody must submit the rest.
            self._home._herald.announce(result)
        return result

    def _many(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        kind: int,
        chunksize: int | None,
    ) -> MapResult:
        home = self._home
        home._check_running()
        if not callable(func):
            func = NotCallable(func)
        items, error = _all_of(iterable)
        if kind == _encoding.STARMAP:
            items = [tuple(item) if isgenerator(item) else item for item in items]
        sizes: Iterator[int] = iter(())
        chunks: Iterator[Chunk] = iter(())
        if chunksize is not None:
            sizes = repeat(whole("chunksize", chunksize, least=1))
        try:
            sent = self._engine.announce(func, self._options)
            sizes = self._sizes(len(items), sent) if chunksize is None else sizes
            chunks = _Chunks(
                self._engine, sent, kind, _chunking.slices(items, sizes), self._options
            )
        except Exception as failure:
            home._check_process()
            error = error or failure
        told = chunksize or _chunking.even(len(items), self._engine.processes)
        result = MapResult(home, self._engine, chunks, error, len(items), told)
        if self._options.progress:
            result.show(self._home._new_bar(func, len(items)))
        home._keep(result)
        return result

    def _sizes(self, items: int, sent: Any) -> Iterator[int]:
        if self._home._lifetime is not None or sent.size > HEAVY:
            # A chunk counts as one task of a worker's lifetime, and a heavy function that has a
            # state is unpickled for each: as many chunks as in the standard library.
            return repeat(max(1, _chunking.even(items, self._engine.processes)))
        return _chunking.guided(items, self._engine.processes)

    # --- Many calls, results as they come -------------------------------------------------

    def imap(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> IMapIterator[T]:
        """Yield the results in the order of the input; it may be endless.

        Parameters
        ----------
        func, iterable : callable, iterable
            As for `map`. What has a length and is no iterator is worked on to its end though nobody
            reads the results.
        chunksize : int
            Items that a worker gets at once.
        buffersize : int, optional
            How many items may be read ahead of the results that were handed out. Without it, of an
            input without a length, as many as give 65,536 unread results or 256 MB of them.

        Notes
        -----
        A list and its like are taken as they are at the call. An input that may block is read by a
        thread; one without a length is read no further once the iterator was dropped in the middle.

        Examples
        --------
        >>> from itertools import count, islice
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     list(islice(pool.imap(abs, count(-2)), 4))
        [2, 1, 0, 1]
        """
        results: IMapIterator[T] = self._imap(IMapIterator, func, iterable, chunksize, buffersize)
        return results

    def imap_unordered(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> IMapUnorderedIterator[T]:
        """Like `imap`, but yield each result as soon as it is there."""
        kind = IMapUnorderedIterator
        results: IMapUnorderedIterator[T]
        results = self._imap(kind, func, iterable, chunksize, buffersize)
        return results

    def _imap(
        self,
        kind: Any,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
    ) -> Any:
        home = self._home
        home._check_running()
        if not callable(func):
            func = NotCallable(func)
        chunksize = whole("chunksize", chunksize, least=1)
        options = self._options
        if buffersize is not None:
            options = options.replace(buffersize=buffersize)
        home._check_process()
        results = kind(home, func, iterable, chunksize, options)
        if options.progress:
            total = len(iterable) if isinstance(iterable, Sized) else None
            results.show(home._new_bar(func, total))
        if not results.stream.fed:
            home._keep(results.stream)
            home._advancer.add(results.stream)
        return results


class _Chunks:
    """Chunks of a map, each submitted when it is asked for.

    One that cannot be sent raises; the next one follows all the same.
    """

    def __init__(
        self, engine: Any, sent: Any, kind: int, pieces: Iterator[list[Any]], options: Options
    ) -> None:
        self._engine, self._sent, self._kind = engine, sent, kind
        self._pieces, self._options = pieces, options

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> Chunk:
        piece = next(self._pieces)
        size = len(piece)
        ticket = self._engine.submit_known(self._sent, self._kind, piece, self._options, size)
        return ticket, size, ticket.size


def _all_of(iterable: Iterable[Any]) -> tuple[list[Any], Exception | None]:
    """All items, as they are now; what a sized input raises is an error of the result."""
    items: list[Any] = []
    try:
        items.extend(iterable)
    except Exception as error:
        if not hasattr(iterable, "__len__"):
            raise
        return items, error
    return items, None


def _finish(result: MapResult) -> list[Any]:
    try:
        return result.get()
    except BaseException:
        # Ctrl-C, say: nobody else knows this result, so nobody needs what has not begun.
        result.withdraw()
        raise


def _not_callable(value: object, what: str) -> None:
    msg = f"{what} must be callable, not {value!r}"
    raise TypeError(msg)


class View(TaskMethods):
    """A pool with other options; made by `Pool.options`."""

    def __init__(self, pool: BasePool, options: Options) -> None:
        self._home, self._engine, self._options = pool, pool._engine, options

    def options(self, **changes: Any) -> View:
        """Return a view with these options changed too."""
        return View(self._home, self._options.replace(**changes))

    def __repr__(self) -> str:
        return f"<{self._home!r} with {self._options!r}>"


class BasePool(TaskMethods, Insides):
    """What pools of processes and of threads have in common: their life."""

    _lifetime: int | None = None

    def __init__(self, engine: Any, options: Options) -> None:
        self._engine = engine
        self._options = options
        self._herald = Herald(engine)
        self._advancer = Advancer(engine)
        self._unfed: list[Any] = []
        self._fed = False
        self._feeding = threading.RLock()
        self._bars: weakref.WeakSet[Bar] = weakref.WeakSet()
        self._pid = os.getpid()
        self._state = RUN
        helpers = (self._herald, self._advancer)
        # Before anything is started: whatever interrupts the start, somebody ends it.
        # At the priority of the standard library's pools, before any child is waited for.
        args = (engine, helpers, self._pid)
        self._finalizer = util.Finalize(self, _stop_at_exit, args, exitpriority=15)
        try:
            engine.start()
        except BaseException:
            self._state = TERMINATE
            _stop(engine, self._pid)
            self._finalizer.cancel()
            raise

    @property
    def _home(self) -> BasePool:  # not an attribute: that were a cycle
        return self

    def options(self, **changes: Any) -> View:
        """Return a view of this pool whose tasks have other options.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.options(timeout=30, retries=2).map(abs, [-1, -2])
        [1, 2]
        """
        return View(self, self._options.replace(**changes))

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

    def close(self) -> None:
        """Take no more tasks; the workers leave when all that were given are done."""
        self._check_process()
        if self._state == RUN:
            self._state = CLOSE
            self._close_if_fed()

    def _keep(self, feeder: Any) -> None:
        """Note what will become tasks, even if nobody keeps its result."""
        if feeder.fed:
            return
        with self._feeding:
            self._unfed = [*(each for each in self._unfed if not each.fed), feeder]

    def _new_bar(self, function: Callable[..., Any], total: int | None) -> Bar:
        bar = Bar(function, total)
        self._bars.add(bar)
        return bar

    def _note_settled(self) -> None:
        """Some task of an iterator will not have to be submitted again."""
        if self._state == CLOSE:
            self._close_if_fed()

    def _close_if_fed(self) -> None:
        """Let the workers leave once nothing is left that could become a task."""
        with self._feeding:
            self._unfed = [feeder for feeder in self._unfed if not feeder.fed]
            if self._state != CLOSE or self._fed or self._unfed:
                return
        self._engine.close()
        self._fed = True

    def terminate(self) -> None:
        """End all workers now. Results that have not come yet never will: `PoolTerminated`."""
        if self._pid != os.getpid():
            return
        self._state = TERMINATE
        self._advancer.stop()
        # Before a traceback is shown: a bar that is still live would run through it.
        for bar in list(self._bars):
            bar.close()
        # Not the finalizer, which runs once: if an interrupt ends this call, the next must work.
        _stop(self._engine, self._pid)
        self._finalizer.cancel()
        self._herald.join()
        self._advancer.join()

    def join(self) -> None:
        """Wait for the workers to leave. Call `close` or `terminate` first.

        Raises
        ------
        ValueError
            If the pool is still running.
        """
        self._check_process()
        if self._state == RUN:
            msg = "Pool is still running: call close() or terminate() before join()"
            raise ValueError(msg)
        with self._feeding:
            feeders = list(self._unfed)
        for feeder in feeders:
            if self._state == CLOSE:
                # Another thread may terminate the pool meanwhile; then it is over as well.
                with contextlib.suppress(PoolTerminated):
                    feeder.pump()
        self._close_if_fed()
        while not self._engine.join(LIVENESS_CHECK_INTERVAL_S):
            pass
        self._herald.join()
        self._advancer.stop()
        self._advancer.join()
        if self._state == CLOSE:
            _stop(self._engine, self._pid)
            self._finalizer.cancel()

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
        """Warn of a pool that was forgotten; its finalizer ends it.

        What is needed is bound here: at the end of an interpreter the module may be empty already.
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


FAREWELL = 1.0
"""Seconds that a callback has to return at the end of the program."""
_ENDED = {CLOSE: "closed", TERMINATE: "terminated"}


def _stop(engine: Engine, pid: int) -> None:
    if os.getpid() == pid:
        engine.stop()


def _stop_at_exit(engine: Engine, helpers: tuple[Herald, Advancer], pid: int) -> None:
    _stop(engine, pid)
    if os.getpid() == pid:
        # No thread should be inside of the core when the interpreter goes away.
        herald, advancer = helpers
        engine.nudge()
        advancer.stop()
        herald.join(FAREWELL)
        advancer.join(FAREWELL)


class Pool(BasePool, StandardPool):  # type: ignore[misc] # a standard class
    """A pool of processes that no loss can break.

    Parameters
    ----------
    processes : int, optional
        Number of workers; by default as many as this process may use processors.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` in each worker before its first task.
    initargs : tuple
        Arguments of the initializer.
    maxtasksperchild : int, optional
        After so many tasks (a chunk counts as one) a worker is replaced by a fresh one.
    context : multiprocessing context, optional
        Decides the start method: fork, spawn or forkserver.
    **options
        The fields of `Options`, for all tasks: ``Pool(2, timeout=5)``.

    Examples
    --------
    >>> from garrison import Pool
    >>> with Pool(2) as pool:
    ...     pool.map(lambda x: x**2, range(1, 11))
    [1, 4, 9, 16, 25, 36, 49, 64, 81, 100]
    """

    _engine: Engine

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        **options: Any,
    ) -> None:
        wanted = Options().replace(**options)
        if processes is None:
            processes = _os.usable_cpus()
        processes = whole("Number of processes", processes, least=1, most=MOST)
        if maxtasksperchild is not None:
            maxtasksperchild = _lifetime(maxtasksperchild)
        if initializer is not None and not callable(initializer):
            _not_callable(initializer, "initializer")
        if context is None:
            context = _standard.current_context()
        self._ctx = context
        self._lifetime = maxtasksperchild
        start = self._initializer, self._initargs = (initializer, tuple(initargs))
        self._processes = processes
        if "numpy" in sys.modules:
            # Once here instead of once in each worker, where it is wanted for the seeds.
            importlib.import_module("numpy.random")
        make = partial(self.Process, context)
        seeds = Seeds(wanted.seed, inherited=context.get_start_method() != "spawn")
        self.seed = seeds.seed
        engine = Engine(processes, context, make, start, maxtasksperchild, seeds)
        super().__init__(engine, wanted)

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - as the original
        """Return ``ctx.Process(*args, **kwds)``."""
        return ctx.Process(*args, **kwds)

    @property
    def _pool(self) -> list[BaseProcess]:
        return self._engine.workers.all()

    def _repopulate_pool(self) -> None:
        """Do nothing: the supervisor replaces workers by itself."""

    def statistics(self) -> Statistics:
        """What the pool does at the moment, as one frozen record."""
        engine = self._engine
        slots = [engine.table.slot(slot) for slot in range(self._processes)]
        there = engine.supervisor.pid is not None
        alive = [slot for slot in slots if there and slot["pid"] and not slot["over"]]
        return Statistics(
            workers=len(alive),
            busy=sum(slot["cell"] is not None for slot in alive),
            queued=engine.table.waiting,
            in_flight=engine.parent.in_use,
            completed=engine.parent.completed,
            deaths=engine.table.losses,
            retried=engine.table.retried,
            supervisor_pid=engine.supervisor.pid,
            supervisors_lost=engine.supervisor.replaced,
            worker_pids=tuple(slot["pid"] for slot in alive),
        )

    def __repr__(self) -> str:
        if getattr(self, "_state", None) is None:
            return f"<{type(self).__qualname__} not started>"
        if self._state == TERMINATE:
            return f"<{type(self).__qualname__} terminated>"
        now = self.statistics()
        lost = f", {now.deaths} lost" if now.deaths else ""
        closed = "closed, " if self._state == CLOSE else ""
        text = f"{closed}{now.workers} workers ({now.busy} busy), {now.queued} queued{lost}"
        return f"<{type(self).__qualname__} {text}>"


HEAVY = 1 << 16
"""Bytes of a pickled function from which on it is not sent more often than need be."""
MOST = 4096
"""Workers of one pool: beyond this it is a mistake, or a cluster."""


def _lifetime(value: Any) -> int:
    if not isinstance(value, int) or value <= 0:
        msg = f"maxtasksperchild must be a positive int or None, not {value!r}"
        raise ValueError(msg)
    return value


hide(Pool)


for _public in (Pool, Statistics):
    _public.__module__ = "garrison.pool"
