"""Containers in containers are live, and go with what they belong to."""

from __future__ import annotations

import copy
import gc
import random
from collections import deque
from typing import Any

import pytest

from garrison.store import Deque, Dict, Kind, List, Set, create_container
from garrison.store._backend import KIND_NAMES


def test_a_nested_write_is_not_lost(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"a": {}})
    d["a"]["b"] = 1
    d["list"] = [[]]
    d["list"][0].append({"deep": {1}})
    d["list"][0][0]["deep"].add(2)
    assert d == {"a": {"b": 1}, "list": [[{"deep": {1, 2}}]]}


def test_each_plain_type_becomes_its_container(store: Any) -> None:
    items = create_container(store, Kind.LIST, [{}, [], set(), deque([1])])
    assert [type(each) for each in items] == [Dict, List, Set, Deque]


def test_subclass_is_stored_as_a_value(store: Any) -> None:
    items = create_container(store, Kind.LIST, [Ordered(a=1)])
    assert type(items[0]) is Ordered


class Ordered(dict[str, int]):
    pass


def test_popped_child_is_plain(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"a": {"b": [1, {2}]}})
    popped = d.pop("a")
    assert popped == {"b": [1, {2}]}
    assert type(popped["b"]) is list
    d["c"] = [[1]]
    assert d["c"].pop() == [1]
    assert d.popitem() == ("c", [])


def test_copies_are_plain_all_the_way_down(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"a": {"b": [1]}})
    shared = d["shared"] = create_container(store, Kind.LIST)
    copies = [d.copy(), copy.deepcopy(d), d._getvalue()]
    d["a"]["b"].append(2)
    for each in copies:
        assert each["a"] == {"b": [1]}
        assert (type(each), type(each["a"]), type(each["a"]["b"])) == (dict, dict, list)
        assert each["shared"]._same_container(
            shared
        )  # a container of its own, as a proxy in a proxy's copy


def test_copy_copy_is_the_same_container_as_that_of_a_proxy(store: Any) -> None:
    items = create_container(store, Kind.LIST, [1])
    copy.copy(items).append(2)
    assert items == [1, 2]


def test_shared_child_is_one_container(store: Any) -> None:
    shared = create_container(store, Kind.LIST, [1])
    a, b = create_container(store, Kind.DICT), create_container(store, Kind.DICT)
    a["x"] = b["x"] = shared
    a["x"].append(2)
    assert b["x"] == shared == [1, 2]
    del a["x"]
    assert b["x"] == [1, 2]


def test_children_may_be_sorted_reversed_and_swapped(store: Any) -> None:
    items = create_container(store, Kind.LIST, [[3], [1], [2]])
    one = items[1]
    items.sort()
    assert items == [[1], [2], [3]]
    items.reverse()
    items[0:2] = items[1::-1]
    items[2], items[0] = items[0], items[2]
    one.append("still here")
    assert items == [[1, "still here"], [3], [2]]
    queue = create_container(store, Kind.DEQUE, [[1], [2]])
    first = queue[0]
    queue.rotate()
    first.append("moved")
    assert queue == deque([[2], [1, "moved"]])


def test_moved_children_belong_to_their_container(store: Any) -> None:
    items = create_container(store, Kind.LIST, [[n] for n in range(6)])
    items.sort(key=list, reverse=True)
    del items[::3]
    items[:] = [*items[1:], [9], items[0]]
    store.collect_garbage()
    assert items == [[3], [1], [0], [9], [4]]
    assert all(type(each) is list for each in copy.deepcopy(items))
    while items:
        assert type(items.pop()) is list


def test_shuffled_children_are_kept(store: Any) -> None:
    items = create_container(store, Kind.LIST, [[n] for n in range(8)])
    random.Random(1).shuffle(items)
    gc.collect()
    assert sorted(items) == [[n] for n in range(8)]


def test_a_child_repeated_is_one_child(store: Any) -> None:
    items = create_container(store, Kind.LIST, [[]])
    items *= 3
    items[0].append(1)
    assert items == [[1], [1], [1]]


def test_containers_compare_with_plain_objects_at_any_depth(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"a": [1, {"b": {2}}]})
    assert d == {"a": [1, {"b": {2}}]}
    assert {"a": [1, {"b": {2}}]} == d
    assert d["a"] in create_container(store, Kind.LIST, [[1, {"b": {2}}]])
    assert d != {"a": [1, {"b": {3}}]}


def test_recursive_container_is_shown_and_compared(store: Any) -> None:
    items = create_container(store, Kind.LIST, [1])
    items.append(items)
    d = create_container(store, Kind.DICT)
    d["d"] = d
    d["in a tuple"] = (d,)
    space = create_container(store, Kind.NAMESPACE)
    space.me = space
    assert str(items) == "[1, [...]]"
    assert str(d).startswith("{'d': {...}, 'in a tuple': (<DictProxy object, typeid 'dict' at 0x")
    assert str(space) == "Namespace(me=Namespace(...))"
    assert items == items[1]
    items.pop()
    d.clear()


def test_a_plain_cycle_is_refused(store: Any) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    items = create_container(store, Kind.LIST)
    with pytest.raises(ValueError, match="itself"):
        items.append(cycle)
    assert items == []


def test_too_deep_nesting_is_refused(store: Any) -> None:
    deep: list[Any] = []
    for _ in range(101):
        deep = [deep]
    with pytest.raises(ValueError, match="deep"):
        create_container(store, Kind.LIST).append(deep)
    assert str(create_container(store, Kind.LIST, deep[0][0])).startswith("[[[")


@pytest.mark.parametrize(
    ("kind", "contents", "shown", "plain"),
    [
        (Kind.DICT, {"a": 1}, "DictProxy object, typeid 'dict'", "{'a': 1}"),
        (Kind.DICT, {}, "DictProxy object, typeid 'dict'", "{}"),
        (Kind.LIST, [1, [2]], "ListProxy object, typeid 'list'", "[1, [2]]"),
        (Kind.SET, {"a"}, "SetProxy object, typeid 'set'", "{'a'}"),
        (Kind.SET, set(), "SetProxy object, typeid 'set'", "set()"),
        (Kind.DEQUE, [1], "Deque([1])", "deque([1])"),
        (Kind.COUNTER, "aab", "Counter({'a': 2, 'b': 1})", "Counter({'a': 2, 'b': 1})"),
    ],
)
def test_repr_shows_the_contents(
    store: Any, kind: int, contents: Any, shown: str, plain: str
) -> None:
    container = create_container(store, kind, contents)
    assert repr(container) in {shown, f"<{shown} at {id(container):#x}>"}
    assert str(container) == plain


def test_repr_is_bounded(store: Any) -> None:
    items = create_container(store, Kind.LIST, range(20_000))
    assert str(items).endswith("9998, 9999, ...]")
    items[:] = ["x" * 100_000]
    assert len(str(items)) < 11_000
    d = create_container(store, Kind.DICT, {"rows": [list(range(150)) for _ in range(150)]})
    assert str(d).endswith("...]}")


def test_two_objects_of_one_container_are_equal(store: Any) -> None:
    queue = create_container(store, Kind.QUEUE, name="jobs")
    again = create_container(store, Kind.QUEUE, name="jobs")
    assert queue == again
    assert hash(queue) == hash(again)
    assert queue != create_container(store, Kind.QUEUE)
    assert queue != 5


@pytest.mark.parametrize("kind", sorted(KIND_NAMES))
def test_container_classes_are_generic(kind: int) -> None:
    from garrison.store._factory import CONTAINER_TYPES

    assert CONTAINER_TYPES[kind][int].__origin__ is CONTAINER_TYPES[kind]  # type: ignore[index]


def test_containers_match_patterns(store: Any) -> None:
    match create_container(store, Kind.DICT, {"kind": "job", "args": [1, 2, 3]}):
        case {"kind": "job", "args": [first, *rest]}:
            assert (first, rest) == (1, [2, 3])
        case _:
            pytest.fail("a container is no mapping or sequence to the pattern")
