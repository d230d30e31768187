"""Pools and what they return are kinds of the standard ones, and work where those are taken."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.pool
from typing import Any

import pytest

import garrison
import garrison.dummy
import garrison.pool

METHODS = ("fork", "spawn", "forkserver")
KEPT = {"Process", "_wrap_exception", "_get_tasks", "_get_worker_sentinels"}
KEPT |= {"_guarded_task_generation"}
KEPT |= {"_join_exited_workers"}
std: Any = multiprocessing.pool


def square(x: int) -> int:
    return x * x


def inherited(kind: type) -> set[str]:
    found = set()
    for name in dir(kind):
        home = next(each for each in kind.__mro__ if name in vars(each))
        if home.__module__.startswith("multiprocessing") and not name.startswith("__"):
            found.add(name)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_and_its_results_are_kinds_of_the_standard_ones(method: str) -> None:
    with garrison.get_context(method).Pool(1) as pool:
        check_kinds(pool)
        assert isinstance(pool, std.Pool)
        assert isinstance(pool, garrison.Pool)
        assert pool._ctx is garrison.get_context(method)


def test_a_thread_pool_and_its_results_are_kinds_of_the_standard_ones() -> None:
    for make in (garrison.pool.ThreadPool, garrison.dummy.Pool):
        with make(1) as pool:
            check_kinds(pool)
            assert isinstance(pool, std.ThreadPool)
            assert isinstance(pool, garrison.pool.ThreadPool)


def check_kinds(pool: Any) -> None:
    one = pool.apply_async(square, (2,))
    called = pool.apply_async(square, (2,), callback=square)
    many = pool.map_async(square, [1, 2])
    told = pool.map_async(square, [1, 2], callback=len)
    in_order, unordered = pool.imap(square, [3]), pool.imap_unordered(square, [3])
    assert isinstance(one, std.AsyncResult)
    assert isinstance(called, std.ApplyResult)
    assert isinstance(many, std.MapResult)
    assert isinstance(told, std.MapResult)
    assert isinstance(in_order, std.IMapIterator)
    assert isinstance(unordered, std.IMapUnorderedIterator)
    assert [one.get(), called.get(), many.get(), told.get()] == [4, 4, [1, 4], [1, 4]]
    assert [*in_order, *unordered] == [9, 9]
    assert many._number_left == told._number_left == 0
    assert one._event.is_set()
    assert one._success
    assert one._value == 4
    for made in (one, called, many, told, in_order, unordered, pool):
        assert inherited(type(made)) <= KEPT


def test_pool_has_the_private_attributes_of_a_standard_one() -> None:
    with garrison.Pool(1, print, (), 5) as pool:
        started, go = garrison.Event(), garrison.Event()
        results = [pool.apply_async(hold, (started, go)) for _ in range(3)]
        started.wait()
        assert pool._processes == len(pool._pool) == 1
        assert (pool._initializer, pool._initargs, pool._maxtasksperchild) == (print, (), 5)
        assert len(pool._cache) == 3
        assert pool._taskqueue.qsize() == 2
        go.set()
        for result in results:
            result.get()
        assert pool._taskqueue.empty()


def hold(started: Any, go: Any) -> None:
    started.set()
    go.wait()


@pytest.mark.parametrize("method", METHODS)
def test_a_standard_pool_works_with_our_context(method: str) -> None:
    with std.Pool(2, context=garrison.get_context(method)) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert sorted(pool.imap_unordered(square, range(50))) == [n * n for n in range(50)]
        pool.close()
        pool.join()


class Executor(concurrent.futures.ProcessPoolExecutor):
    pass


@pytest.mark.parametrize("kind", [concurrent.futures.ProcessPoolExecutor, Executor])
@pytest.mark.parametrize("method", METHODS)
def test_a_standard_executor_works_with_our_context(method: str, kind: Any) -> None:
    with kind(2, mp_context=garrison.get_context(method)) as executor:
        assert list(executor.map(square, range(50))) == [n * n for n in range(50)]


@pytest.mark.parametrize("method", METHODS)
def test_standard_queues_are_given_to_our_pool(method: str) -> None:
    queue = multiprocessing.get_context(method).SimpleQueue()
    with garrison.get_context(method).Pool(1, keep, (queue,)) as pool:
        pool.map(pass_on, range(3))
        assert sorted(queue.get() for _ in range(3)) == [0, 1, 2]
    queue.close()


kept: Any = None


def keep(queue: Any) -> None:
    global kept  # noqa: PLW0603 - that is what initializers do
    kept = queue


def pass_on(item: Any) -> None:
    kept.put(item)
