"""Pickles of plain objects: written and read by the core, and as good as `pickle`'s own."""

from __future__ import annotations

import gc
import pickle
import random
import sys
from collections.abc import Callable
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
    "value", [Text("a"), [Text("a")], {1}, 1j, object, {"a": len}, (bytearray(),), [0] * 99 + [1j]]
)
def test_what_is_not_plain_is_left_to_pickle(value: Any) -> None:
    assert dumps_plain(value) is None


LARGE: list[Any] = [
    [f"text {n}" for n in range(20_000)],
    [*range(-30_000, 30_000), 2**40, -(2**40)],
    [(n, f"n{n}", n / 2, (n, None)) for n in range(10_000)],
    [{"id": n, "é": [n, b"n"], "more": {}} for n in range(5000)],
    {f"key {n}": (n,) for n in range(10_000)},
    [b"x" * 70_000, "漢" * 70_000, [["y" * 300] * 3] * 300],
    ("z" * 100_000, [True, False, None] * 5000),
]


@pytest.mark.parametrize("value", LARGE, ids=range(len(LARGE)))
def test_a_large_object_is_the_same_after_either_reader(value: Any) -> None:
    pickled = dumps_plain(value)
    assert pickled is not None
    assert loads(pickled) == pickle.loads(pickled) == loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("count", [11, 12, 13, 63, 64, 65, 255, 256, 257, 5000])
def test_each_of_many_objects_in_two_places_is_one_in_the_copy(count: int) -> None:
    shared: list[Any] = [[n] for n in range(count)]
    for copy in (loads(dumps_plain([shared, shared[::-1]])), loads(dumps_plain([*shared, shared]))):
        first, second = (copy[0], copy[1][::-1]) if len(copy) == 2 else (copy[:-1], copy[-1])
        assert first == shared
        assert all(one is other for one, other in zip(first, second, strict=True))


def nested(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_deeply_is_left_to_pickle() -> None:
    assert repr(loads(dumps_plain(nested(150)))) == repr(nested(150))
    assert dumps_plain(nested(300)) is None
    assert repr(loads(_pickling.dumps(nested(300)))) == repr(nested(300))
    with pytest.raises(RecursionError):
        _pickling.dumps(nested(100_000))
    deep = b"\x80\x05" + b"](" * 100_000 + b"e" * 100_000 + b"."
    assert len(loads(deep)) == 1


@pytest.mark.parametrize("odd", ["\ud800", 2**64, -(2**70)])
def test_a_large_object_with_a_part_that_only_pickle_can_write(odd: Any) -> None:
    value = [*range(1000), odd]
    assert loads(_pickling.dumps(value)) == value


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_as_before_after_a_large_object(is_on: bool) -> None:
    pickled = dumps_plain([(n, []) for n in range(10_000)])
    assert pickled is not None
    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        copy = loads(pickled)
        with pytest.raises(pickle.UnpicklingError):
            loads(pickled[:-1] + b"\0")
        assert gc.isenabled() == is_on
    finally:
        (gc.enable if was_on else gc.disable)()
    assert not gc.is_tracked(loads(dumps_plain((1, "a b"))))
    assert all(map(gc.is_tracked, copy))


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


def shown(loads: Callable[[bytes], Any], data: bytes) -> str:
    try:
        return repr(loads(data))
    except Exception as error:
        return type(error).__name__


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
            assert shown(loads, data) == shown(pickle.loads, data)


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
