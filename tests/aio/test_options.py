"""Options of a pool, for functions and for coroutine functions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from garrison import Failure, PoolTerminated, WorkerDied, aio
from garrison.pool import coroutine_host

from . import tasks
from .conftest import until

if TYPE_CHECKING:
    from .conftest import Run


def note_of(error: Any) -> str:
    (note,) = error.__notes__
    return str(note)


KINDS = pytest.mark.parametrize("function", [tasks.ratio, tasks.co_ratio])


def facts(result: Any) -> Any:
    if not isinstance(result, Failure):
        return result
    assert result.attempt == 1
    assert "PoolWorker" in result.worker
    return result.index, result.item, type(result.error)


@KINDS
def test_a_failed_item_is_a_failure_in_its_place(run: Run, function: Any) -> None:
    async def main() -> Any:
        async with aio.Pool(2, on_error="return") as pool:
            return (
                [facts(each) for each in await pool.map(function, [1, 0, 2])],
                [facts(each) for each in await pool.starmap(function, [(1, 5), (0, 5)])],
                [facts(each) async for each in pool.imap(function, [1, 0, 2])],
                facts(await pool.apply(function, (0,))),
            )

    failed = (1, "0", ZeroDivisionError)
    mapped, starred, iterated, single = run(main)
    assert mapped == iterated == [6, failed, 3]
    assert starred == [5, (1, "(0, 5)", ZeroDivisionError)]
    assert single == (None, "(0)", ZeroDivisionError)


@KINDS
def test_a_failed_item_is_left_out(run: Run, function: Any) -> None:
    async def main() -> Any:
        async with aio.Pool(2) as pool:
            skipping = pool.options(on_error="skip")
            with pytest.raises(ZeroDivisionError):
                await skipping.apply(function, (0,))
            found = [each async for each in skipping.imap_unordered(function, [1, 0, 2])]
            return await skipping.map(function, [1, 0, 2]), sorted(found)

    assert run(main) == ([6, 3], [3, 6])


@KINDS
def test_an_exception_says_which_item_it_was(function: Any) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            with pytest.raises(ZeroDivisionError) as caught:
                await pool.map(function, [1, 0, 2])
            assert note_of(caught.value).startswith("item 1: 0; attempt 1 in ")
            with pytest.raises(ZeroDivisionError) as caught:
                await pool.apply(function, (0,), {"y": 1})
            assert note_of(caught.value).startswith("called with (0, y=1); attempt 1 in ")

    asyncio.run(main())


def test_a_map_with_outcomes_for_each_item_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> Any:
        async with aio.Pool(1, on_error="return") as pool:
            names = [str(tmp_path / name) for name in "ab"]
            waiting = asyncio.ensure_future(pool.map(tasks.wait_for_file, names))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(waiting, 0.05)
            return await pool.apply(tasks.same, (1,))

    assert asyncio.run(main()) == 1


def test_a_dead_worker_is_a_failure_of_each_of_its_coroutines(tmp_path: Path) -> None:
    async def main() -> Any:
        async with aio.Pool(1, on_error="return") as pool:
            failed = await pool.apply(tasks.co_die_once, (str(tmp_path / "died"),))
            return failed, await pool.apply(tasks.co_same, (1,))

    failed, after = asyncio.run(main())
    assert isinstance(failed.error, WorkerDied)
    assert after == 1


@pytest.mark.parametrize("engine", ["processes", "threads", "serial"])
@pytest.mark.parametrize("function", [tasks.with_state, tasks.co_with_state])
def test_calls_get_the_state(engine: str, function: Any) -> None:
    async def main() -> Any:
        async with aio.Pool(2, tasks.same, ("state",), engine=engine) as pool:
            assert await pool.apply(tasks.co_same, (1,)) == 1
            return await pool.options(pass_state=True).map(function, [1, 2])

    assert asyncio.run(main()) == [("state", 1), ("state", 2)]


@KINDS
def test_progress_counts_items(function: Any) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            counts: list[Any] = []
            counted = pool.options(progress=lambda *numbers: counts.append(numbers))
            await counted.map(function, [1, 2])
            assert (counts[0], counts[-1]) == ((0, 2), (2, 2))
            assert [each async for each in counted.imap(function, iter([1]))] == [6]
            assert counts[-1] == (1, None)

    asyncio.run(main())


def test_output_of_coroutines_bears_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with aio.Pool(1, logs=True) as pool:
            await pool.map(tasks.co_print, ["a", "b"])
            pool.close()
            await pool.join()

    asyncio.run(main())
    lines = sorted(line.partition(" ")[2] for line in capsys.readouterr().out.splitlines())
    assert lines == [
        "co_print('a')] begun a",
        "co_print('a')] over a",
        "co_print('b')] begun b",
        "co_print('b')] over b",
    ]


def test_coroutines_fail_if_none_can_be_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coroutine_host, "run_host", tasks.fail_at_host)

    async def main() -> None:
        async with aio.Pool(2) as pool:
            with pytest.raises(ValueError, match="no host"):
                await pool.map(tasks.co_same, range(5))

    asyncio.run(main())


def test_the_end_of_a_pool_ends_coroutines_that_wait(tmp_path: Path) -> None:
    async def main() -> None:
        unhandled: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unhandled.append(what))
        async with aio.Pool(1, concurrency=1) as pool:
            calls = [pool.apply(tasks.co_forever, (str(tmp_path / name),)) for name in "ab"]
            await until((tmp_path / "a").exists)
        for call in calls:
            with pytest.raises(PoolTerminated):
                await call
        assert unhandled == []

    asyncio.run(main())


def test_a_call_outside_of_a_loop_says_so() -> None:
    pool = aio.Pool(1)
    try:
        with pytest.raises(RuntimeError, match="no running event loop: call this in a coroutine"):
            pool.apply(abs, (-1,))
    finally:
        pool.pool.terminate()
        pool.pool.join()
