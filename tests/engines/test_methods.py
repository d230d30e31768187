"""Every method of a pool and of its results, over every engine."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.pool
import operator
import threading
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from waiting import wait_until

from . import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .tasks import Marks

    MakeMarks = Callable[[str], Marks]


# --- One call -------------------------------------------------------------------------------------


def test_apply_returns_the_result(pool: garrison.Pool) -> None:
    assert pool.apply(tasks.add, (1, 2), {"third": 3}) == 6
    assert pool.apply(tasks.identity, [None]) is None
    assert pool.apply(dict) == {}


def test_result_of_apply_async_has_all_methods(pool: garrison.Pool) -> None:
    result = pool.apply_async(tasks.add, (1,), {"second": 2})
    assert isinstance(result, multiprocessing.pool.AsyncResult)
    result.wait()
    result.wait(timeout=1)
    assert result.ready()
    assert result.successful()
    assert result.get() == 3
    assert result.get(timeout=0) == 3


def test_failed_result_is_ready_and_not_successful(pool: garrison.Pool) -> None:
    result = pool.apply_async(int, ("x",))
    result.wait()
    assert result.ready()
    assert not result.successful()
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            result.get()


@pytest.mark.needs("parallel")
def test_result_that_is_not_there_is_not_ready(pool: garrison.Pool, marks: MakeMarks) -> None:
    go = marks("go")
    result = pool.apply_async(tasks.wait_for, (go, 1, 7))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(timeout=0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    go.add()
    assert result.get(timeout=tasks.WAIT_S) == 7


@pytest.mark.needs("parallel")
def test_two_tasks_run_at_the_same_time(pool: garrison.Pool, marks: MakeMarks) -> None:
    results = [pool.apply_async(tasks.meet, (marks("both"),)) for _ in range(2)]
    assert [result.get() for result in results] == [True, True]


def test_results_of_many_calls_are_their_own(pool: garrison.Pool) -> None:
    results = [pool.apply_async(tasks.square, (n,)) for n in range(200)]
    assert [result.get() for result in results] == [n * n for n in range(200)]


def test_call_in_another_thread_has_its_result(pool: garrison.Pool) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(pool.apply(tasks.square, (n,))))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [n * n for n in range(8)]


def test_what_is_not_callable_is_an_error_of_the_call(pool: garrison.Pool) -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="callable"):
        pool.apply(wrong)


# --- Callbacks ------------------------------------------------------------------------------------


def test_callback_gets_the_result_before_get_returns(pool: garrison.Pool) -> None:
    got: list[Any] = []
    assert pool.apply_async(tasks.square, (3,), callback=got.append).get() == 9
    assert got == [9]


def test_error_callback_gets_the_exception(pool: garrison.Pool) -> None:
    got: list[Any] = []
    right: list[Any] = []
    result = pool.apply_async(int, ("x",), callback=right.append, error_callback=got.append)
    result.wait()
    assert right == []
    assert [type(each) for each in got] == [ValueError]
    assert not result.successful()


def test_callback_of_a_map_gets_the_list(pool: garrison.Pool) -> None:
    got: list[Any] = []
    pool.map_async(tasks.square, range(5), callback=got.append).wait()
    pool.starmap_async(tasks.add, [(1, 2), (3, 4)], callback=got.append).wait()
    pool.map_async(int, ["1", "x"], error_callback=got.append).wait()
    assert got[:2] == [[0, 1, 4, 9, 16], [3, 7]]
    assert type(got[2]) is ValueError


def test_every_callback_is_called_once(pool: garrison.Pool) -> None:
    got: list[int] = []
    results = [pool.apply_async(tasks.identity, (n,), callback=got.append) for n in range(50)]
    for result in results:
        result.wait()
    assert sorted(got) == list(range(50))


@pytest.mark.needs("parallel")
def test_callbacks_are_called_in_the_order_of_the_ends(
    pool: garrison.Pool, marks: MakeMarks
) -> None:
    got: list[str] = []
    go = marks("go")
    late = pool.apply_async(tasks.wait_for, (go, 1, "late"), callback=got.append)
    pool.apply_async(tasks.identity, ("early",), callback=got.append).wait()
    go.add()
    late.wait()
    assert got == ["early", "late"]


# --- Many calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
def test_map_keeps_the_order(pool: garrison.Pool, chunksize: int | None) -> None:
    assert pool.map(tasks.square, range(20), chunksize) == [n * n for n in range(20)]


def test_map_of_nothing_is_empty(pool: garrison.Pool) -> None:
    assert pool.map(tasks.square, []) == []
    assert pool.starmap(tasks.add, iter(())) == []
    assert list(pool.imap(tasks.square, [])) == []
    assert list(pool.imap_unordered(tasks.square, iter(()))) == []
    assert pool.map_async(tasks.square, []).get() == []


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_starmap_passes_several_arguments(pool: garrison.Pool, chunksize: int | None) -> None:
    pairs = [(n, 10 * n) for n in range(7)]
    assert pool.starmap(tasks.add, pairs, chunksize) == [11 * n for n in range(7)]
    assert pool.starmap_async(operator.add, pairs, chunksize).get() == [11 * n for n in range(7)]


def test_map_async_has_the_methods_of_a_result(pool: garrison.Pool) -> None:
    result = pool.map_async(tasks.square, range(5), chunksize=2)
    result.wait()
    assert result.ready()
    assert result.successful()
    assert result.get() == [0, 1, 4, 9, 16]


def test_map_of_a_generator_reads_all_of_it(pool: garrison.Pool) -> None:
    assert pool.map(tasks.square, (n for n in range(10))) == [n * n for n in range(10)]


def test_map_of_many_items_loses_none(pool: garrison.Pool) -> None:
    assert pool.map(tasks.identity, range(20_000)) == list(range(20_000))


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("as_iterator", [False, True], ids=["list", "iterator"])
def test_imap_keeps_the_order(pool: garrison.Pool, chunksize: int, as_iterator: bool) -> None:
    numbers: Any = list(range(50))
    source = iter(numbers) if as_iterator else numbers
    assert list(pool.imap(tasks.square, source, chunksize)) == [n * n for n in numbers]


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("as_iterator", [False, True], ids=["list", "iterator"])
def test_imap_unordered_gives_each_result_once(
    pool: garrison.Pool, chunksize: int, as_iterator: bool
) -> None:
    numbers: Any = list(range(50))
    source = iter(numbers) if as_iterator else numbers
    found = sorted(pool.imap_unordered(tasks.square, source, chunksize))
    assert found == [n * n for n in numbers]


def test_imap_of_many_items_loses_none(pool: garrison.Pool) -> None:
    assert list(pool.imap(tasks.identity, range(3000))) == list(range(3000))
    assert sorted(pool.imap_unordered(tasks.identity, iter(range(3000)))) == list(range(3000))


def test_imap_reads_an_endless_input_as_results_are_wanted(pool: garrison.Pool) -> None:
    results = pool.imap(tasks.square, itertools.count())
    assert list(itertools.islice(results, 30)) == [n * n for n in range(30)]


def test_next_of_an_iterator_takes_a_timeout(pool: garrison.Pool) -> None:
    results = pool.imap(tasks.square, [2, 3])
    assert results.next(timeout=tasks.WAIT_S) == 4
    assert results.next(tasks.WAIT_S) == 9
    with pytest.raises(StopIteration):
        results.next(timeout=1)


@pytest.mark.needs("parallel")
def test_next_of_an_iterator_ends_at_its_timeout(pool: garrison.Pool, marks: MakeMarks) -> None:
    go = marks("go")
    results = pool.imap(tasks.identity, [1])
    assert results.next(timeout=tasks.WAIT_S) == 1
    late = pool.imap(lambda n: tasks.wait_for(go, 1, n), [7])
    with pytest.raises(multiprocessing.TimeoutError):
        late.next(timeout=0.01)
    go.add()
    assert late.next(timeout=tasks.WAIT_S) == 7


@pytest.mark.needs("parallel")
def test_imap_unordered_gives_the_first_result_first(pool: garrison.Pool, marks: MakeMarks) -> None:
    go = marks("go")

    def late_if_first(n: int) -> int:
        return int(tasks.wait_for(go, 1, n)) if n == 0 else n

    results = pool.imap_unordered(late_if_first, range(2))
    assert next(results) == 1
    go.add()
    assert next(results) == 0


def test_error_of_an_input_comes_at_its_place(pool: garrison.Pool) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("no more")

    results = pool.imap(tasks.square, source())
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(OSError, match="no more"):
        next(results)


def test_imap_can_be_fed_from_its_results(pool: garrison.Pool) -> None:
    queue = [1]

    def source() -> Iterator[int]:
        while queue:
            yield queue.pop()

    results = pool.imap(tasks.add, source())
    found = [next(results)]
    assert found == [1]


# --- What travels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1000, 100_000, 5_000_000])
def test_bytes_of_any_size_come_back(pool: garrison.Pool, size: int) -> None:
    data = bytes(range(256)) * (size // 256)
    assert pool.apply(tasks.identity, (data,)) == data


@pytest.mark.needs("extensions")
def test_arrays_come_back(pool: garrison.Pool) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(200_000.0).reshape(2, -1)
    doubled = pool.map(lambda row: 2 * row, array)
    assert (numpy.array(doubled) == 2 * array).all()
    doubled[0][0] = 5  # it is ours


@pytest.mark.needs("pickling", "extensions")
def test_shared_object_arrives(pool: garrison.Pool) -> None:
    shared = garrison.share({"a": list(range(1000))})
    sums = pool.map(lambda n: sum(shared.get()["a"]) + n, range(4))
    assert sums == [499_500 + n for n in range(4)]


@pytest.mark.needs("pickling", "parallel")
def test_arguments_are_as_they_were_at_the_call(pool: garrison.Pool, marks: MakeMarks) -> None:
    go, changing = marks("go"), [1]
    first = [pool.apply_async(tasks.wait_for, (go, 1)) for _ in range(2)]
    results = pool.apply_async(tasks.identity, (changing,)), pool.map_async(len, [changing])
    changing.append(2)
    go.add()
    assert results[0].get() == [1]
    assert results[1].get() == [1]
    assert [each.get() for each in first] == [None, None]


# --- The pool itself ------------------------------------------------------------------------------


def test_it_is_a_pool(pool: garrison.Pool) -> None:
    assert isinstance(pool, garrison.Pool)
    assert isinstance(pool, multiprocessing.pool.Pool)
    assert pool._processes == 2
    assert isinstance(pool.seed, int)
    assert len(pool._pool) in {0, 2}


def test_statistics_count_tasks(pool: garrison.Pool) -> None:
    before = pool.statistics()
    pool.map(tasks.square, range(10), chunksize=5)
    assert before.workers >= 1
    assert before.queued == before.busy == 0
    wait_until(lambda: pool.statistics().completed >= before.completed + 2)
    assert pool.statistics().queued == 0
    assert f"{before.workers} workers" in str(pool)


@pytest.mark.needs("parallel")
def test_statistics_show_what_waits_and_runs(pool: garrison.Pool, marks: MakeMarks) -> None:
    go, begun = marks("go"), marks("begun")
    running = [pool.apply_async(tasks.wait_for, (go, 1)) for _ in range(2)]
    waiting = [pool.apply_async(tasks.mark, (begun,)) for _ in range(5)]
    wait_until(lambda: pool.statistics().busy == 2)
    now = pool.statistics()
    assert now.queued + now.busy >= 2
    assert now.in_flight == 7
    assert begun.count() == 0
    go.add()
    for each in (*running, *waiting):
        each.wait()
    wait_until(lambda: pool.statistics().busy == 0)


@pytest.mark.needs("pids")
def test_statistics_list_the_workers(pool: garrison.Pool) -> None:
    assert pool.apply(tasks.pid) in pool.statistics().worker_pids


@pytest.mark.needs("processes")
def test_tasks_run_in_other_processes(pool: garrison.Pool) -> None:
    import os

    assert os.getpid() not in pool.map(tasks.pid, range(4))
