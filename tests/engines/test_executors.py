"""Executors as engines, and that theirs is the example of an engine that it is meant to be."""

from __future__ import annotations

import ast
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison.engines import executor as example
from garrison.errors import EngineLost, PoolTerminated

from . import tasks
from .executors import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tasks import Marks

    MakeMarks = Callable[[str], Marks]

MOST_LINES = 200
PUBLIC = {"garrison.engines", "garrison.errors", "garrison.options"}
"""What an engine needs of garrison."""


class AtOnce(Executor):
    """Runs a task when it is submitted: its future has ended before anybody looks."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_example_is_short_and_needs_public_names_only() -> None:
    text = Path(str(example.__file__)).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    modules = {
        str(node.module) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)
    }
    assert {name for name in modules if name.startswith("garrison")} <= PUBLIC


def test_executor_outlives_its_pool() -> None:
    with ThreadPoolExecutor(2) as executor:
        for _ in range(2):
            with garrison.Pool(engine=executor) as pool:
                assert pool._processes == 2
                assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        assert executor.submit(abs, -1).result() == 1


def test_executor_that_ends_tasks_at_once_needs_no_deep_stack() -> None:
    with garrison.Pool(1, engine=AtOnce()) as pool:
        results = [pool.apply_async(tasks.square, (n,)) for n in range(3000)]
        assert [each.get() for each in results] == [n * n for n in range(3000)]
        assert pool.map(tasks.square, range(5000), chunksize=1)[-1] == 4999**2


def test_task_that_begins_tasks_does_not_wait_for_itself() -> None:
    with ThreadPoolExecutor(2) as executor, garrison.Pool(engine=executor) as pool:
        got: list[Any] = []
        pool.apply_async(
            abs, (-1,), callback=lambda _: pool.apply_async(abs, (-2,), callback=got.append)
        ).wait()
        pool.close()
        pool.join()
    assert got == [2]


def test_dead_worker_of_an_executor_is_said_to_all() -> None:
    with processes() as executor, garrison.Pool(2, engine=executor) as pool:
        assert os.getpid() not in pool.map(tasks.pid, range(2))
        results = [pool.apply_async(tasks.leave_at_once, (3,)) for _ in range(20)]
        for result in results:
            with pytest.raises(EngineLost, match="executor has lost a task"):
                result.get(timeout=tasks.WAIT_S)
        with pytest.raises(EngineLost):
            pool.apply(abs, (1,))
        pool.close()
        pool.join()


def test_executor_that_was_shut_down_is_lost() -> None:
    executor = ThreadPoolExecutor(1)
    with garrison.Pool(engine=executor) as pool:
        assert pool.apply(abs, (-1,)) == 1
        executor.shutdown()
        with pytest.raises(EngineLost, match="shutdown"):
            pool.apply(abs, (1,))


def test_terminated_pool_leaves_the_executor_to_others(marks: MakeMarks) -> None:
    go, begun = marks("go"), marks("begun")
    with ThreadPoolExecutor(1) as executor:
        pool = garrison.Pool(1, engine=executor)
        results = [pool.apply_async(tasks.wait_for, (go, 1)) for _ in range(10)]
        late = pool.apply_async(tasks.mark, (begun,))
        pool.terminate()
        go.add()
        assert executor.submit(abs, -1).result() == 1
        pool.join()
        with pytest.raises(PoolTerminated):
            late.get()
        with pytest.raises(PoolTerminated):
            results[-1].get()
    assert begun.count() == 0


def test_no_more_tasks_are_in_the_executor_than_it_has_use_for(marks: MakeMarks) -> None:
    go = marks("go")
    with ThreadPoolExecutor(2) as executor, garrison.Pool(engine=executor) as pool:
        results = [pool.apply_async(tasks.wait_for, (go, 1)) for _ in range(50)]
        assert executor._work_queue.qsize() <= 4
        assert pool.statistics().busy == 2
        assert pool.statistics().queued == 48
        go.add()
        for result in results:
            result.get()


def test_process_pool_may_be_of_any_start_method() -> None:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor, garrison.Pool(engine=executor) as pool:
        assert pool.map(lambda n: n + 1, range(3)) == [1, 2, 3]
