"""Items that came together lie together in a record, and each of them can still be changed."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import pytest

from garrison import _core
from garrison.errors import WrongKind
from garrison.store._local_store import create_in_memory

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


KEYS: list[Any] = [None, True, 2, -300, 2**70, 1.5, "text", b"bytes", (1, "a"), "x" * 600]


def keys(choose: random.Random, count: int) -> list[Any]:
    return [choose.choice([*KEYS, *range(400), "k" * choose.randrange(300)]) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_a_dict_that_was_filled_at_once_changes_as_a_plain_one(
    folder: Path | None, seed: int
) -> None:
    choose = random.Random(seed)
    with open_store(folder=folder) as store:
        c, plain = store.create(DICT), dict.fromkeys(keys(choose, 300), 1)
        store.dict_update(c, plain)
        for _ in range(STEPS // 3):
            change_dict(store, c, plain, choose)
            assert store.dict_entries(c, "items") == list(plain.items())
            asked = keys(choose, 30)
            found = [plain.get(key, "missing") for key in asked]
            assert store.dict_get_many(c, asked, "missing") == found
        assert list(store.scan(c, "items")) == list(plain.items())
        assert list(store.scan(c, "items", True)) == list(plain.items())[::-1]
        assert store.dict_entries(c, "keys") == list(plain)
        assert store.dict_entries(c, "values") == list(plain.values())
        assert store.snapshot(c) == plain
        assert store.audit() == []
        store.clear(c)
        assert store.audit() == []


def change_dict(store: Store, c: int, plain: dict[Any, Any], choose: random.Random) -> None:
    new = dict(zip(keys(choose, 40), mixed(choose, 40), strict=True))
    match choose.randrange(6):
        case 0 if plain:
            key = choose.choice(list(plain))
            store.dict_delete(c, key)
            del plain[key]
        case 1 if plain:
            store.dict_popitem(c, True)
            plain.popitem()
        case 2 if plain:
            assert store.dict_popitem(c, False)[0] == next(iter(plain))
            del plain[next(iter(plain))]
        case 3:
            store.dict_set(c, "one", 1)
            plain["one"] = 1
        case 4:
            child = {key: {"a": "child"} for key in list(new)[:5]}
            store.dict_update(c, child)
            store.dict_update(c, dict.fromkeys(child, 0))
            plain.update(dict.fromkeys(child, 0))
        case _:
            store.dict_update(c, list(new.items()))
            plain.update(new)


def test_keys_that_came_together_are_taken_from_both_ends(folder: Path | None) -> None:
    with open_store(folder=folder) as store:
        c, plain = store.create(DICT), {f"key {n}": n for n in range(1000)}
        store.dict_update(c, plain)
        for first, last in zip(range(400), range(999, 599, -1), strict=True):
            assert store.dict_popitem(c, False) == (f"key {first}", first)
            assert store.dict_popitem(c, True) == (f"key {last}", last)
        assert list(store.scan(c, "values")) == list(range(400, 600))
        for n in range(400, 600):
            store.dict_delete(c, f"key {n}")
        assert store.audit() == []
        store.dict_update(c, {"again": 1})
        assert store.dict_entries(c, "items") == [("again", 1)]


def test_the_order_of_many_keys_takes_little_room() -> None:
    with open_store() as store:
        c = store.create(DICT)
        store.dict_update(c, dict.fromkeys(range(10_000)))
        assert pages(store) < 10_000 / 40


def test_entries_are_those_of_a_packed_dict_and_of_a_set(folder: Path | None) -> None:
    with open_store(folder=folder) as store:
        outer = store.create(DICT)
        store.dict_update(outer, {"dict": {"a": 1, 2: (3,)}, "set": {5}})
        inner, members = (store.dict_get(outer, each).c for each in ("dict", "set"))
        assert store.dict_entries(inner, "items") == [("a", 1), (2, (3,))]
        assert store.dict_get_many(inner, [2, 3, "a"]) == [(3,), None, 1]
        assert store.dict_entries(members, "keys") == store.dict_entries(members, "values") == [5]
        with pytest.raises(WrongKind):
            store.dict_get_many(members, [5])
        with pytest.raises(WrongKind):
            store.dict_entries(store.create(LIST), "values")
        with pytest.raises(ValueError, match="what"):
            store.dict_entries(inner, "pairs")
        assert store.dict_encoded_many(inner, ["a", "b"])[1] is None


def test_a_dict_that_changes_while_it_is_stored_is_stored_as_it_was() -> None:
    given: dict[Any, Any] = {"first": 1}

    class Awkward:
        def __reduce__(self) -> tuple[Any, ...]:
            given.clear()
            return (complex, (1, 2))

    given |= {"second": Awkward(), "third": 3}
    with open_store() as store:
        store.dict_update(c := store.create(DICT), given)
        assert store.dict_entries(c, "items") == [("first", 1), ("second", 1 + 2j), ("third", 3)]
    assert given == {}


def test_a_finalizer_may_use_the_store_whatever_is_read() -> None:
    """Tuples are made: that is when the garbage collector runs."""

    class Node:
        def __init__(self) -> None:
            self.myself = self

        def __del__(self) -> None:
            found.append(store.dict_get(d, "key"))

    found: list[Any] = []
    thresholds = gc.get_threshold()
    with open_store() as store:
        d, items = store.create(DICT), store.create(LIST)
        store.dict_update(d, {"key": (1, (2, 3))})
        store.list_extend(items, [(number, "x") for number in range(100)])
        gc.set_threshold(10, 2, 2)
        try:
            for _ in range(100):
                Node()
                store.list_slice(items, 0, 100)
                store.list_get(items, 5)
                store.dict_entries(d, "items")
            gc.collect()
        finally:
            gc.set_threshold(*thresholds)
    assert found == [(1, (2, 3))] * 100


def test_several_stores_of_a_process_grow_at_once() -> None:
    """Each needs free addresses behind its own."""
    stores = [create_in_memory(1 << 34) for _ in range(5)]
    for store in stores:
        shared = store.make(LIST)
        for _ in range(5):
            shared.append(b"x" * (4 << 20))
        assert len(shared) == 5
