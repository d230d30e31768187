"""Tiny tasks that are awaited, against `run_in_executor` of the standard library's pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import harness
import tasks
from harness import BASELINE, SUBJECT, WORKERS, Goal, Metric, Unsupported, Values

Begin = Callable[[Any], Awaitable[Any]]
MILLISECOND = 0.001


def turn(peer: str, quick: bool) -> Values:
    count = 2_000 if quick else 10_000
    if peer == SUBJECT:
        return asyncio.run(with_garrison(count))
    if peer == BASELINE:
        return asyncio.run(with_executor(count))
    raise Unsupported("it has no await")


async def with_garrison(count: int) -> Values:
    from garrison import aio

    async with aio.Pool(WORKERS) as pool:

        async def iterate() -> list[Any]:
            return [result async for result in pool.imap(tasks.nothing, range(count))]

        return await measure(lambda x: pool.apply(tasks.nothing, (x,)), iterate, count)


async def with_executor(count: int) -> Values:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(WORKERS) as executor:

        def begin(x: Any) -> Awaitable[Any]:
            return loop.run_in_executor(executor, tasks.nothing, x)

        async def iterate() -> list[Any]:
            futures = [begin(x) for x in range(count)]
            return [await future for future in futures]

        return await measure(begin, iterate, count)


async def measure(begin: Begin, iterate: Callable[[], Awaitable[Any]], count: int) -> Values:
    """All figures, of a pool that is warm."""
    await asyncio.gather(*(begin(x) for x in range(100)))
    ticker = asyncio.create_task(longest_gap())
    await asyncio.sleep(0)
    at_once = await timed(together(begin, count))
    ticker.cancel()
    gap = await ticker
    trips = min(count, 2_000)
    trip = await timed(one_by_one(begin, trips))
    iterated = await timed(checked(iterate, count))
    return {
        "at once": count / at_once / 1000,
        "round trip": trip / trips * 1e6,
        "async for": count / iterated / 1000,
        "longest gap": gap * 1e3,
    }


async def timed(work: Awaitable[None]) -> float:
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


async def together(begin: Begin, count: int) -> None:
    results = await asyncio.gather(*(begin(x) for x in range(count)))
    assert results == list(range(count))


async def one_by_one(begin: Begin, count: int) -> None:
    for x in range(count):
        assert await begin(x) == x


async def checked(iterate: Callable[[], Awaitable[Any]], count: int) -> None:
    assert await iterate() == list(range(count))


async def longest_gap() -> float:
    """The longest time that a coroutine which sleeps for a millisecond was late."""
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(MILLISECOND)
            now = time.perf_counter()
            longest, before = max(longest, now - before - MILLISECOND), now
    except asyncio.CancelledError:
        return longest


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="aio_calls",
            claim="10,000 awaits of a tiny task, against loop.run_in_executor",
            metrics=(
                Metric("at once", "k tasks/s", "higher", Goal("times", 8), Goal("times", 15)),
                Metric("round trip", "us", "lower", Goal("times", 1)),
                Metric("async for", "k items/s", "higher", Goal("times", 8)),
                Metric("longest gap", "ms", "lower", Goal("times", 1)),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            note="The gap is that of a ticking coroutine during the awaits at once; "
            "to begin 10,000 calls in one step is a part of it.",
        )
    )
