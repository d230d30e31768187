"""Results of a pool, awaited."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.aio._library import cancel_task, current
from garrison.aio._streams import AsyncIMapIterator, Feeder
from garrison.aio._watcher import Watcher, watcher_of
from garrison.pool import AsyncResult, MapResult

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["await_each", "await_map", "result_of"]

SMALL_MAP = 1000
"""Items of a map whose results are taken in the loop; those of more are taken in threads."""


def result_of(result: AsyncResult[Any]) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that waits for a result; to cancel it does not cancel the call.

    Raises
    ------
    RuntimeError
        If no event loop is running.
    """
    return _await(result, watcher_of(result._backend, current()))


async def _await(result: AsyncResult[Any], watcher: Watcher) -> Any:
    if isinstance(result, MapResult):
        return await _map_result(result, watcher)
    task = result._next_task()
    if task is None or result._outcome is not None or type(result) is not AsyncResult:
        # With callbacks, say: another thread completes it.
        return await watcher.library.in_thread(result.get)
    if not result.ready():
        await watcher.ended(task)
    return await watcher.settled(result)


async def await_map(result: MapResult[Any], watcher: Watcher) -> Any:
    """Wait for a map; if the wait is cancelled, its tasks are."""
    try:
        return await _map_result(result, watcher)
    except BaseException:
        cancel_task(result)
        raise


async def await_each(result: Any, watcher: Watcher) -> list[Any]:
    """Wait for a map whose items have an outcome each; if the wait is cancelled, its tasks are."""
    results: AsyncIMapIterator[Any] = AsyncIMapIterator(
        Feeder(watcher.library, result._iterator, None)
    )
    try:
        found = [each async for each in results]
    finally:
        await results.aclose()
    if result._error is not None:  # of the input
        raise result._error
    return found


async def _map_result(result: MapResult[Any], watcher: Watcher) -> Any:
    library = watcher.library
    large = result._items > SMALL_MAP
    while not (await library.in_thread(result.collect_ready) if large else result.collect_ready()):
        task = result._next_task()
        if task is not None and not task.ended():
            await watcher.ended(task)
    await library.pause()
    return result.get()
