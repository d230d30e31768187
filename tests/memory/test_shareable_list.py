"""`ShareableList`: what goes in comes out."""

from __future__ import annotations

import contextlib
import pickle
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from garrison.memory.shared_memory import ShareableList, SharedMemory
from memory import jobs

ITEMS = [
    1,
    -(2**63),
    2.5,
    float("inf"),
    True,
    False,
    None,
    "",
    "tea",
    "thé ☕",
    b"",
    b"\0",
    b"a\0\0",
]


@contextlib.contextmanager
def listed(*arguments: Any, **options: Any) -> Iterator[ShareableList]:
    made = ShareableList(*arguments, **options)
    try:
        yield made
    finally:
        made.shm.unlink()
        made.shm.close()


def test_items_are_returned_as_stored() -> None:
    with listed(ITEMS) as items:
        assert list(items) == ITEMS
        assert [type(item) for item in items] == [type(item) for item in ITEMS]
        assert items[-1] == b"a\0\0"
        other = ShareableList(name=items.shm.name)
        assert list(other) == ITEMS
        again = pickle.loads(pickle.dumps(items))
        again[0] = 2
        assert (items[0], other[0], len(again)) == (2, 2, len(ITEMS))
        other.shm.close()
        again.shm.close()


@pytest.mark.parametrize("value", [*ITEMS, "x" * 15])
def test_any_item_may_take_the_place_of_another_that_has_room(value: Any) -> None:
    with listed(["a", "0123456789", "b"]) as items:
        items[1] = value
        assert list(items) == ["a", value, "b"]
        assert items.count(value) == 1
        assert items.index(value) == 1


def test_bad_input_is_refused_and_changes_nothing() -> None:
    with listed(["abc", 5]) as items:
        for index, value, error in (
            (0, "x" * 9, ValueError),
            (1, "x" * 9, ValueError),
            (1, 1 << 63, struct.error),
            (1, [], TypeError),
            (2, 0, IndexError),
            (-3, 0, IndexError),
            ("x", 0, TypeError),
        ):
            with pytest.raises(error):
                items[index] = value  # type: ignore[index]
        assert list(items) == ["abc", 5]
        for bad in (2, -3):
            with pytest.raises(IndexError, match="index out of range"):
                items[bad]
        with pytest.raises(ValueError, match="7 not in"):
            items.index(7)
    with pytest.raises(TypeError, match="not list"):
        ShareableList([[]])
    with pytest.raises(FileNotFoundError):
        ShareableList(name="garrison-is-not-there")


def test_other_blocks_are_not_read_as_lists() -> None:
    memory = SharedMemory(create=True, size=8)
    with pytest.raises(ValueError, match="is no ShareableList"):
        ShareableList(name=memory.name)
    memory.close()
    memory.unlink()


def test_empty_lists_and_copies() -> None:
    with listed() as empty:
        assert (list(empty), len(empty), empty.format) == ([], 0, "")
    with listed(["howdy", b"HoWdY", -273.154, 100, None, True]) as items:
        assert items.format == "8s8sdqxxxxxx?xxxxxxxx?"
        with listed(items) as other:
            other[0] = "other"
            assert (items[0], other.format) == ("howdy", items.format)
            assert repr(other).startswith("ShareableList(['other', b'HoWdY', ")


def test_process_writes_to_a_shareable_list(context: Any) -> None:
    with listed([1, 2]) as items:
        process = context.Process(target=jobs.put, args=(items, 1, 7))
        process.start()
        process.join()
        assert list(items) == [1, 7]
