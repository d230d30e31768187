"""Calls, maps and iterators, on every kind of loop."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from garrison import PoolClosed, PoolTerminated, aio

from . import tasks

if TYPE_CHECKING:
    from .conftest import Run


def test_apply_returns_the_result(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(2) as pool:
            return [
                await pool.apply(pow, (2, 10)),
                await pool.apply(int, ("11",), {"base": 2}),
                await pool.apply(tasks.same, [(1, 2)]),
                await pool.apply(lambda: "by value"),
            ]

    assert run(main) == [1024, 3, (1, 2), "by value"]


def test_an_exception_keeps_its_cause_and_its_notes(run: Run) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            with pytest.raises(ValueError, match="no 7") as caught:
                await pool.apply(tasks.fail, (7,))
            assert isinstance(caught.value.__cause__, KeyError)
            if sys.version_info >= (3, 11):
                assert "a note" in caught.value.__notes__
            assert await pool.apply(tasks.same, (1,)) == 1

    run(main)


def test_a_task_that_raises_stop_iteration_fails(run: Run) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await pool.apply(tasks.stop_iteration)

    run(main)


def test_arguments_that_cannot_be_sent_fail_the_call(run: Run) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            with pytest.raises(TypeError):
                await pool.apply(tasks.same, (sys._getframe(),))

    run(main)


def test_map_and_starmap(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(2) as pool:
            return (
                await pool.map(abs, range(-2000, 0)),
                await pool.map(abs, (-x for x in range(3)), chunksize=1),
                await pool.map(tasks.same, tasks.numbers(5)),
                await pool.starmap(pow, [(2, 3), (3, 2)]),
            )

    expected = (list(range(2000, 0, -1)), [0, 1, 2], [0, 1, 2, 3, 4], [8, 9])
    assert run(main) == expected


def test_map_raises_the_first_failure(run: Run) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            with pytest.raises(ValueError, match="3"):
                await pool.map(tasks.fail_at_three, range(6), chunksize=1)

    run(main)


@pytest.mark.parametrize("source", [range(3000), None, tasks.numbers])
def test_imap_yields_in_order(run: Run, source: Any) -> None:
    def items() -> Any:
        return (
            source if isinstance(source, range) else source(3000) if source else iter(range(3000))
        )

    async def main() -> Any:
        async with aio.Pool(2) as pool:
            ordered = [x async for x in pool.imap(tasks.same, items())]
            unordered = [x async for x in pool.imap_unordered(tasks.same, items())]
            return ordered, sorted(unordered)

    assert run(main) == (list(range(3000)), list(range(3000)))


def test_imap_goes_on_after_a_failure(run: Run) -> None:
    async def main() -> Any:
        found: list[Any] = []
        async with aio.Pool(2) as pool:
            results = pool.imap(tasks.fail_at_three, range(6))
            while len(found) < 6:
                try:
                    found.append(await results.__anext__())
                except ValueError as error:
                    found.append(error.args)
            with pytest.raises(StopAsyncIteration):
                await results.__anext__()
        return found

    assert run(main) == [0, 1, 2, (3,), 4, 5]


def test_imap_of_an_input_that_fails(run: Run) -> None:
    async def broken() -> Any:
        yield 1
        raise LookupError("input")

    async def main() -> None:
        async with aio.Pool(1) as pool:
            results = pool.imap(tasks.same, broken())
            assert await results.__anext__() == 1
            with pytest.raises(LookupError, match="input"):
                await results.__anext__()

    run(main)


def test_imap_that_is_left_in_the_middle_is_withdrawn(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            first = await pool.imap(tasks.same, tasks.numbers(1_000_000)).__anext__()
            results = pool.imap(tasks.same, iter(int, 1))
            assert await results.__anext__() == 0
            await results.aclose()
            with pytest.raises(StopAsyncIteration):
                await results.__anext__()
            return first, await pool.apply(tasks.same, (2,))

    assert run(main) == (0, 2)


def test_options(run: Run) -> None:
    async def main() -> None:
        async with aio.Pool(1, timeout=60) as pool:
            assert "timeout=60" in repr(pool.options(retries=1))
            assert await pool.options(retries=1).apply(tasks.same, (1,)) == 1
            with pytest.raises(TypeError, match="concurrency"):
                aio.Pool(1, concurrency="many")  # type: ignore[arg-type]

    run(main)


def test_a_large_result_and_large_arguments(run: Run) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            value = await pool.apply(tasks.nested_list, (60_000,))
            return await pool.apply(len, (value,)), len(
                await pool.apply(bytes, (b"x" * 2_000_000,))
            )

    assert run(main) == (60_000, 2_000_000)


@pytest.mark.parametrize("engine", ["threads", "serial"])
def test_other_engines(run: Run, engine: str) -> None:
    async def main() -> Any:
        async with aio.Pool(2, engine=engine) as pool:
            return (
                await pool.apply(tasks.same, (1,)),
                await pool.map(abs, [-1, 2]),
                [x async for x in pool.imap(abs, [-3, 4])],
                await pool.apply(tasks.co_same, (5,)),
                await pool.map(tasks.co_same, [6, 7]),
            )

    assert run(main) == (1, [1, 2], [3, 4], 5, [6, 7])


def test_close_and_join_wait_for_all_tasks(run: Run) -> None:
    async def main() -> Any:
        pool = aio.Pool(2)
        calls = [pool.apply(tasks.same, (n,)) for n in range(50)]
        coroutine = pool.apply(tasks.co_same, (50,))
        pool.close()
        with pytest.raises(PoolClosed):
            pool.apply(tasks.same, (1,))
        await pool.join()
        return [await call for call in [*calls, coroutine]]

    assert run(main) == list(range(51))


def test_the_end_of_the_block_ends_what_is_left(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            left = pool.apply(tasks.wait_for_file, (str(tmp_path / "never"),))
            waiting = pool.apply(tasks.same, (1,))
        for each in (left, waiting):
            with pytest.raises(PoolTerminated):
                await each

    run(main)


def test_a_call_needs_a_running_loop() -> None:
    pool = aio.Pool(1)
    try:
        with pytest.raises(RuntimeError):
            pool.apply(tasks.same, (1,))
    finally:
        pool.pool.terminate()


def test_a_call_stands_where_a_coroutine_is_asked_for() -> None:
    async def main() -> Any:
        async with aio.Pool(2) as pool:
            task = asyncio.create_task(pool.apply(tasks.same, (1,)))
            calls = [pool.apply(tasks.same, (n,)) for n in range(100)]
            return await task, await asyncio.gather(*calls)

    assert asyncio.run(main()) == (1, list(range(100)))


def test_a_pool_in_a_notebooks_loop() -> None:
    """A loop that runs on between the cells: each is a coroutine of its own."""
    loop = asyncio.new_event_loop()
    try:
        pool = aio.Pool(1)

        async def first() -> Any:
            return await pool.apply(tasks.same, (1,))

        async def second() -> Any:
            return await pool.map(abs, [-2])

        found = [loop.run_until_complete(cell()) for cell in (first, second, pool.terminate)]
    finally:
        loop.close()
    assert found == [1, [2], None]
