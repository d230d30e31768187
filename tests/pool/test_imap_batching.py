"""Items that share a cell must not notice: each as if it had travelled alone."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool, SharedMemoryFull, WorkerDied, _os

from . import tasks
from .tasks import Door

BOTH = pytest.mark.parametrize("name", ["imap", "imap_unordered"])
MANY = 3000
"""Quick items: enough that cells are shared."""


def drain(results: Any) -> tuple[list[Any], list[BaseException]]:
    """Read on to the end, past the errors."""
    values: list[Any] = []
    errors: list[BaseException] = []
    while True:
        try:
            values.append(next(results))
        except StopIteration:
            return values, errors
        except Exception as error:
            errors.append(error)


# --- What an item is ---------------------------------------------------------------------------


def append_and_count(items: list[int]) -> int:
    items.append(1)
    return len(items)


@BOTH
def test_one_object_many_times_is_many_objects(name: str) -> None:
    same: list[int] = []
    with Pool(2) as pool:
        for items in ([same] * MANY, itertools.repeat(same, MANY)):
            assert set(getattr(pool, name)(append_and_count, items)) == {1}


def first(items: list[int]) -> int:
    return items[0]


@pytest.mark.parametrize("chunksize", [1, 5])
def test_a_source_may_use_its_object_again(chunksize: int) -> None:
    def frames() -> Iterator[list[int]]:
        frame = [0]
        for frame[0] in range(MANY):
            yield frame

    with Pool(2) as pool:
        assert list(pool.imap(first, frames(), chunksize)) == list(range(MANY))


@BOTH
@pytest.mark.parametrize("limit", [1, 10])
def test_each_item_counts_for_maxtasksperchild(name: str, limit: int) -> None:
    with Pool(1, maxtasksperchild=limit) as pool:
        pids = list(getattr(pool, name)(tasks.own_pid, range(200)))
    assert max(pids.count(pid) for pid in set(pids)) <= limit


def test_items_of_all_kinds_share_cells() -> None:
    items: list[Any] = [1, "a", b"b", None, True, 2.5, 1j, (1, 2), [3], {"x": 4}, "long" * 10_000]
    items *= 100
    with Pool(2) as pool:
        assert list(pool.imap(tasks.identity, items)) == items


# --- Deaths -------------------------------------------------------------------------------------


def die_at(item: tuple[int, int]) -> int:
    number, deadly = item
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@BOTH
def test_the_rest_of_a_cell_runs_even_if_the_pool_was_closed(name: str) -> None:
    deadly = MANY - 50
    with Pool(1) as pool:
        results = getattr(pool, name)(die_at, [(n, deadly) for n in range(MANY)])
        next(results)
        pool.close()
        values, errors = drain(results)
        assert sorted(values) == [n for n in range(1, MANY) if n != deadly]
        assert [type(error) for error in errors] == [WorkerDied]
        pool.join()


@BOTH
def test_the_rest_of_a_cell_runs_in_join(name: str) -> None:
    deadly = MANY - 50
    pool = Pool(2)
    results = getattr(pool, name)(die_at, [(n, deadly) for n in range(MANY)])
    pool.close()
    pool.join()
    values, errors = drain(results)
    assert sorted(values) == [n for n in range(MANY) if n != deadly]
    assert [type(error) for error in errors] == [WorkerDied]


def meet_at_the_end(item: tuple[int, Door, Door]) -> int:
    number, here, there = item
    if number == MANY - 2:
        here.push()
        there.wait()
    if number == MANY - 1:
        here.wait()
        there.push()
    return number


@BOTH
def test_join_splits_cells_of_items_that_wait_for_each_other(tmp_path: Path, name: str) -> None:
    here, there = Door(tmp_path, "here"), Door(tmp_path, "there")
    pool = Pool(2)
    results = getattr(pool, name)(meet_at_the_end, [(n, here, there) for n in range(MANY)])
    pool.close()
    pool.join()
    assert sorted(results) == list(range(MANY))


def big_at(item: tuple[int, int]) -> int | bytes:
    number, wanted = item
    return b"x" * (3 << 20) if number == wanted else number


def test_result_without_memory_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_os, "region_size", lambda: 4 << 20)
    with Pool(2) as pool:
        values, errors = drain(pool.imap(big_at, [(n, 2500) for n in range(MANY)]))
        assert values == [n for n in range(MANY) if n != 2500]
        assert [type(error) for error in errors] == [SharedMemoryFull]


# --- Locks of the user, threads, interrupts ------------------------------------------------------


class Guarded:
    """Cannot be pickled while somebody holds the lock."""

    lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        with self.lock:
            return int, (7,)


@BOTH
def test_pickling_an_item_does_not_block_next(name: str) -> None:
    with Pool(1) as pool, Guarded.lock:
        results = getattr(pool, name)(tasks.identity, (Guarded() for _ in range(3)))
        with pytest.raises(garrison.TimeoutError):
            results.next(timeout=0.01)
        Guarded.lock.release()
        assert list(results) == [7, 7, 7]
        Guarded.lock.acquire()


@BOTH
def test_a_waiting_consumer_keeps_no_other_from_its_timeout(tmp_path: Path, name: str) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        results = getattr(pool, name)(Door.wait, [door])
        other = threading.Thread(target=lambda: next(results))
        other.start()
        with pytest.raises(garrison.TimeoutError):
            results.next(timeout=0.01)
        door.push()
        other.join()


def test_join_does_not_keep_the_consumer_from_feeding_the_input() -> None:
    seen = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for n in range(20):
            yield n
            seen.acquire()

    pool = Pool(2)
    results = pool.imap(tasks.square, items())

    def end() -> None:
        pool.close()
        pool.join()

    joiner = threading.Thread(target=end)
    for n in range(20):
        assert next(results) == n * n
        if n == 3:
            joiner.start()
        seen.release()
    joiner.join()


class Interrupting:
    """A result that is interrupted once, while it is being rebuilt."""

    interrupted = False

    def __init__(self, number: int) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["number"] == 3 and not Interrupting.interrupted:
            Interrupting.interrupted = True
            raise KeyboardInterrupt
        self.__dict__.update(state)


@BOTH
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_an_interrupt_while_a_result_is_decoded_ends_the_iterator(
    name: str, buffersize: int | None
) -> None:
    Interrupting.interrupted = False
    with Pool(2) as pool:
        results = getattr(pool, name)(Interrupting, range(50), buffersize=buffersize)
        found: list[int] = []
        with pytest.raises(KeyboardInterrupt):
            found.extend(result.number for result in results)
        assert len(set(found)) == len(found) < 50
        with pytest.raises(garrison.TaskCancelled):
            next(results)
        assert list(results) == []
        assert pool.map(abs, [-1, -2]) == [1, 2]


class HasLength:
    """A generator with a known length: progress bars and data loaders look like this."""

    def __init__(self, items: Iterator[Any], length: int) -> None:
        self._items, self._length = items, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return self._items


@BOTH
def test_an_input_with_a_length_may_block_all_the_same(name: str) -> None:
    seen = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for n in range(20):
            yield n
            seen.acquire()

    with Pool(2) as pool:
        for _ in getattr(pool, name)(tasks.square, HasLength(items(), 20)):
            seen.release()


# --- What stays -----------------------------------------------------------------------------------


def test_abandoned_iterators_are_freed() -> None:
    with Pool(2) as pool:
        for _ in range(50):
            assert any(pool.imap(bool, iter([1] * 2000)))
        pool.close()
        pool.join()
        assert not pool._pending_readers


def test_reader_thread_ends_with_a_dropped_pool() -> None:
    with warnings.catch_warnings():
        # Shown, not recorded: a record would keep the pool.
        warnings.simplefilter("ignore", ResourceWarning)
        Pool(1).imap(tasks.square, itertools.count())
        gc.collect()
    for thread in threading.enumerate():
        if thread.name == "garrison-reader":
            thread.join()


def test_stopped_supervisor_blocks_no_caller() -> None:
    with Pool(1, timeout=3600) as pool:
        supervisor, pid = pool._backend.supervisor, pool.statistics().supervisor_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            # More than any socket takes.
            for _ in range(100_000):
                supervisor.wake()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert pool.apply(tasks.square, (3,)) == 9
