"""Arrays of objects: their strings are pickled by the core."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from garrison import _core
from garrison._pickling import dumps

numpy = pytest.importorskip("numpy")


def objects(count: int, odd: Any = None) -> Any:
    array = numpy.array([f"text {n}" for n in range(count - 1)] + [odd], dtype=object)
    return array.reshape(-1, 2)


@pytest.mark.parametrize("count", [2, 62, 64, 5000])
@pytest.mark.parametrize("odd", [None, 1.5, 2**80, (1, "a"), [1], "\ud800"])
def test_an_array_of_objects_is_the_same(count: int, odd: Any) -> None:
    for array in (objects(count, odd), numpy.asfortranarray(objects(count, odd))):
        pickled = dumps([array, array])
        for first, second in (_core.loads(pickled), pickle.loads(pickled)):
            assert first is second
            assert first.tolist() == array.tolist()
            assert first.shape == array.shape
            assert first.flags.f_contiguous == array.flags.f_contiguous
            assert first.flags.writeable
            assert first.flags.owndata


def test_an_array_that_contains_itself() -> None:
    array = objects(100)
    array[0, 0] = array
    copy = _core.loads(dumps(array))
    assert copy[0, 0] is copy


def test_a_list_that_an_array_shares_stays_one() -> None:
    shared = [1]
    copy, other = _core.loads(dumps((objects(100, shared), shared)))
    assert copy[-1, -1] is other


def test_strings_in_an_array_are_pickled_by_the_core() -> None:
    array = objects(1000, "text 0")
    pickled = dumps(array)
    assert b"_array_of_objects" in pickled
    assert b"\x8c\x06text 1\x8c\x06text 2\x8c" in pickled
    array[5] = array[7]
    copy = _core.loads(dumps(array))
    assert copy[5, 0] is copy[7, 0]
    assert _core.dumps_scalars([1, (2,)]) is None
