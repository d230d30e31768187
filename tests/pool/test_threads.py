"""`ThreadPool`: the same faces over threads."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

import garrison
from garrison.pool import ThreadPool

from . import tasks


def test_all_methods_of_a_thread_pool() -> None:
    with ThreadPool(3) as pool:
        assert pool.apply(pow, (2,), {"exp": 3}) == 8
        assert pool.map(tasks.square, range(100)) == [n * n for n in range(100)]
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert list(pool.imap(tasks.square, range(5), 2)) == [0, 1, 4, 9, 16]
        assert sorted(pool.imap_unordered(tasks.square, range(5))) == [0, 1, 4, 9, 16]
        endless = pool.imap(tasks.square, itertools.count())
        assert [next(endless) for _ in range(3)] == [0, 1, 4]


def test_nothing_is_pickled() -> None:
    lock = threading.Lock()
    found: list[object] = []
    with ThreadPool(1) as pool:
        assert pool.apply(tasks.identity, (lock,)) is lock
        assert pool.map(tasks.identity, [lock]) == [lock]
        pool.apply(found.append, (pool,))
        assert found == [pool]
        found.clear()


def test_exceptions_are_the_objects_themselves() -> None:
    error = LookupError(threading.Lock())
    with ThreadPool(1) as pool:
        with pytest.raises(LookupError) as caught:
            pool.apply(tasks.fail, (error,))
        assert caught.value is error
        results = pool.imap(lambda n: 1 // n, [1, 0, 1])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert next(results) == 1
        with pytest.raises(SystemExit):
            pool.apply(tasks.fail, (SystemExit(3),))
    error.__traceback__ = None


def test_an_initializer_runs_in_each_thread() -> None:
    local = threading.local()
    barrier = threading.Barrier(2)

    def set_up(value: int) -> None:
        local.value = value

    def read(_: int) -> Any:
        barrier.wait()
        return local.value, threading.current_thread().name

    with ThreadPool(2, set_up, (7,)) as pool:
        found = pool.map(read, range(2), chunksize=1)
    assert [value for value, _ in found] == [7, 7]
    assert len({name for _, name in found}) == 2


def test_an_initializer_that_raises_breaks_the_pool() -> None:
    broken = pytest.raises(garrison.PoolBroken, match="the initializer failed: LookupError")
    with ThreadPool(2, tasks.fail, (LookupError("no"),)) as pool, broken:
        pool.apply(tasks.square, (3,))


def test_terminate_drops_unstarted_tasks() -> None:
    go, begun = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait()

    pool = ThreadPool(1)
    running, waiting = pool.apply_async(wait), pool.apply_async(tasks.square, (3,))
    begun.wait()
    pool.terminate()
    for result in (running, waiting):
        with pytest.raises(garrison.PoolTerminated):
            result.get()
    go.set()
    pool.join()
    for thread in pool._pool:
        thread.join()


def test_a_thread_may_use_its_own_pool() -> None:
    with ThreadPool(2) as pool:
        assert pool.apply(lambda: pool.apply(tasks.square, (3,))) == 9


def test_join_waits_for_a_running_function_after_terminate() -> None:
    begun, leave, left = threading.Event(), threading.Event(), threading.Event()

    def run(_: object) -> None:
        begun.set()
        leave.wait()
        left.set()

    pool = ThreadPool(1)
    pool.apply_async(run, (0,))
    begun.wait()
    pool.terminate()
    threading.Timer(0.05, leave.set).start()
    pool.join()
    assert left.is_set()
