"""Whatever can be iterated is an input, as it is at the call; what cannot be sent is an outcome."""

from __future__ import annotations

import array
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import garrison
from garrison import Pool
from garrison.pool import ThreadPool

from . import tasks
from .tasks import Door, Tally


class Upper(list[str]):
    def __iter__(self) -> Iterator[str]:
        return (each.upper() for each in list.__iter__(self))


class ByIndex:
    """Iterated by `__getitem__`, as of old."""

    def __getitem__(self, index: int) -> int:
        if index == 3:
            raise IndexError
        return index


class Liar(list[int]):
    def __init__(self, said: int) -> None:
        super().__init__([1, 2, 3])
        self.said = said

    def __len__(self) -> int:
        return self.said


class Raising:
    """Sized, and breaks in the middle."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[int]:
        yield 1
        raise LookupError("the input")


INPUTS = {
    "subclass": (Upper("ab"), ["A", "B"]),
    "str": ("ab", ["a", "b"]),
    "bytes": (b"ab", [97, 98]),
    "dict": ({"a": 1, "b": 2}, ["a", "b"]),
    "ordered": (OrderedDict(b=1, a=2), ["b", "a"]),
    "values": ({"a": 1}.values(), [1]),
    "set": ({7}, [7]),
    "deque": (deque([1, 2]), [1, 2]),
    "array": (array.array("i", [3, 4]), [3, 4]),
    "numpy": (np.arange(3), [0, 1, 2]),
    "rows": (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    "by index": (ByIndex(), [0, 1, 2]),
    "too long": (Liar(1), [1, 2, 3]),
    "too short": (Liar(30), [1, 2, 3]),
}


def plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
@pytest.mark.parametrize("name", INPUTS)
def test_any_iterable_is_an_input(kind: Any, name: str) -> None:
    items, expected = INPUTS[name]
    with kind(2) as pool:
        for chunksize in (None, 1, 2):
            assert pool.map(plain, items, chunksize) == expected
            assert pool.map_async(plain, items, chunksize).get() == expected
        assert list(pool.imap(plain, items)) == expected
        assert list(pool.imap(plain, items, 2)) == expected
        assert sorted(pool.imap_unordered(plain, items)) == sorted(expected)


def test_list_may_change_after_the_call(tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        pool.apply_async(door.wait)
        items = list(range(100_000))
        result = pool.map_async(tasks.identity, items, 1)
        items.clear()
        door.push()
        assert result.get() == list(range(100_000))


def joined(*args: Any) -> str:
    return "".join(map(str, args))


class Triple(tuple[int, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[int]:
        return iter((7, 8, 9))


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("ab", "ab"),
        ([1, 2], "12"),
        ({"x": 1, "y": 2}, "xy"),
        (range(3), "012"),
        ((), ""),
        (np.arange(2), "01"),
        (Triple((1,)), "789"),
    ],
)
def test_starmap_unpacks_any_iterable(kind: Any, item: Any, expected: str) -> None:
    with kind(1) as pool:
        assert pool.starmap(joined, [item]) == [expected]
        assert pool.starmap(joined, [(c for c in "xyz")]) == ["xyz"]


def test_an_item_of_starmap_that_cannot_be_unpacked_is_an_error_of_the_result() -> None:
    with Pool(1) as pool:
        result = pool.starmap_async(joined, [(1,), 3], 1)  # type: ignore[list-item]
        with pytest.raises(TypeError, match="'int' object is not iterable"):
            result.get()


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_a_sized_input_that_raises_is_an_error_of_the_result(kind: Any) -> None:
    errors: list[BaseException] = []
    with kind(1) as pool:
        result = pool.map_async(tasks.identity, Raising(), error_callback=errors.append)
        for _ in range(2):
            with pytest.raises(LookupError, match="the input"):
                result.get()
        assert [type(error) for error in errors] == [LookupError]
        assert result.ready()
        assert not result.successful()
        results = pool.imap(tasks.identity, Raising())
        assert next(results) == 1
        with pytest.raises(LookupError, match="the input"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)


LOCK = threading.Lock()


def unsendable() -> Any:
    return LOCK


def test_unpicklable_input_is_an_error_of_the_result(context: Any) -> None:
    errors: list[BaseException] = []
    with context.Pool(1) as pool:
        calls = [
            pool.apply_async(tasks.identity, (LOCK,), error_callback=errors.append),
            pool.apply_async(LOCK.acquire),
            pool.map_async(tasks.identity, [1, LOCK]),
            pool.starmap_async(pow, [(1, LOCK)], error_callback=errors.append),
            pool.map_async(LOCK.acquire, [1]),
        ]
        for call in calls:
            with pytest.raises(garrison.ArgumentUnpicklable):
                call.get()
            assert call.ready()
            assert not call.successful()
        assert len(errors) == 2
        assert pool.map(tasks.square, [3]) == [9]


def test_the_chunks_beside_one_that_cannot_be_sent_are_worked_on(tmp_path: Path) -> None:
    tally = Tally(tmp_path)

    def note(item: Any) -> None:
        tally.add(str(item))

    with Pool(2) as pool:
        with pytest.raises(garrison.ArgumentUnpicklable):
            pool.map(note, [1, LOCK, 3, 4], 1)
        assert sorted(tally.marks()) == ["1", "3", "4"]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_large_items_are_as_they_were_when_they_were_read(chunksize: int) -> None:
    def same_memory() -> Iterator[Any]:
        values = np.zeros(20_000)
        for n in range(50):
            values[:] = n
            yield values

    with Pool(2) as pool:
        firsts = pool.imap(lambda values: values[0], same_memory(), chunksize=chunksize)
        assert list(firsts) == [*range(50)]
