"""`imap` and `imap_unordered`: results while the input is read, and no more of it than needed."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool
from garrison.pool import _imap_reader, _imap_stream

from . import tasks
from .tasks import Door, Tally

BOTH = pytest.mark.parametrize("name", ["imap", "imap_unordered"])


class Source:
    """An input that knows how much of it was taken."""

    def __init__(self, items: Any, pause: float = 0.0) -> None:
        self._items, self._pause = iter(items), pause
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        if self._pause:
            time.sleep(self._pause)
        self.taken += 1
        return item


# --- How much of the input is read ------------------------------------------------------------


@BOTH
def test_an_endless_input_is_read_with_a_bound(name: str) -> None:
    source = Source(itertools.count())
    with Pool(2) as pool:
        results = getattr(pool, name)(tasks.square, source)
        bound = _imap_reader.MAX_UNREAD + _imap_stream.MAX_BATCH_ITEMS
        for handed_out in range(1, 5001):
            next(results)
            assert source.taken <= handed_out + bound


@BOTH
@pytest.mark.parametrize("buffersize", [1, 3, 64])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_no_more_items_are_read_ahead_than_buffersize(
    name: str, buffersize: int, chunksize: int
) -> None:
    source = Source(range(500))
    with Pool(2) as pool:
        results = getattr(pool, name)(tasks.square, source, chunksize, buffersize)
        for handed_out in itertools.count():
            assert source.taken <= handed_out + max(buffersize, 1)
            try:
                next(results)
            except StopIteration:
                break
    assert handed_out == source.taken == 500


def test_buffersize_as_an_option_of_the_pool() -> None:
    source = Source(itertools.count())
    with Pool(2, buffersize=5) as pool:
        results = pool.imap(tasks.square, source)
        assert list(itertools.islice(results, 20)) == [n * n for n in range(20)]
        assert source.taken <= 25
        wide = pool.options(buffersize=50).imap(tasks.square, Source(range(100)))
        assert sum(wide) == sum(n * n for n in range(100))


@BOTH
@pytest.mark.parametrize("buffersize", [None, 1])
def test_an_input_may_wait_for_earlier_results(name: str, buffersize: int | None) -> None:
    orders: queue.Queue[int | None] = queue.Queue()
    orders.put(0)
    with Pool(2) as pool:
        results = getattr(pool, name)(tasks.square, iter(orders.get, None), buffersize=buffersize)
        for result in results:
            orders.put(result + 1 if result < 100 else None)
    assert result == 676


@BOTH
def test_an_input_may_block_in_the_middle_of_a_batch(name: str) -> None:
    # After the quick ones a batch is large; those that are read wait for no more of them.
    seen: queue.Queue[int] = queue.Queue()

    def items() -> Iterator[int]:
        yield from range(2000)
        for n in range(2000, 2020):
            yield n
            while seen.get() != n:
                pass

    with Pool(2) as pool:
        for n in getattr(pool, name)(tasks.identity, items()):
            seen.put(n)
    assert n == 2019


def push_and_square(item: tuple[Door | None, int]) -> int:
    door, n = item
    if door is not None:
        door.push()
    return n * n


@BOTH
def test_input_is_read_between_calls_of_next(tmp_path: Path, name: str) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        items = ((door if n == 3 else None, n) for n in range(10))
        results = getattr(pool, name)(push_and_square, items)
        door.wait()
        assert list(results) == [n * n for n in range(10)]


@BOTH
@pytest.mark.parametrize("end", ["exhausted", "dropped", "terminated"])
def test_the_reading_thread_ends_with_the_input_the_iterator_or_the_pool(
    name: str, end: str
) -> None:
    pool = Pool(2)
    results = getattr(pool, name)(tasks.square, Source(range(3000)))
    next(results)
    (reader,) = [each for each in threading.enumerate() if each.name == "garrison-reader"]
    if end == "exhausted":
        assert len(list(results)) == 2999
    elif end == "dropped":
        del results
    else:
        pool.terminate()
    reader.join()
    pool.terminate()


@BOTH
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_input_that_raises_a_base_exception_ends_the_iterator(
    name: str, error: type[BaseException]
) -> None:
    def items() -> Iterator[int]:
        yield 3
        raise error

    with Pool(1) as pool:
        results = getattr(pool, name)(tasks.square, items())
        assert next(results) == 9
        with pytest.raises(error):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


# --- What comes out ---------------------------------------------------------------------------


def test_each_result_comes_once_whatever_the_chunksize(context: Any) -> None:
    with context.Pool(2) as pool:
        for chunksize in (1, 7, 1000):
            assert list(pool.imap(tasks.square, range(500), chunksize)) == [
                n * n for n in range(500)
            ]
            results = pool.imap_unordered(tasks.square, range(500), chunksize)
            assert sorted(results) == [n * n for n in range(500)]


@BOTH
def test_imap_of_an_empty_input_ends_at_once(name: str) -> None:
    with Pool(1) as pool:
        results = getattr(pool, name)(tasks.square, [])
        for _ in range(3):
            with pytest.raises(StopIteration):
                next(results)
            with pytest.raises(StopIteration):
                results.next(timeout=1)


def raise_for_odd(n: int) -> int:
    if n % 2:
        raise LookupError(n)
    return n


@pytest.mark.parametrize("chunksize", [1, 4])
def test_exceptions_are_raised_item_by_item(chunksize: int) -> None:
    with Pool(2) as pool:
        results = pool.imap(raise_for_odd, range(10), chunksize)
        for n in range(10):
            if n % 2:
                with pytest.raises(LookupError) as caught:
                    next(results)
                assert caught.value.args == (n,)
            else:
                assert next(results) == n
        with pytest.raises(StopIteration):
            next(results)


def raising_at(position: int) -> Iterator[int]:
    yield from range(position)
    raise LookupError("the input")


@BOTH
def test_exceptions_have_no_context_of_ours(name: str) -> None:
    with Pool(1) as pool:
        results = getattr(pool, name)(raise_for_odd, [1, 3])
        for _ in range(2):
            with pytest.raises(LookupError) as caught:
                next(results)
            assert caught.value.__context__ is None
        with pytest.raises(StopIteration) as end:
            next(results)
        assert end.value.__context__ is None


@BOTH
@pytest.mark.parametrize("position", [0, 3, 100])
def test_input_that_raises_midway_ends_the_iterator(name: str, position: int) -> None:
    with Pool(2) as pool:
        results = getattr(pool, name)(tasks.square, raising_at(position))
        found = [next(results) for _ in range(position)]
        assert sorted(found) == [n * n for n in range(position)]
        with pytest.raises(LookupError, match="the input"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        assert pool.apply(tasks.square, (3,)) == 9


def test_the_unfinished_chunk_of_an_input_that_raises_is_not_begun() -> None:
    with Pool(2) as pool:
        results = pool.imap(tasks.square, raising_at(5), chunksize=3)
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        with pytest.raises(LookupError):
            next(results)


def test_next_with_a_timeout(tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        results = pool.imap(wait_or_not, [door])
        for timeout in (0.01, 0.01, 0, -1):
            with pytest.raises(garrison.TimeoutError):
                results.next(timeout)
        door.push()
        assert results.next(timeout=60) == "slow"
        with pytest.raises(StopIteration):
            results.next(timeout=60)


def wait_or_not(door: Door | None) -> str:
    if door is None:
        return "quick"
    door.wait()
    return "slow"


def test_imap_unordered_returns_the_first_result(tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(2) as pool:
        results = pool.imap_unordered(wait_or_not, [door, None, None, None])
        assert [next(results) for _ in range(3)] == ["quick"] * 3
        door.push()
        assert next(results) == "slow"


def test_imap_keeps_the_order(tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(2) as pool:
        results = pool.imap(wait_or_not, [door, None, None, None])
        with pytest.raises(garrison.TimeoutError):
            results.next(timeout=0.01)
        door.push()
        assert list(results) == ["slow", "quick", "quick", "quick"]


def square_or_meet(item: int | tuple[Door, bool]) -> int:
    return item * item if isinstance(item, int) else tasks.meet(*item)


@BOTH
def test_items_that_need_each_other_do_not_share_a_worker(tmp_path: Path, name: str) -> None:
    # By then quick items share cells; one worker with both of the pair would wait for ever.
    quick: list[Any] = list(range(1000))
    for pushes_first in (True, False):
        door = Door(tmp_path, str(pushes_first))
        pair = [(door, pushes_first), (door, not pushes_first)]
        with Pool(2) as pool:
            items = [*quick, *pair, *quick]
            assert len(list(getattr(pool, name)(square_or_meet, items))) == len(items)


@BOTH
def test_quick_items_do_not_wait_for_a_slow_neighbour(tmp_path: Path, name: str) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        results = getattr(pool, name)(square_or_meet, [*range(1000), (door, False), 7])
        assert [next(results) for _ in range(1000)] == [n * n for n in range(1000)]
        door.push()
        assert next(results) in pool.statistics().worker_pids
        assert next(results) == 49


@BOTH
def test_threads_share_an_imap_iterator(name: str) -> None:
    with Pool(2) as pool:
        # Again and again: a thread that waits for a result which another one takes is rare.
        for _ in range(100):
            results = getattr(pool, name)(tasks.square, range(1000))
            found: list[list[int]] = [[] for _ in range(4)]
            threads = [threading.Thread(target=each.extend, args=(results,)) for each in found]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(itertools.chain(*found)) == [n * n for n in range(1000)]


def test_two_endless_iterators_are_read_in_turns() -> None:
    with Pool(2) as pool:
        squares = pool.imap(tasks.square, itertools.count())
        same = pool.imap(tasks.identity, itertools.count())
        for n, pair in zip(range(300), zip(squares, same, strict=True), strict=False):
            assert pair == (n * n, n)


def test_a_result_of_an_imap_inside_an_imap() -> None:
    with Pool(2) as pool:
        first = pool.imap(tasks.square, range(100))
        second = pool.imap(tasks.square, first)
        assert list(second) == [n**4 for n in range(100)]


# --- The end ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("kind", [range, Source], ids=["sized", "unsized"])
def test_input_is_processed_without_a_reader(
    tmp_path: Path, name: str, chunksize: int, kind: Any
) -> None:
    tally = Tally(tmp_path)
    items = range(300) if kind is range else kind(range(300))
    with Pool(2) as pool:
        getattr(pool, name)(lambda n: tally.add(str(n)), items, chunksize)
        pool.close()
        pool.join()
    assert sorted(tally.marks(), key=int) == [str(n) for n in range(300)]


@BOTH
def test_an_endless_input_ends_with_its_iterator(tmp_path: Path, name: str) -> None:
    tally, source = Tally(tmp_path), Source(itertools.count())
    with Pool(2) as pool:
        results = getattr(pool, name)(lambda n: tally.add(str(n)), source)
        next(results)
        del results
        pool.close()
        pool.join()
    marks = sorted(map(int, tally.marks()))
    assert marks == list(range(len(marks)))
    assert len(marks) <= source.taken <= _imap_reader.MAX_UNREAD


@BOTH
def test_close_and_join_run_the_rest(name: str) -> None:
    pool = Pool(2)
    results = getattr(pool, name)(tasks.square, Source(range(3000)))
    pool.close()
    pool.join()
    assert sorted(results) == [n * n for n in range(3000)]


def test_results_may_be_read_after_close() -> None:
    with Pool(2) as pool:
        results = pool.imap(tasks.square, Source(range(3000)))
        pool.close()
        assert list(results) == [n * n for n in range(3000)]
        pool.join()


def test_terminate_ends_next() -> None:
    with Pool(1) as pool:
        results = pool.imap(tasks.forever, range(3))
    with pytest.raises(garrison.PoolTerminated):
        next(results)


@BOTH
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"chunksize": 0}, "chunksize must be at least 1, not 0"),
        ({"chunksize": -3}, "chunksize must be at least 1, not -3"),
        ({"chunksize": 1.5}, "chunksize must be a whole number, not 1.5"),
        ({"buffersize": 0}, "buffersize must be at least 1, not 0"),
        ({"buffersize": "x"}, "buffersize must be a whole number, not 'x'"),
        ({"iterable": 3}, "'int' object is not iterable"),
    ],
)
def test_bad_values_are_named_at_the_call(name: str, bad: dict[str, Any], error: str) -> None:
    with Pool(1) as pool:
        with pytest.raises((ValueError, TypeError), match=error):
            getattr(pool, name)(**{"func": tasks.square, "iterable": [1], **bad})
        assert list(pool.imap(tasks.square, [3])) == [9]
