"""Objects that are their attributes and nothing else are pickled by the core; no others are."""

from __future__ import annotations

import abc
import copyreg
import enum
import functools
import gc
import pickle
import random
import re
import sys
import types
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

import pytest

import garrison
from garrison import _core
from garrison._pickling import STANDARD, dumps

T = TypeVar("T")


@dataclass
class Point:
    x: Any
    y: Any = None


@dataclass(frozen=True)
class Frozen:
    name: str
    parts: list[Any] = field(default_factory=list)


class Plain(Generic[T]):
    kind = "plain"

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment] # as with every class that is compared


class Child(Plain[int], abc.ABC):
    class Inner(Point):
        pass

    @functools.cached_property
    def cached(self) -> int:
        return 6 * 7


def with_cached() -> Child:
    made = Child(a=1)
    assert made.cached == 42
    return made


RECORDS: list[Any] = [
    *(Point(1, "two"), Frozen("f", [1.5]), Plain(), Plain(**{"é": 1, "no name": 2}), Child(a=[])),
    *(Child.Inner(1, 2), with_cached(), Point(Point(Frozen("x"), ()), {"k": Point(None)})),
    [Point(n, f"n{n}") for n in range(2000)],
    [Plain(number=n) if n % 3 else Frozen(str(n)) for n in range(2000)],
]


def interned(value: object) -> list[bool]:
    """Which names of attributes are interned; of "no name" CPython 3.13 thinks otherwise."""
    return [name is sys.intern(name) for name in vars(value)]


def core_dumps(value: object) -> bytes | None:
    return _core.dumps_plain(value, STANDARD)


@pytest.mark.parametrize("value", RECORDS, ids=range(len(RECORDS)))
def test_a_record_is_the_same_after_either_reader(value: Any) -> None:
    pickled = core_dumps(value)
    assert pickled is not None
    for copy in (_core.loads(pickled), pickle.loads(pickled), pickle._loads(pickled)):  # type: ignore[attr-defined] # in Python
        assert copy == value
        assert type(copy) is type(value)
        if not isinstance(value, list):
            assert list(vars(copy)) == list(vars(value))
            assert interned(copy) == interned(pickle.loads(pickled))


def test_records_that_refer_to_each_other() -> None:
    first: Any = Plain()
    second: Any = Plain()
    first.other, second.other, first.me = second, [first], first
    copy: Any = _core.loads(core_dumps([first, second, first]))
    assert copy[0] is copy[2] is copy[0].me is copy[1].other[0]
    assert copy[0].other is copy[1]


class Slots:
    __slots__ = ("__dict__", "a")


class OnlySlots:
    __slots__ = ()


class Reduces:
    def __reduce__(self) -> Any:
        return Reduces, ()


class HasState:
    def __getstate__(self) -> Any:
        return {"a": 1}


class SetsState:
    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state, was_set=True)


class New:
    def __new__(cls) -> New:
        return object.__new__(cls)


class Looks:
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Looked:
    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name)


class Arguments:
    def __getnewargs__(self) -> Any:
        return ()


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self) -> None: ...


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        return "Point" if name == "__qualname__" else type.__getattribute__(cls, name)


class Misleading(metaclass=Meta):
    pass


class Color(enum.Enum):
    RED = 1


@dataclass(unsafe_hash=True)
class Hashed:
    number: int


class Registered:
    pass


copyreg.pickle(Registered, lambda _: (Registered, ()))
Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - as programs have them


def with_attribute(value: Any, key: Any) -> Any:
    vars(value)[key] = 1
    return value


def made_here() -> Any:
    class Local:
        pass

    return Local()


def shadowed() -> Any:
    return type("Point", (), {"__module__": __name__})()


NO_RECORDS: list[Callable[[], Any]] = [
    *(Slots, OnlySlots, Reduces, HasState, SetsState, New, Looks, Looked, Arguments),
    *(Misleading, Registered, object, made_here, shadowed, KeyError),
    *(lambda: Color.RED, lambda: Pair(1, 2), lambda: types.SimpleNamespace(a=1), lambda: Point),
    *(lambda: {Hashed(1): 2}, lambda: {(1, Hashed(1)): 2}),
    *(lambda: with_attribute(Plain(), 1), lambda: Point(1, {2}), lambda: Point(1, "\ud800")),
]


@pytest.mark.parametrize("make", NO_RECORDS, ids=range(len(NO_RECORDS)))
def test_what_is_no_record_is_left_to_pickle(make: Callable[[], Any]) -> None:
    assert core_dumps([1, make()]) is None


def test_a_dict_that_others_know_of_is_left_to_pickle() -> None:
    point = Point(1)
    assert core_dumps([point, vars(point)]) is None
    copy = _core.loads(dumps([point, vars(point)]))
    assert copy == [point, vars(point)]


@pytest.fixture
def changing() -> Iterator[type]:
    """A class of this module that a test may change."""
    cls = type("Changing", (), {"__module__": __name__})
    globals()["Changing"] = cls
    yield cls
    del globals()["Changing"]


def test_a_class_that_has_changed_since(changing: Any) -> None:
    made = with_attribute(changing(), "a")
    pickled = core_dumps(made)
    assert pickled is not None
    changing.__setstate__ = lambda self, state: self.__dict__.update(state, b=2)
    assert vars(_core.loads(pickled)) == {"a": 1, "b": 2}
    assert core_dumps(made) is None
    del changing.__setstate__
    assert vars(_core.loads(core_dumps(made))) == {"a": 1}
    changing.a = property(lambda _: 7, lambda *_: pytest.fail("it was called"))
    assert vars(_core.loads(pickled)) == {"a": 1}
    ForkingPickler.register(changing, lambda _: (int, ()))
    try:
        assert core_dumps(made) is None
    finally:
        del vars(ForkingPickler)["_extra_reducers"][changing]
    assert core_dumps(made) is not None
    assert _core.dumps_plain(made, STANDARD, {changing: None}) is None


def test_a_class_that_the_reader_does_not_have(changing: Any) -> None:
    pickled = core_dumps([changing()] * 3)
    globals()["Changing"] = None
    assert core_dumps(changing()) is None
    with pytest.raises((TypeError, pickle.UnpicklingError)):
        _core.loads(pickled)
    globals()["Changing"] = Point
    assert type(_core.loads(pickled)[0]) is Point  # as with pickle
    del globals()["Changing"]
    with pytest.raises(AttributeError, match="Changing"):
        _core.loads(pickled)
    globals()["Changing"] = changing


def test_finding_a_class_is_audited_as_with_pickle() -> None:
    seen: list[Any] = []

    def hook(event: str, args: Any) -> None:
        if event == "pickle.find_class":
            seen.append(args)

    sys.addaudithook(hook)
    _core.loads(core_dumps([Point(1), Point(2)]))
    assert seen == [(__name__, "Point")]


def shown(loads: Callable[[bytes], Any], data: bytes) -> str:
    try:
        return re.sub("0x[0-9a-f]+", "", repr(loads(data)))
    except Exception as error:
        return type(error).__name__


def test_random_records_and_damaged_pickles() -> None:
    source = random.Random(5)
    for _ in range(500):
        value = [source.choice(RECORDS[:8]) for _ in range(source.randrange(4))]
        pickled = core_dumps(value)
        assert pickled is not None
        assert _core.loads(pickled) == value
        damaged = bytearray(pickled)
        damaged[source.randrange(len(damaged))] = source.choice(b"(te]}uNKhbc).\n\x81\x94\0\xff")
        assert shown(_core.loads, bytes(damaged)) == shown(pickle.loads, bytes(damaged))


def test_the_collector_runs_again_after_a_class_was_sought() -> None:
    assert gc.isenabled()
    pickled = core_dumps([Point(n) for n in range(2000)])
    assert len(_core.loads(pickled)) == 2000
    assert gc.isenabled()


def renamed(point: Any) -> Any:
    return type(point)(point.y, point.x)


def test_records_go_through_a_pool() -> None:
    points = [Point(n, f"n{n}") for n in range(300)]
    swapped = [Point(f"n{n}", n) for n in range(300)]
    with garrison.Pool(1) as pool:
        assert pool.map(renamed, points) == swapped
        assert list(pool.imap(renamed, points, chunksize=50)) == swapped
        assert list(pool.imap(renamed, points[:20])) == swapped[:20]
        assert pool.apply(renamed, (Point(points, 1),)) == Point(1, points)
