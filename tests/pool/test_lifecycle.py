"""A pool from its start to its end: every order of calls, from threads, forks and handlers."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool, PoolClosed
from garrison.pool import ThreadPool

from . import tasks
from .tasks import Door

# --- Making one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"processes": 0}, "Number of processes must be at least 1, not 0"),
        ({"processes": -2}, "Number of processes must be at least 1, not -2"),
        ({"processes": 1.5}, "Number of processes must be a whole number, not 1.5"),
        ({"processes": "2"}, "Number of processes must be a whole number, not '2'"),
        ({"processes": 10**6}, "Number of processes must be at most 4096, not 1000000"),
        ({"maxtasksperchild": 0}, "maxtasksperchild must be a positive int or None, not 0"),
        ({"maxtasksperchild": -1}, "maxtasksperchild must be a positive int or None, not -1"),
        ({"maxtasksperchild": 2.5}, "maxtasksperchild must be a positive int or None, not 2.5"),
        ({"initializer": "x"}, "initializer must be callable, not 'x'"),
        ({"initargs": 3}, "'int' object is not iterable"),
    ],
)
def test_bad_values_are_named(bad: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Pool(**{"processes": 1, **bad})


def test_as_many_workers_as_processors_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", "3")
    with Pool() as pool, ThreadPool() as threads:
        assert pool.statistics().workers == 3
        assert repr(threads) == "<ThreadPool 3 threads>"


def test_what_index_takes_is_a_number_of_processes() -> None:
    np = pytest.importorskip("numpy")
    with Pool(np.int64(1)) as pool:
        assert pool.statistics().workers == 1


def test_a_start_that_fails_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError("no more files")

    monkeypatch.setattr("garrison.supervisor._handle.descriptor_channel.descriptor_channels", fail)
    with pytest.raises((OSError, garrison.PoolBroken), match="no more files"):
        garrison.get_context("fork").Pool(1)


# --- Looking at it ----------------------------------------------------------------------------


def test_repr_and_statistics(tmp_path: Path) -> None:
    here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
    pool = Pool(1)
    assert repr(pool) == "<Pool 1 workers (0 busy), 0 queued>"
    running = pool.apply_async(tasks.push_and_wait, (here, go))
    waiting = [pool.apply_async(tasks.square, (n,)) for n in range(3)]
    here.wait()
    assert repr(pool) == "<Pool 1 workers (1 busy), 3 queued>"
    now = pool.statistics()
    assert (now.workers, now.busy, now.queued, now.in_flight) == (1, 1, 3, 4)
    go.push()
    assert (running.get(),) == now.worker_pids
    assert [result.get() for result in waiting] == [0, 1, 4]
    assert pool.statistics().completed == 4
    with pytest.raises(garrison.WorkerDied):
        pool.apply(tasks.die)
    assert pool.apply(tasks.square, (3,)) == 9
    assert pool.statistics().deaths == 1
    pool.close()
    pool.join()
    assert repr(pool).startswith("<Pool closed, 0 workers (0 busy), 0 queued")
    pool.terminate()
    assert repr(pool) == "<Pool terminated>"


def test_statistics_are_frozen_and_name_other_processes() -> None:
    with Pool(1) as pool:
        now = pool.statistics()
        with pytest.raises(dataclasses.FrozenInstanceError):
            now.busy = 3  # type: ignore[misc]
        assert now.supervisor_pid not in (None, os.getpid(), *now.worker_pids)


def test_workers_that_leave_in_order_are_not_lost() -> None:
    pool = Pool(2, maxtasksperchild=1)
    assert len(set(pool.map(tasks.own_pid, range(6), chunksize=1))) == 6
    assert pool.statistics().deaths == 0
    pool.close()
    pool.join()
    assert pool.statistics().deaths == 0
    assert "lost" not in repr(pool)


def test_a_subclass_is_named_in_repr() -> None:
    class Mine(Pool):
        pass

    with Mine(1) as pool:
        assert "Mine 1 workers" in repr(pool)
        assert pool.apply(tasks.square, (3,)) == 9


# --- Ending it --------------------------------------------------------------------------------

ORDERS = [
    "close join",
    "terminate join",
    "close terminate join",
    "terminate close join",
    "close join join",
    "terminate join join",
    "close close join terminate terminate",
    "close join terminate join close",
    "terminate terminate join close join",
    "terminate",
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_close_terminate_and_join_in_every_order(order: str, kind: Callable[[int], Any]) -> None:
    pool = kind(2)
    result = pool.apply_async(tasks.square, (3,))
    for step in order.split():
        getattr(pool, step)()
    if order.startswith("close join"):
        assert result.get() == 9
    ended = "terminated" if "terminate" in order else "closed"
    with pytest.raises(PoolClosed, match=f"Pool not running: it was {ended}"):
        pool.apply(tasks.square, (3,))


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
@pytest.mark.parametrize("end", ["close", "terminate"])
def test_no_method_takes_work_after_the_end(kind: Callable[[int], Any], end: str) -> None:
    pool = kind(1)
    getattr(pool, end)()
    names = ["map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered"]
    for name in names:
        with pytest.raises(ValueError, match="Pool not running"):
            getattr(pool, name)(tasks.square, [1])
    for name in ("apply", "apply_async"):
        with pytest.raises(ValueError, match="Pool not running"):
            getattr(pool, name)(tasks.square, (1,))
    with pytest.raises(ValueError, match="Pool not running"):
        pool.__enter__()
    pool.join()


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_join_before_the_end_is_an_error(kind: Callable[[int], Any]) -> None:
    with kind(1) as pool, pytest.raises(ValueError, match=r"call close\(\) or terminate\(\)"):
        pool.join()


def test_the_end_of_a_with_block_terminates() -> None:
    with Pool(1) as pool:
        result = pool.apply_async(tasks.forever)
    with pytest.raises(garrison.PoolTerminated):
        result.get()
    with pytest.raises(LookupError), Pool(1) as pool:
        raise LookupError
    assert repr(pool) == "<Pool terminated>"


def run_at_once(functions: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_threads_may_end_a_pool_at_once(end: str) -> None:
    pool = Pool(2)
    results = pool.map_async(tasks.square, range(100))

    def finish() -> None:
        getattr(pool, end)()
        pool.join()

    run_at_once([finish] * 4)
    assert pool.statistics().workers == 0
    if end == "close":
        assert results.get() == [n * n for n in range(100)]


def test_one_thread_joins_and_another_terminates() -> None:
    pool = Pool(1)
    result = pool.apply_async(tasks.forever)
    pool.close()
    run_at_once([pool.join, pool.terminate])
    with pytest.raises(garrison.PoolTerminated):
        result.get()


def test_terminate_in_another_thread_ends_get(tmp_path: Path) -> None:
    here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
    pool = Pool(1)
    result = pool.apply_async(tasks.push_and_wait, (here, go))
    here.wait()
    errors: list[BaseException] = []

    def get() -> None:
        try:
            result.get()
        except garrison.PoolTerminated as error:
            errors.append(error)

    run_at_once([get, get, pool.terminate])
    assert len(errors) == 2


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_signal_handler_may_terminate_the_pool(end: str, tmp_path: Path) -> None:
    here, go = Door(tmp_path, "here"), Door(tmp_path, "go")
    pool = Pool(1)

    def handler(*_: object) -> None:
        getattr(pool, end)()
        if end == "close":
            go.push()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        result = pool.apply_async(tasks.push_and_wait, (here, go))
        here.wait()
        pids = pool.statistics().worker_pids
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        if end == "close":
            assert (result.get(),) == pids
        else:
            with pytest.raises(garrison.PoolTerminated):
                result.get()
        pool.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_forgotten_pool_warns_and_ends(context: Any) -> None:
    pool = context.Pool(1)
    supervisor = pool.statistics().supervisor_pid
    pools = [pool]
    del pool
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool <Pool 1"):
        pools.clear()
    with pytest.raises(ProcessLookupError):
        os.kill(supervisor, 0)


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_that_was_ended_is_dropped_in_silence(end: str) -> None:
    pool = Pool(1)
    getattr(pool, end)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del pool
        gc.collect()


def test_a_pool_lives_as_long_as_its_results() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert Pool(1).map_async(tasks.square, range(5)).get() == [0, 1, 4, 9, 16]
        assert sum(Pool(1).imap(tasks.square, range(5))) == 30
        assert sum(Pool(1).options(retries=1).imap_unordered(tasks.square, range(5))) == 30
        gc.collect()


def test_many_pools_leave_nothing() -> None:
    with Pool(1) as pool:
        pool.apply(tasks.square, (3,))
    before = len(os.listdir("/proc/self/fd")), len(Path("/proc/self/maps").read_text().split("\n"))
    for _ in range(20):
        with Pool(1) as pool:
            pool.apply(tasks.square, (3,))
    after = len(os.listdir("/proc/self/fd")), len(Path("/proc/self/maps").read_text().split("\n"))
    assert after[0] == before[0]
    assert after[1] <= before[1] + 5


# --- From other places ------------------------------------------------------------------------


def in_a_fork(function: Callable[[], object]) -> str:
    """Call in a forked process: the repr of the result, or the error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = repr(function())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


USES: dict[str, Callable[[Any], object]] = {
    "apply": lambda pool: pool.apply(tasks.square, (3,)),
    "apply with kwds": lambda pool: pool.apply_async(pow, (3,), {"exp": 2}).get(),
    "map": lambda pool: pool.map(tasks.square, [3]),
    "map_async": lambda pool: pool.map_async(tasks.square, [3]).get(),
    "imap": lambda pool: next(pool.imap(tasks.square, [3])),
    "view": lambda pool: pool.options(retries=1).apply(tasks.square, (3,)),
    "callback": lambda pool: pool.apply_async(tasks.square, (3,), callback=print).get(),
    "close": lambda pool: pool.close(),
    "join": lambda pool: pool.join(),
}


@pytest.mark.parametrize("use", USES)
def test_use_in_another_process_is_an_error_that_says_so(use: str) -> None:
    with Pool(1) as pool:
        found = in_a_fork(lambda: USES[use](pool))
        assert found.startswith(("PoolClosed: ", "ValueError: "))
        assert "this pool belongs to" in found
        assert "make a pool of your own here" in found
        assert pool.apply(tasks.square, (3,)) == 9


def test_a_fork_does_not_end_its_parents_pool() -> None:
    with Pool(1) as pool:
        result = pool.apply_async(tasks.square, (3,))
        assert in_a_fork(pool.terminate) == "None"
        assert in_a_fork(lambda: pool.__exit__(None, None, None)) == "None"
        assert in_a_fork(lambda: repr(pool)) != ""
        assert result.get() == 9
        assert pool.apply(tasks.square, (3,)) == 9


def test_a_result_cannot_be_taken_by_a_fork() -> None:
    with Pool(1) as pool:
        result = pool.apply_async(tasks.square, (3,))
        result.wait()
        found = in_a_fork(result.get)
        assert "this pool belongs to" in found
        assert result.get() == 9


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_results_cannot_be_read_on_by_a_fork(name: str) -> None:
    with Pool(1) as pool:
        results = getattr(pool, name)(tasks.square, itertools.count())
        assert next(results) == 0
        found = in_a_fork(lambda: [next(results) for _ in range(10_000)])
        assert "this pool belongs to" in found
        assert next(results) == 1


def test_a_fork_may_make_a_pool_of_its_own() -> None:
    def own() -> list[int]:
        with Pool(1) as mine:
            return mine.map(tasks.square, [1, 2])

    with Pool(1) as pool:
        assert in_a_fork(own) == "[1, 4]"
        assert pool.apply(tasks.square, (3,)) == 9


def square_in_a_pool(method: str, connection: Any) -> None:
    with garrison.get_context(method).Pool(1) as pool:
        connection.send(pool.map(tasks.square, range(4)))
    connection.close()


def test_a_pool_in_a_daemonic_process(method: str) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=square_in_a_pool, args=(method, theirs), daemon=True
    )
    process.start()
    theirs.close()
    assert ours.recv() == [0, 1, 4, 9]
    process.join()
    assert process.exitcode == 0
    process.close()
    ours.close()


def test_a_pool_in_a_worker(context: Any) -> None:
    with context.Pool(1) as pool:
        assert pool.apply(square_in_an_inner_pool, (3,)) == [0, 1, 4]


def square_in_an_inner_pool(n: int) -> list[int]:
    with Pool(1) as pool:
        return pool.map(tasks.square, range(n))


def test_threads_of_a_program_have_pools_of_their_own() -> None:
    found: list[list[int]] = []
    run_at_once([lambda: found.append(square_in_an_inner_pool(4))] * 3)
    assert found == [[0, 1, 4, 9]] * 3


def test_pool_is_used_from_asyncio() -> None:
    async def main(pool: Pool) -> list[int]:
        loop = asyncio.get_running_loop()
        calls = (loop.run_in_executor(None, pool.apply, tasks.square, (n,)) for n in range(50))
        return await asyncio.gather(*calls)

    with Pool(2) as pool:
        assert asyncio.run(main(pool)) == [n * n for n in range(50)]


def test_pool_works_with_locks_of_multiprocessing(context: Any) -> None:
    event, turns = context.Event(), context.Semaphore(0)
    with context.Pool(2, keep, (event, turns)) as pool:
        result = pool.map_async(wait_and_release, range(3), chunksize=1)
        event.set()
        assert result.get() == [True] * 3
        assert [turns.acquire(timeout=0) for _ in range(4)] == [True, True, True, False]


_kept: list[Any] = []


def keep(*things: Any) -> None:
    _kept[:] = things


def wait_and_release(_: int) -> bool:
    event, turns = _kept
    turns.release()
    return bool(event.wait())
