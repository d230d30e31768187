"""Pickles of small plain objects: written and read by the core, and as good as `pickle`'s own."""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
from typing import Any

import pytest

from garrison import _pickling
from garrison._core import dumps_plain, loads
from garrison._pickling import _pickler

SHARED: list[Any] = [1]
TEXT = "text of its own"
PLAIN: list[Any] = [
    *(None, True, False, 0, 1, 255, 256, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1),
    *(2**63 - 1, -(2**63), 2**63, -(2**200), 0.0, -0.0, 1.5, float("inf"), 1e-300),
    *("", "a", "é", "漢字", "\0", "🐍" * 100, "x" * 300, "\ud800"),
    *(b"", b"\0", b"x" * 300, b"." * 5000),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((),), ([],), ({},)),
    *([], [[]], [[], (1,)], [[], [1]], [{}, (1,)], [[[[[]]]]], list(range(40))),
    *({}, {"a": 1}, {1: {2: {3: None}}}, {(1, 2): "tuple", b"": 0, None: 1, 1.5: 2}),
    *([SHARED, SHARED], (SHARED, {"a": SHARED}), [TEXT, {TEXT: TEXT}], [(TEXT,), TEXT]),
    *([{"id": n, "name": f"n{n}"} for n in range(9)], "x" * 10_000, ["y" * 3000] * 3),
]


@pytest.mark.parametrize("value", PLAIN, ids=range(len(PLAIN)))
def test_a_plain_object_is_the_same_after_either_reader(value: Any) -> None:
    pickled = dumps_plain(value)
    assert pickled is not None
    for copy in (pickle.loads(pickled), loads(pickled), loads(pickle.dumps(value))):
        assert repr(copy) == repr(value)
    assert repr(pickle._loads(pickled)) == repr(value)  # type: ignore[attr-defined] # in Python


def test_an_object_in_two_places_is_one_in_the_copy() -> None:
    shared: list[Any] = [2.5]
    text = "a b"
    pair = (text, shared)
    for copy in map(loads, [dumps_plain([shared, pair, {"pair": pair}, text])] * 2):
        first, second, third, fourth = copy
        assert first is second[1]
        assert second is third["pair"]
        assert second[0] is fourth


def test_an_object_that_contains_itself() -> None:
    around: list[Any] = []
    around.append({"list": around, "tuple": (around,)})
    copy = loads(dumps_plain(around))
    assert copy[0]["list"] is copy[0]["tuple"][0] is copy
    tied: tuple[Any, ...] = ([],)
    tied[0].append(tied)
    assert dumps_plain(tied) is None  # only pickle keeps such a tuple one object


class Text(str):
    """A type of the program: it may have a state."""

    __slots__ = ()


@pytest.mark.parametrize(
    "value", [Text("a"), [Text("a")], {1}, 1j, object, {"a": len}, (bytearray(),), [None] * 100]
)
def test_what_is_not_small_and_plain_is_left_to_pickle(value: Any) -> None:
    assert dumps_plain(value) is None


def random_value(source: random.Random, depth: int = 0) -> Any:
    kind = source.randrange(5 if depth > 3 else 8)
    items = (
        [random_value(source, depth + 1) for _ in range(source.randrange(4))] if kind > 4 else []
    )
    return [
        None,
        source.randrange(-(2**40), 2**40),
        source.random(),
        "é" * source.randrange(4) + str(source.randrange(9)),
        source.randbytes(source.randrange(6)),
        items,
        tuple(items),
        {str(number): item for number, item in enumerate(items)},
    ][kind]


def test_random_objects_and_damaged_pickles() -> None:
    source = random.Random(7)
    for _ in range(2000):
        value = random_value(source)
        pickled = dumps_plain(value)
        if pickled is None:
            continue
        assert loads(pickled) == pickle.loads(pickled) == value
        damaged = bytearray(pickled)
        damaged[source.randrange(len(damaged))] = source.choice(b"(te]}uNKJGXCBh.\x8c\x94\0\xff")
        for data in (bytes(damaged), pickled[: source.randrange(len(pickled))]):
            # What the core's reader makes of it is what `pickle` makes of it.
            with contextlib.suppress(Exception):
                expected = repr(pickle.loads(data))
                assert repr(loads(data)) == expected


def test_buffers_outside_of_a_pickle() -> None:
    data = pickle.dumps(pickle.PickleBuffer(b"abc"), 5, buffer_callback=lambda _: None)
    assert bytes(loads(data, buffers=[b"abc"])) == b"abc"
    with pytest.raises(pickle.UnpicklingError):
        loads(data)


def test_a_large_object_leaves_no_large_pickler_behind() -> None:
    _pickling.dumps([str(n) for n in range(100_000)])
    assert len(_pickling.dumps({1, 2})) < 100
    assert _pickler._spare
    assert max(sys.getsizeof(each.pickler) for each in _pickler._spare) < 1 << 16
