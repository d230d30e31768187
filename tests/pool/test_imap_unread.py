"""`imap` without a reader: finite inputs run to their end, others up to a bound."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import garrison
from garrison import Pool
from garrison.pool import ThreadPool, _imap_reader, _imap_stream
from waiting import wait_until

from . import tasks
from .tasks import Door, Tally

BOTH = pytest.mark.parametrize("name", ["imap", "imap_unordered"])
KINDS = pytest.mark.parametrize("kind", [Pool, ThreadPool])


class Noting:
    """Counts its calls."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def __call__(self, item: Any) -> Any:
        self.tally.add("x")
        return item


class Sized:
    """Has a length, and is no list: reading it might block."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


class Listed(list[int]):
    def __iter__(self) -> Iterator[int]:
        return (-each for each in list.__iter__(self))


SIZED = [range(300), list(range(300)), np.arange(300), Sized(300), Listed(range(300))]


@BOTH
@KINDS
@pytest.mark.parametrize("chunksize", [1, 7])
@pytest.mark.parametrize("items", SIZED, ids=lambda items: type(items).__name__)
def test_a_sized_input_runs_to_its_end(
    tmp_path: Path, kind: Any, name: str, chunksize: int, items: Any
) -> None:
    tally = Tally(tmp_path)
    with kind(2) as pool:
        results = getattr(pool, name)(Noting(tally), items, chunksize)
        wait_until(lambda: tally.total == 300)
        assert sorted(map(abs, results)) == list(range(300))
    assert tally.total == 300


@BOTH
def test_unread_results_are_computed_under_each_start_method(
    tmp_path: Path, name: str, context: Any
) -> None:
    tally = Tally(tmp_path)
    with context.Pool(2) as pool:
        results = getattr(pool, name)(Noting(tally), range(1000))
        wait_until(lambda: tally.total == 1000)
        assert sorted(results) == list(range(1000))


@BOTH
@pytest.mark.parametrize("read", [0, 1])
def test_a_sized_input_runs_to_its_end_though_its_iterator_is_gone(
    tmp_path: Path, name: str, read: int
) -> None:
    tally = Tally(tmp_path)
    with Pool(2) as pool:
        results = getattr(pool, name)(Noting(tally), range(1000))
        for _ in range(read):
            next(results)
        del results
        wait_until(lambda: tally.total == 1000)
        pool.close()
        pool.join()
        assert not pool._pending_readers
    assert tally.total == 1000


@BOTH
@KINDS
def test_any_other_input_is_read_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: Any
) -> None:
    monkeypatch.setattr(_imap_reader, "MAX_UNREAD", 1000)
    taken = itertools.count()
    source = (next(taken) for _ in itertools.repeat(None))
    most = 1000 + _imap_stream.MAX_BATCH_ITEMS
    with kind(2) as pool:
        results = getattr(pool, name)(tasks.identity, source)
        wait_until(lambda: sum(batch.left for batch in tuple(results.stream._batches)) >= 1000)
        # Once more than that is unread nothing is read, however long nobody comes.
        wait_until(lambda: all(batch.taken for batch in tuple(results.stream._batches)))
        assert next(taken) <= most
        for _ in range(5000):
            next(results)
        assert next(taken) <= 5000 + most + 2


@BOTH
@KINDS
def test_as_many_results_as_the_bound_come_though_unread(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: Any
) -> None:
    monkeypatch.setattr(_imap_reader, "MAX_UNREAD", 100)
    ended = threading.Event()

    def items() -> Iterator[int]:
        yield from range(100)
        ended.set()

    with kind(2) as pool:
        # The last chunk is full: the end of the input is not seen with it.
        results = getattr(pool, name)(tasks.identity, items(), chunksize=10)
        ended.wait()
        assert sorted(results) == list(range(100))


@BOTH
def test_65536_results_of_a_generator_come_though_unread(name: str) -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        yield from range(65_536)
        ended.set()

    with Pool(2) as pool:
        results = getattr(pool, name)(tasks.identity, items())
        ended.wait()
        assert sorted(results) == list(range(65_536))


def test_large_results_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_imap_reader, "MAX_UNREAD_BYTES", 1_000_000)
    with Pool(2) as pool:
        results = pool.imap(bytes, itertools.repeat(100_000), chunksize=2)
        stream = results.stream
        wait_until(lambda: sum(batch.size for batch in tuple(stream._batches)) >= 1_000_000)
        wait_until(lambda: all(batch.taken for batch in tuple(stream._batches)))
        # What was under way at that moment comes on top.
        assert sum(batch.size for batch in tuple(stream._batches)) <= 1_000_000 + 9 * 202_000
        assert [len(next(results)) for _ in range(50)] == [100_000] * 50


def test_a_buffersize_holds_up_a_sized_input(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with Pool(2) as pool:
        results = pool.imap(Noting(tally), range(100), buffersize=5)
        wait_until(lambda: tally.total == 5)
        assert all(batch.ended for batch in results.stream._batches) or tally.total == 5
        assert list(results) == list(range(100))


def wait_or_push(item: tuple[Door, str]) -> str:
    door, what = item
    if what in {"wait", "push"}:
        getattr(door, what)()
    return what


@BOTH
@pytest.mark.parametrize("kind", [list, iter])
def test_a_slow_first_item_holds_up_no_other(tmp_path: Path, name: str, kind: Any) -> None:
    door = Door(tmp_path, "door")
    items = [(door, "wait"), *[(door, "")] * 300, (door, "push")]
    with Pool(2) as pool:
        results = list(getattr(pool, name)(wait_or_push, kind(items)))
    assert sorted(results) == sorted(what for _, what in items)


@KINDS
def test_results_come_in_the_order_of_their_ends_though_unread(tmp_path: Path, kind: Any) -> None:
    doors = [Door(tmp_path, f"door{n}") for n in range(4)]

    def step(n: int) -> int:
        if n:
            doors[n].wait()
        return n

    with kind(4) as pool:
        results = pool.imap_unordered(step, range(4))
        for place, n in enumerate((0, 2, 3, 1), 1):
            if n:
                doors[n].push()
            wait_until(partial(has_ended, results, place))
        assert list(results) == [0, 2, 3, 1]


def has_ended(results: Any, count: int) -> bool:
    batches = tuple(results.stream._batches)
    return bool(sum(batch.count for batch in batches if batch.ended) >= count)


@BOTH
@pytest.mark.parametrize("make", [list, dict.fromkeys, set, bytearray])
def test_the_input_may_change_after_the_call(name: str, make: Callable[[Any], Any]) -> None:
    items = make(range(200))
    with Pool(1) as pool:
        results = getattr(pool, name)(tasks.identity, items)
        items.clear()
        assert sorted(results) == list(range(200))


def test_two_threads_share_an_unread_iterator() -> None:
    with Pool(2) as pool:
        results = pool.imap_unordered(tasks.identity, range(20_000))
        wait_until(lambda: results.stream.is_fully_submitted)
        found: list[list[int]] = [[], []]
        threads = [threading.Thread(target=each.extend, args=(results,)) for each in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(itertools.chain(*found)) == list(range(20_000))


@BOTH
def test_the_results_are_read_after_the_end_of_the_pool(name: str) -> None:
    with Pool(2) as pool:
        results = getattr(pool, name)(tasks.square, range(3000))
        wait_until(
            lambda: (
                results.stream.is_fully_submitted and all(b.ended for b in results.stream._batches)
            )
        )
    assert sorted(results) == [n * n for n in range(3000)]


@pytest.mark.parametrize("end", ["terminate", "close", "forget"])
@pytest.mark.filterwarnings("ignore:unclosed running")
def test_the_thread_ends_with_the_pool(end: str) -> None:
    pool = Pool(2)
    results = pool.imap(tasks.square, range(3000))
    [thread] = [each for each in threading.enumerate() if each.name == "garrison-advancer"]
    if end == "close":
        pool.close()
        pool.join()
    elif end == "terminate":
        pool.terminate()
    del pool, results
    gc.collect()
    thread.join()


def test_a_child_forked_meanwhile_ends() -> None:
    with Pool(2) as pool:
        results = pool.imap(tasks.square, range(100_000))
        next(results)
        for _ in range(5):
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    results.next()
                except garrison.PoolClosed:
                    del results
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0


PROGRAM = """
import garrison, itertools
pool = garrison.Pool(2)
sized = pool.imap(abs, range(10**9))
endless = pool.imap_unordered(abs, itertools.count())
print(next(sized), next(endless) >= 0, flush=True)
"""


@pytest.mark.parametrize("how", ["", "raise SystemExit(3)", "import os; os._exit(3)"])
def test_the_program_ends_in_the_middle(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM + how],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("0 True\n", 3 if how else 0)
    assert not done.stderr
