"""Cancelled awaits, timeouts, groups, and the ends of loops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from garrison import PoolClosed, WorkerDied, aio
from optional import import_or_skip

from . import tasks
from .conftest import until


def test_a_cancelled_call_that_waits_is_withdrawn(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> Any:
        async with aio.Pool(1) as pool:
            first = pool.apply(tasks.wait_for_file, (str(go),))
            await until(lambda: pool.pool.statistics().busy == 1)
            waiting = pool.apply(tasks.wait_for_file, (str(tmp_path / "never"),))
            assert waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            go.touch()
            await first
            return await pool.apply(tasks.same, (2,))

    assert asyncio.run(main()) == 2


def test_timeouts_end_the_wait(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> Any:
        async with aio.Pool(2) as pool:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.apply(tasks.wait_for_file, (str(go),)), 0.05)
            if sys.version_info >= (3, 11):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await pool.map(tasks.wait_for_file, [str(go)])
            go.touch()
            return await pool.apply(tasks.same, (2,))

    assert asyncio.run(main()) == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is of Python 3.11")
def test_a_failure_in_a_task_group_cancels_the_others(tmp_path: Path) -> None:
    library: Any = asyncio

    async def main() -> Any:
        async with aio.Pool(2) as pool:
            forever: list[Any] = []

            async def group_with_a_failure() -> None:
                async with library.TaskGroup() as group:
                    begun = str(tmp_path / "begun")
                    forever.append(group.create_task(pool.apply(tasks.co_forever, (begun,))))
                    group.create_task(pool.apply(tasks.fail, (1,)))

            with pytest.raises(Exception, match="TaskGroup"):
                await group_with_a_failure()
            assert forever[0].cancelled()
            return await pool.apply(tasks.co_same, (2,))

    assert asyncio.run(main()) == 2


def test_gather_with_a_failure() -> None:
    async def main() -> Any:
        async with aio.Pool(2) as pool:
            calls = [pool.apply(tasks.fail_at_three, (n,)) for n in range(6)]
            return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(main())
    assert found[:3] + found[4:] == [0, 1, 2, 4, 5]
    assert isinstance(found[3], ValueError)


def test_a_killed_worker_costs_its_call(tmp_path: Path) -> None:
    async def main() -> Any:
        async with aio.Pool(1) as pool:
            with pytest.raises(WorkerDied) as caught:
                await pool.apply(tasks.die)
            assert caught.value.signal == signal.SIGKILL
            return await pool.apply(tasks.same, (1,))

    assert asyncio.run(main()) == 1


def test_trio_cancels_the_call(tmp_path: Path) -> None:
    trio: Any = import_or_skip("trio")
    begun = tmp_path / "begun"

    async def main() -> Any:
        async with aio.Pool(1) as pool:
            with trio.move_on_after(60) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pool.apply, tasks.co_forever, (str(begun),))
                    await until(begun.exists)
                    nursery.cancel_scope.cancel()
            assert not scope.cancelled_caught
            await until(Path(f"{begun}.over").exists)
            return await pool.apply(tasks.same, (1,))

    assert trio.run(main) == 1


def test_anyio_groups_take_calls_on_asyncio() -> None:
    anyio: Any = import_or_skip("anyio")
    found: list[Any] = []

    async def main() -> None:
        async with aio.Pool(1) as pool, anyio.create_task_group() as group:
            group.start_soon(pool.apply, tasks.same, (1,))
            with anyio.move_on_after(0.05):
                await pool.apply(tasks.co_pid, (60,))
            found.append(await pool.apply(tasks.same, (2,)))

    anyio.run(main, backend="asyncio")
    assert found == [2]


def test_two_loops_in_two_threads_share_a_pool() -> None:
    pool = aio.Pool(2)
    found: list[Any] = []

    async def work() -> Any:
        calls = [pool.apply(tasks.same, (n,)) for n in range(300)]
        coroutines = [pool.apply(tasks.co_same, (n,)) for n in range(30)]
        return await asyncio.gather(*calls, *coroutines)

    def run() -> None:
        found.append(asyncio.run(work()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(pool.terminate())
    assert found == [[*range(300), *range(30)]] * 2


def test_a_loop_that_is_closed_with_tasks_out(tmp_path: Path) -> None:
    go = tmp_path / "go"
    pool = aio.Pool(1)

    async def leave() -> None:
        pool.apply(tasks.wait_for_file, (str(go),))
        pool.apply(tasks.co_same, (1,))

    asyncio.run(leave())
    go.touch()
    assert asyncio.run(_call_and_end(pool)) == 3


async def _call_and_end(pool: aio.Pool) -> Any:
    async with pool:
        return await pool.apply(tasks.same, (3,))


def test_a_forked_child_may_not_use_the_pool() -> None:
    async def main() -> int:
        async with aio.Pool(1) as pool:
            assert await pool.apply(tasks.same, (1,)) == 1
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    asyncio.run(_call_and_end(pool))
                except PoolClosed:
                    code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
            assert await pool.apply(tasks.same, (2,)) == 2
            return status

    assert asyncio.run(main()) == 0


INTERRUPTED = """
import asyncio, os, signal, time
from garrison import aio

async def main():
    async with aio.Pool(1) as pool:
        call = pool.apply(time.sleep, (60,))
        while pool.pool.statistics().busy == 0:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        await call

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
