"""Iterating over shared containers while they change."""

from __future__ import annotations

from typing import Any

import pytest

import garrison


@pytest.fixture
def manager() -> Any:
    with garrison.Manager() as started:
        yield started
    vars(started).clear()  # pytest keeps it for a while


@pytest.mark.parametrize("length", [3, 1000])
def test_list_is_iterated_by_index(manager: Any, length: int) -> None:
    items = manager.list(range(length))
    walk = iter(items)
    items[0] = "changed"
    assert next(walk) == "changed"
    del items[0]
    assert next(walk) == 2
    assert list(walk) == list(range(3, length))
    items.append("late")
    assert list(walk) == []  # once exhausted, always


def test_loop_sees_its_own_appends(manager: Any) -> None:
    work, done = manager.list([3]), []
    for number in work:
        done.append(number)
        if number:
            work.extend([number - 1] * 2)
    assert done == work == [3, 2, 2, *[1] * 4, *[0] * 8]


def test_loop_in_a_transaction_sees_its_own_appends(manager: Any) -> None:
    items = manager.list([1, 2])
    with manager.transaction():
        for number in items:
            if number < 10:
                items.append(number * 10)
    assert items == [1, 2, 10, 20]


def test_array_is_iterated_by_index(manager: Any) -> None:
    numbers = manager.Array("i", [1, 2, 3])
    walk = iter(numbers)
    numbers[1] = 7
    assert list(walk) == [1, 7, 3]


def test_dict_may_change_during_iteration(manager: Any) -> None:
    shared = manager.dict({number: number for number in range(1000)})
    for key in shared:
        del shared[key]
    assert shared == {}
