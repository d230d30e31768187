"""Which keys are equal: those that a dict takes for one."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import itertools
import math
import pathlib
import random
import uuid
from collections import namedtuple
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from garrison.store import Kind, create_container


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Word(str):
    __slots__ = ()


class Loud(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loud) and str(self).upper() == str(other).upper()

    def __hash__(self) -> int:
        return hash(self.upper())


class Whole(int):
    pass


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - it is about tuples of this sort


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any
    note: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Place:
    x: Any
    y: Any


class Plain:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


PARIS = dt.timezone(dt.timedelta(hours=1))
UTC = dt.timezone.utc

NAIVE = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - a key like any other

KEYS: list[Any] = [
    *(0, 1, -1, True, False, 2**63, -(2**63), 2**64, 10**30, None),
    *(0.0, -0.0, 1.0, 0.5, 0.1, 1e30, float(10**30), math.inf, -math.inf),
    *(1 + 0j, 1j, 0.5 + 0j, complex(-0.0, 1), complex(0.0, 1)),
    *(Decimal(1), Decimal("1.00"), Decimal("0.5"), Decimal("0.1"), Decimal("Infinity")),
    *(Decimal("1e30"), Fraction(1), Fraction(1, 2), Fraction(1, 3), Fraction(1, 10)),
    *(Level.LOW, Whole(1), Color.RED, Color.GREEN, Mode.READ, Mode.READ | Mode.WRITE, Mode(0)),
    *(
        np.int64(1),
        np.float64(0.5),
        np.float32(0.5),
        np.bool_(True),
        np.str_("a"),
        np.complex128(1j),
    ),
    *("", "a", "1", "\ud800", "é", Word("a"), Loud("a"), "A"),
    *(b"", b"a", b"1"),
    *((), (1,), (True,), (1.0, "a"), (1, "a"), ((1,),), Pair(1, "a"), (Decimal(1), "a"), (None,)),
    *(frozenset(), frozenset({1, "a"}), frozenset({"a", 1.0}), frozenset({(1,)})),
    *(Point(1, 2), Point(1.0, 2, "noted"), Point(2, 1), Place(1, 2), Point((1,), None)),
    *(Plain(1), Plain(1), Plain(2), Plain(), Plain("x" * 1000)),
    *(range(0), range(5, 5), range(3), range(0, 3, 1), range(0, 1, 9), range(0, 1, 3), range(1)),
    *(dt.date(2020, 1, 1), NAIVE),
    *(dt.datetime(2020, 1, 1, 1, tzinfo=PARIS), dt.datetime(2020, 1, 1, tzinfo=UTC)),
    *(NAIVE.replace(fold=1), dt.time(1), dt.time(1, fold=1)),
    *(uuid.UUID(int=5), uuid.UUID(int=5, is_safe=uuid.SafeUUID.safe), uuid.UUID(int=6)),
    *(pathlib.PurePosixPath("/a"), pathlib.PurePosixPath("/a/"), pathlib.PurePosixPath("/b")),
    *(pathlib.PurePosixPath("/") / "a", pathlib.PosixPath("/a"), pathlib.PureWindowsPath("/a")),
    *(pathlib.PureWindowsPath("C:/A/b"), pathlib.PureWindowsPath("c:\\a", "B")),
    *(ipaddress.ip_address("::1"), ipaddress.ip_address("::2"), dt.timedelta(1)),
    *(len, print, int, str, Plain, ..., NotImplemented, "x" * 500, "x" * 501, b"x" * 500),
]


def test_pairs_are_equal_as_in_a_dict(store: Any) -> None:
    d = create_container(store, Kind.DICT)
    wrong = []
    for a, b in itertools.product(KEYS, KEYS):
        if {type(a), type(b)} == {Decimal, np.int64}:
            continue  # which refuse to be compared
        d.clear()
        d[a] = 1
        if (b in d) != (b in {a: 1}):
            wrong.append((a, b))
    assert wrong == []


def test_first_of_equal_keys_is_kept(store: Any) -> None:
    plain: dict[Any, int] = {}
    d, members = create_container(store, Kind.DICT), create_container(store, Kind.SET)
    for n, key in enumerate(KEYS):
        plain[key] = n
        d[key] = n
        members.add(key)
    assert list(d.items()) == list(plain.items())
    assert [type(key) for key in d] == [type(key) for key in plain]
    assert list(members) == list(plain)
    for key in random.Random(1).sample(KEYS, len(KEYS)):
        assert d.pop(key, None) == plain.pop(key, None)
    assert len(d) == 0


def test_equality_of_users_classes_is_not_used(store: Any) -> None:
    members = create_container(store, Kind.SET, [Loud("a"), Loud("A"), Loud("a")])
    assert [str(each) for each in members] == ["a", "A"]


def test_nan_is_one_key(store: Any) -> None:
    members = create_container(store, Kind.SET, [math.nan, float("nan"), Decimal("nan")])
    assert len(members) == 1


@pytest.mark.parametrize(
    "key", [[], {}, set(), bytearray(), ([],), (1, ({},)), Point(1, []), Pair(1, [])]
)
def test_unhashable_key_is_refused(store: Any, key: Any) -> None:
    d = create_container(store, Kind.DICT)
    with pytest.raises(TypeError) as caught:
        hash(key)
    match = str(caught.value)
    calls: list[Any] = [lambda: d[key], lambda: d.get(key), lambda: d.update({}) or key in d]
    for call in calls:
        with pytest.raises(TypeError, match=match):
            call()
    with pytest.raises(TypeError, match=match):
        d[key] = 1


def test_unpicklable_key_is_refused(store: Any) -> None:
    class Local:
        pass

    d = create_container(store, Kind.DICT)
    for key in (lambda: 1, Local(), (1, Local())):
        with pytest.raises(TypeError, match="as a key between processes"):
            d[key] = 1
    assert d == {}


def test_exception_of_a_hash_is_raised(store: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        create_container(store, Kind.DICT)[Bad()]


class Bad:
    def __hash__(self) -> int:
        return 1 // 0


def test_hashable_containers_can_be_keys(store: Any) -> None:
    queue, other = create_container(store, Kind.QUEUE), create_container(store, Kind.QUEUE)
    members = create_container(store, Kind.SET, [queue, queue, (queue, 1)])
    assert len(members) == 2
    assert queue in members
    assert other not in members


def letters() -> Iterator[str]:
    return (chr(n) for n in itertools.count(97))


def test_sets_in_objects_are_in_one_order(store: Any) -> None:
    names = [name for name, _ in zip(letters(), range(20), strict=False)]
    members = create_container(store, Kind.SET)
    for _ in range(5):
        random.Random(1).shuffle(names)
        members.add(Plain(frozenset(names)))
    assert len(members) == 1
