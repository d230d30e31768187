"""Coroutine functions as tasks: many at once in a worker."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from garrison import PoolClosed, PoolTerminated, TaskTimeout, WorkerDied, aio

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


def test_an_item_that_comes_after_the_end_of_the_pool_logs_nothing() -> None:
    is_over = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        is_over.wait(60)
        yield 1

    async def main() -> None:
        unhandled: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unhandled.append(what))
        async with aio.Pool(1) as pool:
            results: Any = pool.imap(tasks.co_same, items())
            assert await results.__anext__() == 0
        is_over.set()
        await until(lambda: results._exhausted)
        results = None
        gc.collect()
        await asyncio.sleep(0)
        assert unhandled == []

    asyncio.run(main())


def test_a_pool_that_ends_before_its_coroutines_began_leaves_no_descriptor() -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            pool.apply(tasks.co_same, (1,))

    def descriptors_after_a_pool() -> int:
        asyncio.run(main())
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = [descriptors_after_a_pool() for _ in range(2)][-1]
    assert [descriptors_after_a_pool() for _ in range(5)][-1] == before


def test_a_failure_in_a_map_cancels_the_others(run: Run, tmp_path: Path) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            with pytest.raises(TypeError):
                await pool.map(tasks.co_forever, [0, str(tmp_path / "begun")])
            return await pool.apply(tasks.co_same, (1,))

    assert run(main) == 1


def test_a_coroutine_that_leaves_ends_no_other(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            beside = pool.apply(tasks.co_pid, (0.2,))
            await pool.apply(tasks.co_same, (1,))
            for timed in (pool, pool.options(timeout=60)):
                for error in (SystemExit, KeyboardInterrupt):
                    call = pool.apply(tasks.co_catch, (error,))
                    assert await call == repr(error(7))
                    with pytest.raises(error):
                        await timed.apply(tasks.co_raise, (error,))
            return await beside, await pool.apply(tasks.co_pid, (0,))

    pids = run(main)
    assert pids[0] == pids[1]


@pytest.mark.parametrize("source", [tasks.numbers, lambda count: iter(range(count))])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_a_cancelled_wait_for_a_result_loses_no_item(name: str, source: Any) -> None:
    async def main() -> list[int]:
        async with aio.Pool(1) as pool:
            results = getattr(pool, name)(tasks.co_same, source(100))
            found: list[int] = []
            while len(found) < 100:
                wait = asyncio.ensure_future(results.__anext__())
                await asyncio.sleep(0)
                if not wait.cancel():
                    found.append(wait.result())
                else:
                    with pytest.raises(asyncio.CancelledError):
                        await wait
                    found.append(await results.__anext__())
            with pytest.raises(StopAsyncIteration):
                await results.__anext__()
            return sorted(found)

    assert asyncio.run(main()) == list(range(100))


def test_the_error_of_an_input_comes_after_the_results_before_it(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            results = pool.imap(tasks.co_same, tasks.numbers_that_fail(3))
            found = [await results.__anext__() for _ in range(3)]
            with pytest.raises(LookupError):
                await results.__anext__()
            with pytest.raises(StopAsyncIteration):
                await results.__anext__()
            return found

    assert run(main) == [0, 1, 2]


@pytest.mark.parametrize("dropped", [False, True])
def test_an_imap_that_ends_early_cancels_its_calls_and_closes_its_input(
    dropped: bool, tmp_path: Path
) -> None:
    paths = [str(tmp_path / str(number)) for number in range(3)]
    closed = asyncio.Event()

    async def given() -> Any:
        try:
            for path in paths:
                yield path
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def main() -> None:
        async with aio.Pool(1) as pool:
            results = pool.imap(tasks.co_forever, given())
            wait = asyncio.ensure_future(results.__anext__())
            await until(lambda: len(list(tmp_path.iterdir())) == 3)
            wait.cancel()
            await asyncio.wait([wait])
            if dropped:
                del results, wait
                gc.collect()
            else:
                await results.aclose()
                assert closed.is_set()
            await until(lambda: len(list(tmp_path.glob("*.over"))) == 3)
            await closed.wait()

    asyncio.run(main())


def test_two_consumers_share_the_results(run: Run) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            for function in (tasks.co_same, tasks.same):
                results = pool.imap(function, tasks.numbers(50))
                found = [await results.__anext__()]
                async for each in results:
                    found.append(each)
                    try:
                        found.append(await results.__anext__())
                    except StopAsyncIteration:
                        break
                assert sorted(found) == list(range(50))

    run(main)


def test_a_loop_that_is_closed_with_coroutines_out_leaves_their_worker_free(
    tmp_path: Path,
) -> None:
    pool = aio.Pool(1)
    path = tmp_path / "begun"

    async def leave() -> None:
        pool.apply(tasks.co_forever, (str(path),))
        await until(path.exists)

    async def call_and_end() -> Any:
        async with pool:
            return await pool.apply(tasks.same, (3,))

    asyncio.run(leave())
    assert asyncio.run(call_and_end()) == 3
    assert (tmp_path / "begun.over").exists()


def test_a_call_whose_worker_dies_after_close_ends(tmp_path: Path) -> None:
    async def main() -> None:
        pool = aio.Pool(1, retries=1)
        call = pool.apply(tasks.co_die_when, (str(tmp_path / "begun"), str(tmp_path / "go")))
        await until((tmp_path / "begun").exists)
        pool.close()
        (tmp_path / "go").touch()
        with pytest.raises(PoolClosed):
            await call
        await pool.join()

    asyncio.run(main())
