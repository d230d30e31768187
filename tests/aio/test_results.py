"""An `AsyncResult` of a usual pool, awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison import PoolTerminated

from . import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Run


@pytest.mark.parametrize("make", [garrison.Pool, garrison.pool.ThreadPool])
def test_results_are_awaited(run: Run, make: Any) -> None:
    called: list[Any] = []

    async def main() -> Any:
        with make(2) as pool:
            result = pool.apply_async(tasks.same, (1,))
            first = await result, await result, result.get()
            with pytest.raises(ValueError, match="no 1"):
                await pool.apply_async(tasks.fail, (1,))
            return (
                first,
                await pool.map_async(tasks.same, range(5)),
                await pool.starmap_async(pow, [(2, 3)]),
                await pool.apply_async(tasks.same, (2,), callback=called.append),
                await pool.map_async(tasks.same, [3], callback=called.append),
            )

    assert run(main) == ((1, 1, 1), [0, 1, 2, 3, 4], [8], 2, [3])
    assert called == [2, [3]]


def test_a_cancelled_await_leaves_the_task(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> Any:
        with garrison.Pool(1) as pool:
            result = pool.apply_async(tasks.wait_for_file, (str(go),))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(result, 0.05)
            go.touch()
            return await result

    assert asyncio.run(main()) == str(go)


def test_the_end_of_the_pool_ends_the_wait(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with garrison.Pool(1) as pool:
            result = pool.apply_async(tasks.wait_for_file, (str(tmp_path / "never"),))
        with pytest.raises(PoolTerminated):
            await result

    run(main)


def test_without_a_loop_a_result_cannot_be_awaited() -> None:
    with garrison.Pool(1) as pool, pytest.raises(RuntimeError):
        pool.apply_async(tasks.same, (1,)).__await__()
