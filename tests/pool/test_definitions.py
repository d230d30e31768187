"""Classes and functions by value in arguments and results: once for each worker."""

from __future__ import annotations

import dataclasses
import enum
import functools
import os
import pickle
import typing
from collections.abc import Callable
from typing import Any

import pytest

import garrison
from garrison import Pool
from garrison.pool import _definitions

SCALE = 1
NOTES: list[int] = []


def make_point() -> Any:
    @dataclasses.dataclass(slots=True)
    class Point:
        x: int

        def scaled(self) -> int:
            return self.x * 2

    return Point


def make_color() -> Any:
    class Color(enum.Enum):
        RED = 1

    return Color


def make_pair() -> Any:
    class Pair(typing.NamedTuple):
        x: int

    return Pair


def make_generic() -> Any:
    kind = typing.TypeVar("kind")

    class Box(typing.Generic[kind]):
        def __init__(self, x: kind) -> None:
            self.x = x

    return Box


def make_derived() -> Any:
    class Base:
        def __init__(self, x: int) -> None:
            self.x = x

    class Derived(Base):
        @property
        def again(self) -> Any:
            return Derived(self.x)

    return Derived


KINDS: dict[str, Callable[[], Any]] = {
    "dataclass": make_point,
    "enum": make_color,
    "named tuple": make_pair,
    "generic": make_generic,
    "derived": make_derived,
}


def identity(value: Any) -> Any:
    return value


def class_number(value: Any) -> tuple[int, int]:
    return os.getpid(), id(type(value))


def count_pickles(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    pickled: list[Any] = []
    define = _definitions.Definitions._define

    def counted(self: Any, obj: Any) -> Any:
        pickled.append(obj)
        return define(self, obj)

    monkeypatch.setattr(_definitions.Definitions, "_define", counted)
    return pickled


@pytest.mark.parametrize("kind", KINDS)
def test_instances_come_back_as_instances_of_their_very_own_class(kind: str, context: Any) -> None:
    cls = KINDS[kind]()
    with context.Pool(2) as pool:
        for back in (*pool.map(identity, [cls(1)] * 4), pool.apply(identity, ([cls(1)],))[0]):
            assert type(back) is cls
        assert pool.apply(identity, (cls,)) is cls
        assert pool.apply(type, (cls(1),)) is cls


def test_a_class_is_pickled_once_however_many_items_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point, pickled = make_point(), count_pickles(monkeypatch)
    with Pool(2) as pool:
        numbers = set(pool.map(class_number, [point(n) for n in range(100)], chunksize=1))
        numbers |= set(pool.imap(class_number, [point(n) for n in range(100)]))
        numbers |= {pool.apply(class_number, (point(n),)) for n in range(20)}
    assert pickled == [point]
    assert len(numbers) == len({pid for pid, _ in numbers}), "one class in each worker"


def scaled(value: Any) -> Any:
    return value.scaled()


def test_a_class_that_was_changed_is_sent_again() -> None:
    point = make_point()
    with Pool(1) as pool:
        assert pool.apply(scaled, (point(5),)) == 10
        first = pool.apply(class_number, (point(5),))
        point.scaled = lambda self: self.x * 3
        assert pool.apply(scaled, (point(5),)) == 15
        point.by = 4
        point.scaled = lambda self: self.x * self.by
        assert pool.map(scaled, [point(5)]) == [20]
        point.by = 5
        assert pool.map(scaled, [point(5)]) == [25]
        assert pool.apply(class_number, (point(5),)) == first, "the same class, with new parts"


def test_globals_of_a_class_are_those_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uses:
        def scaled(self) -> Any:
            return helper(), list(NOTES)

    def helper() -> int:
        return SCALE

    with Pool(1) as pool:
        assert pool.apply(scaled, (Uses(),)) == (1, [])
        monkeypatch.setattr(f"{__name__}.SCALE", 2)
        assert pool.apply(scaled, (Uses(),)) == (2, [])
        NOTES.append(1)
        try:
            assert pool.map(scaled, [Uses()]) == [(2, [1])]
        finally:
            NOTES.clear()


def call(function: Callable[[], Any]) -> Any:
    return function()


def test_functions_are_pickled_once_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    function, pickled = (lambda: SCALE), count_pickles(monkeypatch)
    with Pool(1) as pool:
        assert pool.map(call, [function] * 50, chunksize=1) == [1] * 50
        assert pool.apply(identity, ({"key": function},))["key"] is function
    assert pickled == [function]


def test_what_a_function_captures_is_not_shared_among_items() -> None:
    basket: list[int] = []

    def put() -> list[int]:
        basket.append(1)
        return basket

    with Pool(1) as pool:
        assert pool.map(call, [put, put], chunksize=1) == [[1], [1]]
        captured: Any = pool.apply(identity, ((basket, functools.partial(identity, basket)),))
        assert captured[0] is captured[1].args[0]


def test_more_classes_than_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_definitions, "MAX_DEFINITIONS", 2)
    with Pool(1) as pool:
        for _ in range(5):
            point = make_point()
            assert pool.apply(scaled, (point(2),)) == 4
            assert type(pool.apply(identity, (point(2),))) is point


def test_pool_in_a_task_forwards_definitions_by_value() -> None:
    point = make_point()
    with Pool(1) as pool:
        total, same = pool.apply(in_a_pool, (point(3),))
        assert total == 6
        assert same
        assert type(pool.apply(identity, (point(3),))) is point


def in_a_pool(value: Any) -> tuple[int, bool]:
    with garrison.get_context("fork").Pool(1) as pool:
        back = pool.apply(identity, (value,))
        return pool.apply(scaled, (value,)), type(back) is type(value)


def fail_with(value: Any) -> None:
    raise ValueError(value)


def test_errors_and_descriptions_hold_instances() -> None:
    point = make_point()
    with Pool(1) as pool:
        with pytest.raises(ValueError, match="Point") as caught:
            pool.apply(fail_with, (point(1),))
        assert type(caught.value.args[0]) is point
        with pytest.raises(garrison.WorkerDied, match="leave"):
            pool.apply(leave, (point(1),))


def leave(_: Any) -> None:
    os._exit(3)


def test_a_class_that_cannot_be_sent_is_named() -> None:
    cls = type("Local", (), {"numbers": (n for n in [1])})
    with Pool(1) as pool:
        for _ in range(2):
            with pytest.raises((TypeError, pickle.PicklingError), match=r"arguments\[0\]"):
                pool.apply(identity, (cls(),))
        assert pool.apply(identity, (1,)) == 1


def test_a_lock_of_a_class_is_one_lock() -> None:
    lock = garrison.Lock()
    cls: Any = type("Holder", (), {"lock": lock, "free": lambda self: self.lock.acquire(timeout=0)})
    with Pool(2) as pool, lock:
        assert pool.map(is_free, [cls() for _ in range(20)], chunksize=1) == [False] * 20


def is_free(holder: Any) -> bool:
    free: bool = holder.free()
    return free
