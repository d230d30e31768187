"""How objects are written for a store."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import garrison
from garrison.errors import ItemUnpicklable, ValueUnreadable
from garrison.store import Kind, create_container


@pytest.fixture
def items(store: Any) -> Any:
    return create_container(store, Kind.LIST)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**100, -(10**100)),
        *(0.0, -0.0, 1e300, math.inf, "", "text", "é", "\ud800", "x" * 100_000, b"", b"\0\xff"),
        *(
            (),
            (1, "a"),
            frozenset({1}),
            1j,
            range(3),
            ...,
            OrderedDict(a=1),
            bytearray(b"x"),
            slice(1),
        ),
        *([], [1, [2]], {}, {"a": {"b": 1}}, {1}, set(), int, len, math.sqrt),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_are_decoded_as_stored(items: Any, value: Any) -> None:
    items.append(value)
    found = items[0]
    assert found == value
    assert str(items) == f"[{value!r}]" or len(repr(value)) > 10_000
    taken = items.pop()
    assert taken == value
    assert type(taken) is type(value)
    assert repr(taken) == repr(value)


def test_arrays_are_decoded_as_stored(items: Any) -> None:
    items.append(np.arange(1000.0))
    assert np.array_equal(items[0], np.arange(1000.0))


def test_functions_and_classes_of_no_module_travel_by_value(items: Any) -> None:
    class Local:
        number = 7

    three = 3
    items.extend([lambda n: n + three, Local()])
    assert items[0](4) == 7
    assert items[1].number == 7


def test_locks_and_queues_of_garrison_can_be_stored(items: Any) -> None:
    lock, queue = garrison.Lock(), garrison.Queue()
    items.extend([lock, {"queue": queue}])
    for _ in range(3):
        with items[0]:
            assert not lock.acquire(block=False)
        items[1]["queue"].put("an item")
        assert queue.get() == "an item"


def test_unpicklable_value_is_refused(items: Any) -> None:
    for value in (threading.Lock(), {"a": [threading.Lock()]}, (n for n in [1]), math):
        with pytest.raises(ItemUnpicklable, match="cannot store"):
            items.append(value)
        with pytest.raises(TypeError):
            items.extend([1, value])
    assert items == []


def test_unreadable_value_raises_and_stays(items: Any) -> None:
    items.extend([Fragile(IndexError), Fragile(KeyError), 3])
    for index, name in ((0, "IndexError"), (1, "KeyError")):
        with pytest.raises(ValueUnreadable, match=f"{name}: .?no luck"):
            items[index]
    assert items[2] == 3
    del items[:2]
    assert items == [3]


def test_an_item_that_cannot_be_rebuilt_does_not_look_like_an_empty_queue(store: Any) -> None:
    queue = create_container(store, Kind.QUEUE)
    queue.put(Fragile(IndexError))
    with pytest.raises(ValueUnreadable):
        queue.get(timeout=10)


class Fragile:
    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __setstate__(self, state: Any) -> None:
        raise state["error"]("no luck")


def test_exception_of_a_reducer_is_raised(items: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        items.append(Failing())


class Failing:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError
