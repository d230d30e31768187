"""Items that came together lie together in a record, and each of them can still be changed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from garrison import _core

from .tools import DEQUE, DICT, LIST, Link, open_store

Store = _core.Store
PLAIN: list[Any] = [None, True, -1, 2**70, 1.5, "text", b"bytes", (1, "a", (2.5, None)), ()]
STEPS = 1500


@pytest.fixture(params=["memory", "folder"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "folder" else None


def pages(store: Store) -> int:
    found: int = store.statistics()["pages_used"]
    return found


def mixed(choose: random.Random, count: int) -> list[Any]:
    return [choose.choice([*PLAIN, "x" * choose.randrange(400)]) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_a_list_that_was_filled_at_once_changes_as_a_plain_one(
    folder: Path | None, seed: int
) -> None:
    choose = random.Random(seed)
    with open_store(folder=folder) as store:
        c, plain = store.create(LIST), mixed(choose, 2000)
        store.list_extend(c, plain)
        for _ in range(STEPS):
            change(store, c, plain, choose)
            at = choose.randrange(len(plain))
            assert store.list_get(c, at) == plain[at]
            assert store.list_slice(c, at, at + 300) == plain[at : at + 300]
        assert list(store.walk(c)) == plain == store.snapshot(c)
        assert list(store.scan(c, "values", True)) == plain[::-1]
        assert store.audit() == []
        store.clear(c)
        assert store.audit() == []


def change(store: Store, c: int, plain: list[Any], choose: random.Random) -> None:
    at, new = choose.randrange(len(plain)), mixed(choose, choose.randrange(40))
    match choose.randrange(7):
        case 0:
            plain[at] = ["a", "child"]
            store.list_set(c, at, plain[at])
            plain[at] = store.list_get(c, at)
            assert isinstance(plain[at], Link)
            plain[at] = 0
            store.list_set(c, at, 0)
        case 1:
            plain.insert(at, "one")
            store.list_insert(c, at, "one")
        case 2:
            assert store.list_pop(c, at) == plain.pop(at)
        case 3:
            assert store.list_pop(c, -1) == plain.pop()
            assert store.list_pop(c, 0) == plain.pop(0)
        case 4:
            plain.extend(new)
            store.list_extend(c, new)
        case 5:
            plain[:0] = new[::-1]
            store.list_extend(c, new, True)
        case _:
            end = min(len(plain), at + choose.randrange(60))
            plain[at:end] = new
            store.list_replace(c, at, end, new)


def test_a_deque_with_a_limit_drops_what_was_stored_together() -> None:
    with open_store() as store:
        c = store.create(DEQUE, 100)
        store.list_extend(c, list(range(250)))
        assert list(store.snapshot(c)) == list(range(150, 250))
        store.list_extend(c, list(range(30)), True)
        assert list(store.snapshot(c))[:31] == [*range(29, -1, -1), 150]
        assert store.audit() == []


def test_many_numbers_take_little_room() -> None:
    with open_store() as store:
        c = store.create(LIST)
        store.list_extend(c, list(range(10_000)))
        assert pages(store) < 10_000 / 100


def test_a_small_dict_in_another_is_read_as_any_other(folder: Path | None) -> None:
    with open_store(folder=folder) as store:
        outer, small = store.create(DICT), {1: "a", "b": (1, 2.5), None: b"c"}
        store.dict_update(outer, [("small", small)])
        inner = store.dict_get(outer, "small").c
        assert store.length(inner) == 3
        assert store.snapshot(inner) == small
        assert store.dict_get(inner, 1.0) == "a"
        assert store.dict_get_or(inner, 2, "nothing") == "nothing"
        assert list(store.scan(inner, "items")) == list(small.items())
        assert list(store.scan(inner, "keys", True)) == list(small)[::-1]
        assert store.audit() == []


@pytest.mark.parametrize(
    "operation",
    [
        lambda store, c: store.dict_set(c, "b", 1),
        lambda store, c: store.dict_set(c, "d", 1),
        lambda store, c: store.dict_set(c, "d", {"deep": {}}),
        lambda store, c: store.dict_update(c, [("b", 1), ("d", [])]),
        lambda store, c: store.dict_delete(c, "b"),
        lambda store, c: store.dict_pop(c, 1),
        lambda store, c: store.dict_popitem(c),
        lambda store, c: store.dict_popitem(c, False),
        lambda store, c: store.dict_setdefault(c, "d", 5),
        lambda store, c: store.dict_add(c, "n", 2),
        lambda store, c: store.dict_add(c, "d", 2, 3),
        lambda store, c: store.dict_compare_and_set(c, "d", None, b"\x00"),
        lambda store, c: store.clear(c),
    ],
)
def test_a_small_dict_changes_as_any_other(operation: Any) -> None:
    small = {1: "a", "b": (1, 2.5), "n": 3}
    with open_store() as store:
        outer, other = store.create(DICT), store.create(DICT)
        store.dict_set(outer, "small", small)
        store.dict_update(other, list(small.items()))
        inner = store.dict_get(outer, "small").c
        assert plain(operation(store, inner)) == plain(operation(store, other))
        assert list(store.snapshot(inner).items()) == list(store.snapshot(other).items())
        assert store.audit() == []
        store.dict_delete(outer, "small")
        while store.collect_garbage():
            pass
        assert store.audit() == []


def plain(value: Any) -> Any:
    return value._replace(c=0) if isinstance(value, Link) else value


def test_only_what_was_asked_for_is_freed() -> None:
    with open_store() as store:
        outer = store.create(DICT)
        for _ in range(3):
            store.dict_update(outer, [(key, {"a": 1}) for key in range(5)])
        garbage = store.garbage()
        assert len(garbage) == 10
        assert store.collect_garbage(1000, garbage[:4]) == 0
        assert store.garbage() == garbage[4:]
        assert store.collect_garbage(2, garbage[4:]) == 4
        assert store.audit() == []
