"""`map`, `starmap` and their asynchronous forms: how the input is divided, sent and gathered."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool
from garrison.pool import MapResult, _chunking
from waiting import becomes_true

from . import tasks
from .tasks import Door, Tally

# --- The sizes of chunks ----------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 16])
def test_guided_chunks_get_smaller_and_cover_all(processes: int) -> None:
    for items in (1, 2, 7, 100, 1001, 200_000):
        sizes = list(_chunking.guided_sizes(items, processes))
        assert sum(sizes) == items
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 1
        assert sizes[0] <= max(1, items // (_chunking.CHUNKS_PER_WORKER * processes))
    assert list(_chunking.guided_sizes(0, processes)) == []


def test_few_items_are_chunks_of_their_own() -> None:
    assert list(_chunking.guided_sizes(30, 2)) == [1] * 30


def test_the_last_chunks_are_small_whatever_the_first_were() -> None:
    sizes = list(_chunking.guided_sizes(10_000, 2))
    assert sum(sizes[-8:]) == 8
    assert len(sizes) < 200


def test_even_chunks_are_the_standard_librarys() -> None:
    sizes = [_chunking.equal_size(items, 2) for items in (0, 1, 7, 8, 9, 100)]
    assert sizes == [0, 1, 1, 1, 2, 13]


def test_slices_cut_as_the_sizes_say() -> None:
    assert list(_chunking.chunks([1, 2, 3, 4, 5], iter([2, 1, 9, 9]))) == [[1, 2], [3], [4, 5]]
    assert list(_chunking.chunks([], iter([2]))) == []
    assert list(_chunking.chunks([1, 2, 3], itertools.repeat(2))) == [[1, 2], [3]]


# --- Inputs -----------------------------------------------------------------------------------

INPUTS: dict[str, Callable[[], Any]] = {
    "list": lambda: [0, 1, 2, 3],
    "tuple": lambda: (0, 1, 2, 3),
    "range": lambda: range(4),
    "generator": lambda: (n for n in range(4)),
    "dict": lambda: {0: "a", 1: "b", 2: "c", 3: "d"},
    "iterator": lambda: iter([0, 1, 2, 3]),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_any_input_is_mapped_in_order(kind: str) -> None:
    with Pool(2) as pool:
        for chunksize in (None, 1, 3, 100):
            assert pool.map(tasks.square, INPUTS[kind](), chunksize) == [0, 1, 4, 9]
            assert pool.map_async(tasks.square, INPUTS[kind](), chunksize).get() == [0, 1, 4, 9]


def test_many_items_under_each_start_method(context: Any) -> None:
    with context.Pool(2) as pool:
        for chunksize in (None, 1, 999):
            assert pool.map(tasks.square, range(5000), chunksize) == [n * n for n in range(5000)]


def test_the_input_may_change_after_the_call(tmp_path: Path) -> None:
    door, items = Door(tmp_path, "door"), list(range(100))
    with Pool(1) as pool:
        pool.apply_async(tasks.meet, (door, False))
        result = pool.map_async(tasks.square, items)
        door.push()
        items[:] = [0] * 100
        assert result.get() == [n * n for n in range(100)]


def test_starmap_takes_any_iterables_of_arguments() -> None:
    with Pool(2) as pool:
        assert pool.starmap(pow, [(2, 3), [3, 2], iter([5, 2])]) == [8, 9, 25]
        assert pool.starmap(pow, zip([1, 2], [3, 4], strict=True)) == [1, 16]
        assert pool.starmap_async(max, [(1, 2, 3), (4, 5)], 1).get() == [3, 5]
        with pytest.raises(TypeError, match="'int' object is not iterable"):
            pool.starmap(pow, [(1, 2), 3])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["map", "starmap"])
def test_map_of_an_empty_input_is_ready_at_once(name: str) -> None:
    with Pool(1) as pool:
        assert getattr(pool, name)(pow, []) == []
        result = getattr(pool, f"{name}_async")(pow, iter(()))
        assert result.ready()
        assert result.successful()
        assert result.get() == []


def raising_at(position: int) -> Iterator[int]:
    yield from range(position)
    raise LookupError("the input")


def test_an_input_that_raises_is_an_error_of_the_call(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    with Pool(1) as pool:
        with pytest.raises(LookupError, match="the input"):
            pool.map_async(lambda n: tally.add(), raising_at(50))
        assert pool.apply(tasks.square, (3,)) == 9
    assert tally.total == 0


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"chunksize": 0}, "chunksize must be at least 1, not 0"),
        ({"chunksize": -1}, "chunksize must be at least 1, not -1"),
        ({"chunksize": 2.5}, "chunksize must be a whole number, not 2.5"),
        ({"iterable": 3}, "'int' object is not iterable"),
        ({"iterable": None}, "'NoneType' object is not iterable"),
    ],
)
@pytest.mark.parametrize("name", ["map", "map_async", "starmap", "starmap_async"])
def test_bad_values_are_named_at_the_call(name: str, bad: dict[str, Any], error: str) -> None:
    with Pool(1) as pool:
        with pytest.raises((TypeError, ValueError), match=error):
            getattr(pool, name)(**{"func": tasks.square, "iterable": [], **bad})
        assert pool.map(tasks.square, [3]) == [9]


# --- Errors -----------------------------------------------------------------------------------


def raise_if_negative(n: int) -> int:
    if n < 0:
        raise LookupError(n)
    return n


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_the_error_is_that_of_the_first_item_that_failed(chunksize: int | None) -> None:
    with Pool(2) as pool:
        for _ in range(5):
            with pytest.raises(LookupError) as caught:
                pool.map(raise_if_negative, [1, 2, -3, 4, 5, -6, 7, -8] * 3, chunksize)
            assert caught.value.args == (-3,)


def test_the_items_beside_the_failed_one_are_worked_on(tmp_path: Path) -> None:
    tally = Tally(tmp_path)

    def fail_at_zero(n: int) -> int:
        tally.add(str(n))
        return 1 // n

    with Pool(2) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.map_async(fail_at_zero, range(10), chunksize=1).get()
        pool.close()
        pool.join()
    assert sorted(map(int, tally.marks())) == list(range(10))


@pytest.mark.parametrize("failing", [0, 1])
def test_the_first_failure_withdraws_what_has_not_begun(failing: int, tmp_path: Path) -> None:
    tally, gate = Tally(tmp_path), tmp_path / "gate"

    def fail_or_wait(n: int) -> None:
        tally.add(str(n))
        if n == failing:
            raise LookupError(n)
        becomes_true(gate.exists)

    def open_when_withdrawn(pool: Pool) -> None:
        becomes_true(lambda: tally.total >= 2 and pool.statistics().in_flight <= 3)
        gate.touch()

    with Pool(2) as pool:
        opener = threading.Thread(target=open_when_withdrawn, args=(pool,))
        opener.start()
        with pytest.raises(LookupError) as caught:
            pool.map(fail_or_wait, range(100), chunksize=1)
        opener.join()
        assert caught.value.args == (failing,)
        assert pool.map(abs, [-1, -2]) == [1, 2]
    # The one that failed, the one beside it, and one that followed it before anybody knew.
    assert tally.total <= 3


# --- More than the window ---------------------------------------------------------------------


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> int:
    size = 300_000
    monkeypatch.setattr(MapResult, "MAX_BYTES_IN_FLIGHT", size)
    return size


def total_length(text: bytes) -> int:
    return len(text)


def test_a_map_with_more_bytes_than_may_be_in_flight(small_window: int) -> None:
    items = [bytes([n % 256]) * 50_000 for n in range(100)]
    with Pool(2) as pool:
        assert pool.map(tasks.identity, items, chunksize=1) == items
        assert pool.map(total_length, items) == [50_000] * 100
        assert pool._backend.parent.allocated < small_window


def test_no_more_bytes_than_the_limit_are_in_flight(small_window: int, tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        pool.apply_async(tasks.meet, (door, False))
        result = pool.map_async(total_length, [b"x" * 50_000] * 100, chunksize=1)
        assert not result.ready()
        assert pool.statistics().in_flight < 10
        assert pool._backend.parent.allocated < 2 * small_window
        door.push()
        assert result.get() == [50_000] * 100


@pytest.mark.usefixtures("small_window")
def test_a_map_with_more_bytes_than_may_be_in_flight_needs_no_waiting_thread(
    tmp_path: Path,
) -> None:
    tally = Tally(tmp_path)
    with Pool(2) as pool:
        pool.map_async(lambda text: tally.add(), [b"x" * 50_000] * 100, chunksize=1)
        pool.close()
        pool.join()
    assert tally.total == 100


@pytest.mark.usefixtures("small_window")
def test_a_map_with_more_bytes_than_may_be_in_flight_is_called_back(tmp_path: Path) -> None:
    door = Door(tmp_path, "called")
    with Pool(2) as pool:
        items = [b"x" * 50_000] * 100
        result = pool.map_async(total_length, items, 1, callback=lambda _: door.push())
        door.wait()
        assert result.get() == [50_000] * 100


@pytest.mark.usefixtures("small_window")
def test_wait_with_a_timeout_submits_as_well(tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        pool.apply_async(tasks.meet, (door, False))
        result = pool.map_async(total_length, [b"x" * 50_000] * 100, chunksize=1)
        result.wait(0.01)
        with pytest.raises(garrison.TimeoutError):
            result.get(0.01)
        door.push()
        result.wait()
        assert result.ready()
        assert result.successful()
        assert len(result.get()) == 100


@pytest.mark.usefixtures("small_window")
def test_an_error_in_a_later_chunk_than_may_be_in_flight_is_found() -> None:
    items: list[Any] = [b"x" * 50_000] * 60 + [3] + [b"x" * 50_000] * 60
    with Pool(2) as pool:
        with pytest.raises(TypeError, match="object of type 'int' has no len"):
            pool.map(total_length, items, chunksize=1)
        assert pool.map(tasks.square, [3]) == [9]


def fail_with(shared: garrison.Shared[bytes]) -> None:
    raise ValueError(len(shared.get()))


def test_map_that_fails_lets_go_of_all_shared_arguments() -> None:
    """A worker that begins a task takes over what handles keep; a withdrawn one has no worker."""
    with Pool(2) as pool:
        fail_with_shares(pool)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            fail_with_shares(pool)
        assert becomes_true(lambda: len(os.listdir("/proc/self/fd")) <= before, 10)


def fail_with_shares(pool: Any) -> None:
    shares = [garrison.share(bytes(100_000)) for _ in range(20)]
    with pytest.raises(ValueError, match="100000"):
        pool.map(fail_with, shares, chunksize=1)
