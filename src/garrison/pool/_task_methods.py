"""The methods of pools that take tasks: `apply`, `map`, `imap` and their relatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from functools import partial
from itertools import repeat
from types import GeneratorType

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import SharedMemoryFull
from garrison.options import Options, check_int
from garrison.pool import _chunking
from garrison.pool._map_results import Chunk, MapResult
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._results import INTERRUPT_GRACE_S, AsyncResult
from garrison.pool._stdlib_names import RUN, StandardMapResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeVar

    from typing_extensions import Unpack

    from garrison.options import OptionValues
    from garrison.pool._backend import Backend, RegisteredFunction
    from garrison.pool._imap import IMapIterator, IMapUnorderedIterator
    from garrison.pool._pool import BasePool

    T = TypeVar("T")

__all__ = ["PoolWithOptions", "TaskMethods", "raise_not_callable"]

Callback = Callable[[Any], object] | None

LARGE_FUNCTION = 1 << 16
"""Bytes of a pickled function from which it is sent as rarely as possible."""
_CALL, _ARGS = PayloadKind.CALL, PayloadKind.ARGS  # a global is found faster than a member


class TaskMethods:
    """The methods that take tasks: of a pool, and of a pool with other options."""

    _backend: Backend
    _options: Options
    _plain_call: Callable[..., Any] | None
    """Submits the simplest calls: see `Backend.plain_calls`."""
    _result_type: Callable[..., Any] = AsyncResult
    """Makes the result of a single call."""
    _map_result_type: Callable[..., Any] = MapResult

    if TYPE_CHECKING:

        @property
        def _pool_ref(self) -> BasePool: ...

    # --- One call -------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> T:
        """Call ``func(*args, **kwds)`` in a worker and return its result.

        Raises
        ------
        Exception
            What the call raised.
        garrison.WorkerDied
            If the worker went away during the call.
        garrison.PoolClosed
            If the pool takes no more tasks.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.apply(pow, (2, 10))
        1024
        """
        result = self.apply_async(func, args, kwds)
        try:
            return result.get()
        except BaseException:
            # Ctrl-C, for example; if it is the call's own error there is nothing to cancel.
            result.cancel(grace=INTERRUPT_GRACE_S)
            raise
        finally:
            del result  # an exception's frames must not lead back to it

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult[T]:
        """Call ``func(*args, **kwds)`` in a worker; return its `AsyncResult` at once.

        Parameters
        ----------
        func, args, kwds
            The call.
        callback : callable, optional
            Called with the result, in a thread of the pool.
        error_callback : callable, optional
            Called with the exception if the call fails, in the same thread; not if the pool is
            terminated before.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     result = pool.apply_async(pow, (2, 10))
        ...     result.get(timeout=60)
        1024
        """
        pool = self._pool_ref
        if pool._state != RUN:
            pool._check_running()
        if not callable(func):
            func = _not_callable(func)
        backend, options = self._backend, self._options
        task: Any
        result: AsyncResult[T]
        plain = self._plain_call
        try:
            task = None if kwds or plain is None else plain(func, _ARGS, args)
            if task is None:
                function = backend.register(func, options)
                if kwds:
                    task = backend.submit(function, _CALL, (args, kwds), options)
                else:
                    task = backend.submit(function, _ARGS, args, options)
            result = self._result_type(pool, backend, task)
        except Exception as error:
            # A failure to send is the result of the call, as in the standard library.
            pool._check_process()
            if isinstance(error, SharedMemoryFull):
                raise
            result = self._result_type(pool, backend, None)
            result._outcome = result._failed(error)
        if callback is None and error_callback is None:
            return result
        return self._with_callbacks(result, callback, error_callback)

    def _choose_result_types(self) -> None:
        options = self._options
        if options.on_error != "return" and not options.logs:
            return
        # Late, as for all options that few pools have.
        from garrison.pool import _optional_results as results

        if not options.logs:
            self._result_type = results.ReturningResult
            return
        self._map_result_type = results.LoggedMapResult
        returns = options.on_error == "return"
        self._result_type = results.LoggedReturningResult if returns else results.LoggedResult

    def _with_callbacks(
        self, result: AsyncResult[T], callback: Callback, error_callback: Callback
    ) -> AsyncResult[T]:
        for each in (callback, error_callback):
            if each is not None and not callable(each):
                raise_not_callable(each, "a callback")
        # Late, as the iterators below: most programs do without.
        from garrison.pool._callback_results import CallbackMapResult, CallbackResult

        kind: Any = CallbackResult
        if isinstance(result, StandardMapResult):
            kind = CallbackMapResult
        watched: AsyncResult[T]
        watched = kind(result, self._pool_ref._callbacks, callback, error_callback)
        return watched

    # --- Many calls, all results ----------------------------------------------------------

    def map(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """Apply `func` to each element and return the list of results, in order.

        Parameters
        ----------
        func : callable
            Called with one element at a time.
        iterable : iterable
            All of it is read first.
        chunksize : int, optional
            Elements that a worker gets at once. Without it, chunks are large at first and small at
            the end, so that all workers end together.

        Raises
        ------
        Exception
            What the call for the first failed element raised. Chunks that had not begun when a call
            failed are withdrawn, and those that had are waited for.
        garrison.WorkerDied
            If a worker went away during a call that has no retries left.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.map(abs, [-1, 2, -3])
        [1, 2, 3]
        """
        return _get_or_cancel(self._many(func, iterable, PayloadKind.ITEMS, chunksize, stops=True))

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
        kind = PayloadKind.STAR_ITEMS
        return _get_or_cancel(self._many(func, iterable, kind, chunksize, stops=True))

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult[list[T]]:
        """Like `map`, but return an `AsyncResult` at once; callbacks as for `apply_async`.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     pool.map_async(abs, [-1, 2, -3]).get()
        [1, 2, 3]
        """
        result = self._many(func, iterable, PayloadKind.ITEMS, chunksize)
        return self._background(result, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult[list[T]]:
        """Like `starmap`, but return an `AsyncResult` at once; callbacks as for `apply_async`."""
        result = self._many(func, iterable, PayloadKind.STAR_ITEMS, chunksize)
        return self._background(result, callback, error_callback)

    def _background(
        self, result: MapResult[T], callback: Callback, error_callback: Callback
    ) -> AsyncResult[list[T]]:
        if callback is not None or error_callback is not None:
            return self._with_callbacks(result, callback, error_callback)
        has_bar = self._options.progress is not False and not self._backend.runs_in_caller
        if has_bar or not result.is_fully_submitted:
            # Perhaps no thread waits for it, so the pool's thread must submit the rest, or show how
            # much is done.
            self._pool_ref._callbacks.watch(result)
        return result

    def _many(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        kind: PayloadKind,
        chunksize: int | None,
        *,
        stops: bool = False,
    ) -> MapResult[T]:
        pool = self._pool_ref
        pool._check_running()
        if not callable(func):
            func = _not_callable(func)
        items, error = _read_all(iterable)
        if kind == PayloadKind.STAR_ITEMS:
            items = [tuple(item) if type(item) is GeneratorType else item for item in items]
        if chunksize is not None:
            chunksize = check_int("chunksize", chunksize, least=1)
        shown_size = chunksize or _chunking.equal_size(len(items), self._backend.parallelism)
        if self._options.on_error != "raise":
            each: Any = self._each(func, kind, items, error, max(1, shown_size))
            made: MapResult[T] = each
            return made
        chunks: Iterator[Chunk] = iter(())
        try:
            chunks = self._chunks(func, kind, items, chunksize)
        except Exception as failure:
            pool._check_process()
            error = error or failure
        result: MapResult[T]
        result = self._map_result_type(pool, self._backend, chunks, error, len(items), shown_size)
        result.begin(stops=stops)
        progress = self._options.progress
        if progress is not False:
            result.set_progress_bar(pool._new_bar(progress, func, len(items)))
        pool._track_reader(result)
        return result

    def _each(
        self,
        func: Callable[..., T],
        kind: PayloadKind,
        items: list[Any],
        error: Exception | None,
        chunksize: int,
    ) -> Any:
        """Return the result of a map whose failed items do not fail the others."""
        # Late, as for all options that few pools have.
        from garrison.pool._calls import StarCall
        from garrison.pool._each_map import EachMapResult
        from garrison.pool._imap import IMapIterator

        if kind == PayloadKind.STAR_ITEMS:
            func = StarCall(func)
        iterator = self._imap(IMapIterator, func, items, chunksize, None)
        pool = self._pool_ref
        return EachMapResult(pool, self._backend, iterator, error, len(items), chunksize)

    def _chunks(
        self, func: Callable[..., Any], kind: PayloadKind, items: list[Any], chunksize: int | None
    ) -> Iterator[Chunk]:
        """Return an iterator that submits a chunk at each step.

        A chunk that cannot be sent raises; the next step submits the next one.
        """
        function = self._backend.register(func, self._options)
        sizes = self._sizes(len(items), function) if chunksize is None else repeat(chunksize)
        chunks = _chunking.chunks(items, sizes)
        submit = partial(self._submit_chunk, func, function, kind)
        return map(submit, chunks)

    def _submit_chunk(
        self,
        func: Callable[..., Any],
        function: RegisteredFunction,
        kind: PayloadKind,
        chunk: list[Any],
    ) -> Chunk:
        items, plain = len(chunk), self._plain_call
        task = None if plain is None else plain(func, kind, chunk, items)
        if task is None:
            task = self._backend.submit(function, kind, chunk, self._options, items)
        return task, items, task.size

    def _sizes(self, items: int, function: RegisteredFunction) -> Iterator[int]:
        if self._pool_ref._maxtasks is not None or function.size > LARGE_FUNCTION:
            # A chunk is one task of a worker's lifetime, and a large function with a state is
            # unpickled for each: as many chunks as in the standard library.
            return repeat(max(1, _chunking.equal_size(items, self._backend.parallelism)))
        return _chunking.guided_sizes(items, self._backend.parallelism)

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
            As for `map`. An input with a length that is no iterator is processed to its end,
            even if the results are not read.
        chunksize : int
            Items that a worker gets at once.
        buffersize : int, optional
            How many items may be read ahead of the results handed out. By default an input without
            a length is read until 65,536 results, or 256 MB of them, are unread.

        Notes
        -----
        A list or the like is copied at the call. An input that may block is read by a thread; one
        without a length is read no further once the iterator is dropped.

        Examples
        --------
        >>> from itertools import count, islice
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     list(islice(pool.imap(abs, count(-2)), 4))
        [2, 1, 0, 1]
        """
        from garrison.pool._imap import IMapIterator

        results: IMapIterator[T] = self._imap(IMapIterator, func, iterable, chunksize, buffersize)
        return results

    def imap_unordered(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> IMapUnorderedIterator[T]:
        """Like `imap`, but yield each result as soon as it arrives.

        Examples
        --------
        >>> from garrison import Pool
        >>> with Pool(2) as pool:
        ...     sorted(pool.imap_unordered(abs, [-1, 2, -3]))
        [1, 2, 3]
        """
        from garrison.pool._imap import IMapUnorderedIterator

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
        pool = self._pool_ref
        pool._check_running()
        if not callable(func):
            func = _not_callable(func)
        chunksize = check_int("chunksize", chunksize, least=1)
        options = self._options
        if buffersize is not None:
            options = options.replace(buffersize=buffersize)
        pool._check_process()
        results = kind(pool, func, iterable, chunksize, options)
        try:
            if options.progress is not False:
                total = len(iterable) if isinstance(iterable, Sized) else None
                results.set_progress_bar(pool._new_bar(options.progress, func, total))
            if not results.stream.is_fully_submitted:
                pool._track_reader(results.stream)
                if not self._backend.runs_in_caller:
                    pool._advancer.add(results.stream)
        except KeyboardInterrupt:
            results.withdraw()
            raise
        return results


def _read_all(iterable: Iterable[Any]) -> tuple[list[Any], Exception | None]:
    """Return all items, and the error of a failed sized input, which becomes the result's."""
    items: list[Any] = []
    try:
        items.extend(iterable)
    except Exception as error:
        if not hasattr(iterable, "__len__"):
            raise
        return items, error
    return items, None


def _get_or_cancel(result: MapResult[T]) -> list[T]:
    try:
        return result.get()
    except BaseException:
        # Ctrl-C, for example: no other code has this result, so its tasks are not needed.
        result.withdraw()
        raise
    finally:
        del result  # an exception's frames must not lead back to it


def _not_callable(value: object) -> Callable[..., Any]:
    """Return a function that fails in the worker, as that call does in the standard library."""
    from garrison.pool._not_callable import NotCallable

    return NotCallable(value)


def raise_not_callable(value: object, what: str) -> None:
    msg = f"{what} must be callable, not {value!r}"
    raise TypeError(msg)


class PoolWithOptions(TaskMethods):
    """A pool with other options; made by `Pool.options`."""

    _pool_ref: BasePool

    def __init__(self, pool: BasePool, options: Options) -> None:
        if options.finalizer is not pool._options.finalizer:
            raise ValueError("finalizer is an option of a whole pool: Pool(..., finalizer=...)")
        pool._backend.check_options(options)
        pool._check_state(options)
        self._pool_ref, self._backend, self._options = pool, pool._backend, options
        self._plain_call = pool._backend.plain_calls(options)
        self._choose_result_types()
        if options.logs:
            pool._show_output()

    def options(self, **changes: Unpack[OptionValues]) -> PoolWithOptions:
        """Return a view with these options changed too."""
        return PoolWithOptions(self._pool_ref, self._options.replace(**changes))

    def __repr__(self) -> str:
        return f"<{self._pool_ref!r} with {self._options!r}>"
