"""`Pool`: a pool of processes whose results are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from types import FunctionType

from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._coroutine_calls import CoroutineCalls, is_coroutine_function
from garrison.aio._library import Library, cancel_task, current, is_closed
from garrison.aio._results import await_each, await_map
from garrison.aio._sizes import is_small
from garrison.aio._streams import AsyncIMapIterator, iterate
from garrison.aio._watcher import Watcher, watcher_of
from garrison.options import check_int
from garrison.pool import Pool as SyncPool
from garrison.pool.backends import PayloadKind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from types import TracebackType
    from typing import TypeVar, overload

    from typing_extensions import Self, Unpack

    from garrison.options import OptionValues

    T = TypeVar("T")

    class Call(Coroutine[Any, Any, T]):
        """What `apply` returns: a future of asyncio, or the like for trio."""

        def cancel(self, msg: Any = None) -> bool:
            """Cancel the task; return whether it had no result."""

        def done(self) -> bool:
            """Whether it has a result, or was cancelled."""

        def result(self) -> T:
            """Return the result of a call that is done, or raise its exception."""

    Items = Iterable[Any] | AsyncIterable[Any]

__all__ = ["Pool", "PoolWithOptions"]

CONCURRENCY = 100
"""Coroutines of one worker at a time, unless the program says otherwise."""
_COROUTINE_FLAG = 0x80


class TaskMethods:
    """The methods that take tasks: of a pool, and of a pool with other options."""

    _tasks: Any
    """The pool of the module above, or that with other options."""
    _calls: CoroutineCalls
    _watchers: dict[Any, Watcher]

    def _watcher(self) -> Watcher:
        """Return the watcher for the running loop."""
        try:
            return self._watchers[asyncio.get_running_loop()]
        except (RuntimeError, KeyError):
            return self._new_watcher()

    def _new_watcher(self) -> Watcher:
        """Return the watcher for a loop of trio, or for the first call in a loop."""
        library = current()
        found = self._watchers.get(library.loop)
        if found is None:
            for loop in [each for each in self._watchers if is_closed(each)]:
                del self._watchers[loop]
            self._calls.forget_closed_loops()
            found = self._watchers[library.loop] = watcher_of(self._tasks._backend, library)
        return found

    if TYPE_CHECKING:

        @overload
        def apply(
            self,
            func: Callable[..., Coroutine[Any, Any, T]],
            args: Iterable[Any] = (),
            kwds: Mapping[str, Any] = {},
        ) -> Call[T]: ...
        @overload
        def apply(
            self,
            func: Callable[..., T],
            args: Iterable[Any] = (),
            kwds: Mapping[str, Any] = {},
        ) -> Call[T]: ...

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
    ) -> Any:
        """Call ``func(*args, **kwds)`` in a worker; await its result.

        The call begins at once. What is returned is a future of the running loop, and stands where
        a coroutine is asked for, too. To cancel it cancels the task.

        Parameters
        ----------
        func : callable
            A function, or a coroutine function: of those a worker runs up to `concurrency` at a
            time, in one event loop.
        args, kwds
            The arguments.

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
        >>> import asyncio
        >>> from garrison import aio
        >>> async def main():
        ...     async with aio.Pool(2) as pool:
        ...         return await asyncio.gather(*(pool.apply(abs, (-x,)) for x in range(3)))
        >>> asyncio.run(main())
        [0, 1, 2]
        """
        watcher = self._watcher()
        call: Any
        if type(args) is not tuple:
            args = tuple(args)
        if type(func) is FunctionType:
            coroutine = func.__code__.co_flags & _COROUTINE_FLAG
        else:
            coroutine = is_coroutine_function(func)
        if coroutine:
            call = self._calls.call(watcher, self._tasks, func, args, kwds)
        elif (args and not is_small(args)) or (kwds and not is_small(kwds.values())):
            call = watcher.result_of_thread(self._tasks.apply_async, func, args, kwds)
        else:
            call = watcher.result(self._tasks.apply_async(func, args, kwds))
        return call

    async def map(
        self, func: Callable[[Any], Any], iterable: Items, chunksize: int | None = None
    ) -> list[Any]:
        """Apply `func` to each element and return the list of results, in order.

        The input may be an async iterable. It is read at once; if it is an ordinary one, by a
        thread.

        Raises
        ------
        Exception
            What the call for the first failed element raised.
        """
        found: list[Any] = await self._many(PayloadKind.ITEMS, func, iterable, chunksize)
        return found

    async def starmap(
        self, func: Callable[..., Any], iterable: Items, chunksize: int | None = None
    ) -> list[Any]:
        """Like `map`, but the elements are tuples of arguments."""
        found: list[Any] = await self._many(PayloadKind.STAR_ITEMS, func, iterable, chunksize)
        return found

    async def _many(
        self, kind: PayloadKind, func: Any, iterable: Any, chunksize: int | None
    ) -> Any:
        watcher = self._watcher()
        items = [each async for each in iterable] if _is_async(iterable) else iterable
        star = kind == PayloadKind.STAR_ITEMS
        if is_coroutine_function(func):
            return await self._calls.map(watcher, self._tasks, func, items, star=star)
        in_thread = watcher.library.in_thread
        if self._tasks._options.on_error != "raise":
            submit_each = self._tasks._many
            each = await in_thread(submit_each, func, items, kind, chunksize, undo=cancel_task)
            return await await_each(each, watcher)
        submit = self._tasks.starmap_async if star else self._tasks.map_async
        result = await in_thread(submit, func, items, chunksize, undo=cancel_task)
        return await await_map(result, watcher)

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Items,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> AsyncIMapIterator[Any]:
        """Return an async iterator of the results, in the order of the input; it may be endless.

        Parameters
        ----------
        func, iterable : callable, iterable or async iterable
            As for `map`. An async iterable is read in the running loop, as far ahead as results
            are wanted.
        chunksize, buffersize : int
            As for `garrison.Pool.imap`.

        Examples
        --------
        >>> import asyncio
        >>> from garrison import aio
        >>> async def main():
        ...     async with aio.Pool(2) as pool:
        ...         async for result in pool.imap(abs, [-1, 2]):
        ...             print(result)
        >>> asyncio.run(main())
        1
        2
        """
        results: AsyncIMapIterator[Any]
        results = self._iterate("imap", func, iterable, chunksize, buffersize)
        return results

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Items,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> AsyncIMapIterator[Any]:
        """Like `imap`, but each result comes as soon as it arrives."""
        results: AsyncIMapIterator[Any]
        results = self._iterate("imap_unordered", func, iterable, chunksize, buffersize)
        return results

    def _iterate(
        self, name: str, func: Any, iterable: Any, chunksize: int, buffersize: int | None
    ) -> Any:
        watcher = self._watcher()
        if is_coroutine_function(func):
            ahead = self._calls.most if buffersize is None else buffersize
            return self._calls.iterate(
                watcher, self._tasks, func, iterable, ahead, ordered=name == "imap"
            )
        method = getattr(self._tasks, name)
        return iterate(watcher.library, method, func, iterable, chunksize, buffersize)


class Pool(TaskMethods):
    """A pool of processes whose results are awaited.

    Parameters
    ----------
    *args, **kwds
        As for `garrison.Pool`, its options and `engine` too.
    concurrency : int
        How many coroutines of one worker run at a time.

    Notes
    -----
    The workers start when it is made. ``async with`` ends them as ``with`` of a `garrison.Pool`
    does: what has not ended by then never will. ``pool.close()`` and ``await pool.join()`` wait for
    all tasks.

    Examples
    --------
    >>> import asyncio
    >>> from garrison import aio
    >>> async def main():
    ...     async with aio.Pool(2) as pool:
    ...         return await pool.map(abs, [-1, 2, -3])
    >>> asyncio.run(main())
    [1, 2, 3]
    """

    def __init__(self, *args: Any, concurrency: int = CONCURRENCY, **kwds: Any) -> None:
        concurrency = check_int("concurrency", concurrency, least=1)
        self._pool = self._tasks = SyncPool(*args, **kwds)
        self._watchers = {}
        self._calls = CoroutineCalls(self._pool, concurrency)

    @property
    def pool(self) -> SyncPool:
        """The pool itself, for all that needs no waiting."""
        return self._pool

    def options(self, **changes: Unpack[OptionValues]) -> PoolWithOptions:
        """Return this pool with other options for tasks: ``pool.options(timeout=5).apply(f)``."""
        return PoolWithOptions(self, self._pool.options(**changes))

    def close(self) -> None:
        """Take no more tasks; the workers end when all submitted tasks are done."""
        self._calls.close()
        self._pool.close()

    async def join(self) -> None:
        """Wait for the workers to end, after `close` or `terminate`."""
        library = current()
        await self._calls.join(library)
        await library.in_thread(self._pool.join)
        await self._stop_watchers(library)

    async def terminate(self) -> None:
        """End all workers now, and wait for that. Missing results end with `PoolTerminated`."""
        library = current()
        self._calls.stop(library)
        try:
            await library.shielded(library.in_thread(self._pool.terminate))
        finally:
            await self._stop_watchers(library)

    async def _stop_watchers(self, library: Library) -> None:
        watchers = list(self._watchers.values())
        self._watchers.clear()
        for each in watchers:
            each.stop()
            await library.shielded(library.in_thread(each.join))

    async def __aenter__(self) -> Self:
        self._pool._check_running()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.terminate()

    def __repr__(self) -> str:
        return f"<aio {self._pool!r}>"


class PoolWithOptions(TaskMethods):
    """A pool with other options; made by `Pool.options`."""

    def __init__(self, pool: Pool, tasks: Any) -> None:
        self._pool, self._tasks = pool, tasks
        self._watchers, self._calls = pool._watchers, pool._calls

    def options(self, **changes: Unpack[OptionValues]) -> PoolWithOptions:
        """Return a view with these options changed too."""
        return PoolWithOptions(self._pool, self._tasks.options(**changes))

    def __repr__(self) -> str:
        return f"<aio {self._tasks!r}>"


def _is_async(iterable: Any) -> bool:
    return isinstance(iterable, AsyncIterable)
