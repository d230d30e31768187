"""Coroutine functions as tasks: many at once in a worker."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from garrison import PoolTerminated, TaskTimeout, WorkerDied, aio

from . import tasks
from .conftest import until

if TYPE_CHECKING:
    from .conftest import Run


def test_many_run_at_once_in_one_worker(run: Run, tmp_path: Path) -> None:
    async def main() -> Any:
        async with aio.Pool(1, concurrency=20) as pool:
            calls = [
                pool.apply(tasks.co_forever, (str(tmp_path / str(number)),)) for number in range(20)
            ]
            await until(lambda: len(list(tmp_path.iterdir())) == 20)
            for call in calls:
                call.cancel()
            return await pool.map(tasks.co_pid, [0.0] * 50)

    assert len(set(run(main))) == 1


def test_no_more_than_concurrency_run_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.Pool(1, concurrency=2) as pool:
            calls = [
                pool.apply(tasks.co_forever, (str(tmp_path / str(number)),)) for number in range(3)
            ]
            await until(lambda: len(list(tmp_path.iterdir())) == 2)
            calls[0].cancel()
            await until((tmp_path / "2").exists)
            assert (tmp_path / "0.over").exists()
            assert not (tmp_path / "1.over").exists()

    asyncio.run(main())


def test_a_call_that_is_cancelled_at_once_leaves_its_worker_free() -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            await pool.apply(tasks.co_same, (1,))
            for _ in range(20):  # a host is there, and reads both messages together
                pool.apply(tasks.co_pid, (60,)).cancel()
            return await pool.apply(tasks.same, (2,))

    assert asyncio.run(main()) == 2


def test_results_exceptions_and_kinds_of_functions(run: Run) -> None:
    async def by_value(x: int) -> int:
        await asyncio.sleep(0)
        return -x

    async def main() -> Any:
        async with aio.Pool(2) as pool:
            with pytest.raises(ValueError, match="no 1") as caught:
                await pool.apply(tasks.co_fail, (1,))
            assert isinstance(caught.value.__cause__, KeyError)
            return (
                await pool.apply(functools.partial(tasks.co_same, 1)),
                await pool.apply(by_value, (2,)),
                await pool.starmap(tasks.co_same, [(3,), (4,)]),
                [x async for x in pool.imap(tasks.co_same, range(300))],
                sorted([x async for x in pool.imap_unordered(tasks.co_same, tasks.numbers(300))]),
                [x async for x in pool.imap(tasks.co_same, iter([5]))],
            )

    everything = list(range(300))
    assert run(main) == (1, -2, [3, 4], everything, everything, [5])


def test_ordinary_tasks_run_when_the_coroutines_are_over(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            pids = [await pool.apply(tasks.co_pid, (0.0,)), await pool.apply(os.getpid)]
            pids.append(await pool.apply(tasks.co_pid, (0.0,)))
            return pids

    assert len(set(run(main))) == 1


def test_a_dead_worker_costs_each_of_its_coroutines_one_attempt(tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            calls = [pool.apply(tasks.co_forever, (str(tmp_path / name),)) for name in "abc"]
            again = pool.options(retries=1).apply(tasks.co_die_once, (str(tmp_path / "died"),))
            pid = await again
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error) for error in found] == [WorkerDied] * 3
            assert "co_forever('" in str(found[0])
            assert found[0].signal == signal.SIGKILL  # type: ignore[union-attr]
            assert pid != found[0].pid  # type: ignore[union-attr]

    asyncio.run(main())


def test_retries_on_exceptions_and_timeouts(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            with pytest.raises(TaskTimeout, match=r"longer than 0\.05 s"):
                await pool.options(timeout=0.05).apply(tasks.co_pid, (60,))
            with pytest.raises(ValueError, match="no 1"):
                await pool.options(retries=2, retry_on=ValueError).apply(tasks.co_fail, (1,))
            return await pool.options(timeout=60).apply(tasks.co_same, (1,))

    assert run(main) == 1


def test_the_end_of_the_pool_ends_coroutines(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            call = pool.apply(tasks.co_forever, (str(tmp_path / "begun"),))
            await until((tmp_path / "begun").exists)
        with pytest.raises(PoolTerminated):
            await call

    run(main)


def test_a_failure_in_a_map_cancels_the_others(run: Run, tmp_path: Path) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            with pytest.raises(TypeError):
                await pool.map(tasks.co_forever, [0, str(tmp_path / "begun")])
            return await pool.apply(tasks.co_same, (1,))

    assert run(main) == 1
