"""`Namespace`, `Value` and `Array`, and what dicts and lists do beyond the plain ones."""

from __future__ import annotations

import copy
import json
import math
import operator
import pickle
import threading
from array import array
from collections import OrderedDict, UserDict
from collections.abc import MutableMapping, MutableSequence, MutableSet, Sequence
from functools import partial
from typing import Any

import pytest

from garrison.store import Dict, Kind, create_container

from .backends import BACKENDS

# --- Namespace --------------------------------------------------------------------------------


def test_namespace_has_attributes(store: Any) -> None:
    space = create_container(store, Kind.NAMESPACE, x=1)
    space.get, space.KIND, space.store = 2, 3, {}
    space.store["y"] = 4
    assert (space.x, space.get, space.KIND, space.store) == (1, 2, 3, {"y": 4})
    del space.x
    assert not hasattr(space, "x")
    assert {"get", "KIND", "store", "__repr__"} <= set(dir(space))
    assert str(space) == "Namespace(KIND=3, get=2, store={'y': 4})"


def test_namespace_names_missing_attributes(store: Any) -> None:
    space = create_container(store, Kind.NAMESPACE)
    calls: list[Any] = [lambda: space.x, lambda: delattr(space, "x"), lambda: space._x]
    for call in calls:
        with pytest.raises(AttributeError, match=r"'Namespace' object has no attribute '_?x'"):
            call()
    space._x = 1
    assert space._x == 1
    del space._x
    assert getattr(space, "x", 7) == 7
    assert vars(copy.deepcopy(create_container(store, Kind.NAMESPACE, a=[1]))) == {"a": [1]}


# --- Value ------------------------------------------------------------------------------------


def test_value_is_read_and_written(store: Any) -> None:
    v = create_container(store, Kind.VALUE, "d", 0.0)
    assert (v.value, v.get(), v.typecode) == (0.0, 0.0, "d")
    v.value = 3.14
    assert v.get() == 3.14
    v.set("anything")
    assert str(v) == "Value('d', 'anything')"
    v.set([1])
    v.value.append(2)
    assert copy.deepcopy(v).get() == [1, 2]


def test_atomic_steps_of_a_value(store: Any) -> None:
    v = create_container(store, Kind.VALUE, "i", 5)
    assert (v.add(), v.add(2), v.add(-3)) == (5, 6, 8)
    assert (v.add(0.5), v.value) == (5, 5.5)
    assert (v.exchange(7), v.value) == (5.5, 7)
    assert (v.compare_exchange(6, 1), v.compare_exchange(7, 1), v.value) == (False, True, 1)
    assert (v.update_with(lambda n: n * 10), v.value) == (10, 10)
    v.set("text")
    with pytest.raises(TypeError):
        v.add(1)


def test_float_is_restored_exactly(store: Any) -> None:
    v = create_container(store, Kind.VALUE, "d", 0.1)
    assert (v.add(1e17), v.value) == (0.1, 0.1 + 1e17)
    assert create_container(store, Kind.VALUE, "d", 0.1).add(1) == 0.1


# --- Array ------------------------------------------------------------------------------------


def test_array_is_read_and_written(store: Any) -> None:
    numbers = create_container(store, Kind.ARRAY, "i", range(5))
    numbers[0] = 7
    numbers[-1] += 1
    assert (len(numbers), list(numbers), list(reversed(numbers))) == (
        5,
        [7, 1, 2, 3, 5],
        [5, 3, 2, 1, 7],
    )
    assert numbers[1:3] == numbers[1:4:2][:1] + array("i", [2]) == array("i", [1, 2])
    assert numbers == array("i", [7, 1, 2, 3, 5])
    assert array("i", [7, 1, 2, 3, 5]) == numbers
    assert numbers < array("i", [8])
    assert (3 in numbers, numbers.index(2), numbers.count(5)) == (True, 2, 1)
    assert str(numbers) == "array('i', [7, 1, 2, 3, 5])"
    assert str(numbers) == "array('i', [7, 1, 2, 3, 5])"
    assert (numbers.typecode, numbers.tolist(), type(numbers.copy())) == (
        "i",
        [7, 1, 2, 3, 5],
        array,
    )
    numbers[1:3] = [8, 9]
    numbers[::2] = array("i", [0, 0, 0])
    assert numbers.tolist() == [0, 8, 0, 3, 0]
    assert (numbers.add(1, 2), numbers.update_with(1, lambda n: n * 2), numbers[1]) == (8, 20, 20)


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (OverflowError, None, lambda x: operator.setitem(x, 0, 2**31)),
        (TypeError, None, lambda x: operator.setitem(x, 0, 1.5)),
        (TypeError, None, lambda x: operator.setitem(x, 0, "x")),
        (IndexError, "array index out of range", lambda x: x[3]),
        (IndexError, "array assignment index out of range", lambda x: operator.setitem(x, -4, 1)),
        (IndexError, None, lambda x: x[10**30]),
        (TypeError, "array indices must be integers", lambda x: x["a"]),
        (ValueError, "2 values for 3 places", lambda x: operator.setitem(x, slice(None), [1, 2])),
        (ValueError, "2 values for 1 places", lambda x: operator.setitem(x, slice(1, 2), [1, 2])),
        (OverflowError, None, lambda x: x.add(0, 2**31 - 1)),
        (TypeError, "cannot be deleted", lambda x: operator.delitem(x, 0)),
    ],
)
def test_array_refuses_bad_input(store: Any, error: Any, text: str | None, call: Any) -> None:
    numbers = create_container(store, Kind.ARRAY, "i", [1, 2, 3])
    with pytest.raises(error, match=text):
        call(numbers)
    assert numbers.tolist() == [1, 2, 3]


def test_an_array_rounds_as_c_does(store: Any) -> None:
    numbers = create_container(store, Kind.ARRAY, "f", [0.1])
    numbers[0] = 0.1
    assert numbers[0] == array("f", [0.1])[0] != 0.1
    with pytest.raises(ValueError, match="typecode"):
        create_container(store, Kind.ARRAY, "?", [])


# --- Dict -------------------------------------------------------------------------------------


def test_dict_add_returns_the_sum(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"a": 1, "text": "x"})
    assert (d.add("a"), d.add("a", 1.5), d.add("b", 2, 10), d) == (
        2,
        3.5,
        12,
        {"a": 3.5, "text": "x", "b": 12},
    )
    with pytest.raises(KeyError, match="missing"):
        d.add("missing")
    for key, delta in (("text", 1), ("a", "x")):
        with pytest.raises(TypeError):
            d.add(key, delta)


def test_update_with_applies_a_function(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"a": 1, "list": [1]})
    assert d.update_with("a", lambda n: n + 1) == 2
    assert d.update_with("b", lambda n: n + 1, default=10) == 11
    assert d.update_with("none", lambda n: n, None) is None
    d.update_with("list", lambda items: [*items, 2])
    inside = d["list"]
    assert d.update_with("list", lambda items: items.append(3) or items) == [1, 2, 3]
    inside.append(4)
    assert d == {"a": 2, "b": 11, "none": None, "list": [1, 2, 3, 4]}
    with pytest.raises(KeyError, match="missing"):
        d.update_with("missing", str)


@pytest.mark.parametrize("backend", ["remote", "remote-model"])
def test_step_is_repeated_after_a_concurrent_write(backend: str) -> None:
    with BACKENDS[backend]() as store:
        d, items = (
            create_container(store, Kind.DICT, {"n": 1}),
            create_container(store, Kind.LIST, [1]),
        )
        updates: list[Any] = [partial(d.update_with, "n"), partial(items.update_with, 0)]
        for update in updates:
            calls: list[int] = []

            def add_and_disturb(n: int, calls: list[int] = calls) -> int:
                calls.append(n)
                if len(calls) < 3:
                    d["n"] = items[0] = n + 10
                return n + 1

            update(add_and_disturb)
            assert calls == [calls[0], calls[0] + 10, calls[0] + 20]
        assert (d, items) == ({"n": 41}, [42])


def test_atomic_steps_of_many_threads(store: Any) -> None:
    d, items = (
        create_container(store, Kind.DICT, {"n": 0, "m": 0}),
        create_container(store, Kind.LIST, [0]),
    )
    counts, members = (
        create_container(store, Kind.COUNTER),
        create_container(store, Kind.SET),
    )

    def work() -> None:
        for n in range(20):
            d.update_with("n", lambda n: n + 1)
            d.add("m")
            items.add(0)
            items.update_with(0, lambda n: n + 1)
            counts.update("ab")
            members.update({n, n + 1})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (d, items, counts) == ({"n": 80, "m": 80}, [160], {"a": 80, "b": 80})


def test_iteration_is_a_snapshot(store: Any) -> None:
    d = create_container(store, Kind.DICT, {n: n for n in range(600)})
    for key in d:
        del d[key]
        d[f"new {key}"] = key
    assert len(d) == 600
    items = create_container(store, Kind.DEQUE, range(600))
    for n in items:
        items.append(n)
    assert len(items) == 1200


def test_dict_keeps_insertion_order(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"b": 1, "a": 2})
    d["b"] = 3
    d[1], d[True], d[0] = "one", "true", "zero"
    assert list(d.items()) == [("b", 3), ("a", 2), (1, "true"), (0, "zero")]
    assert d.popitem(last=False) == ("b", 3)
    d["b"] = 4
    assert list(d) == ["a", 1, 0, "b"]
    assert list(reversed(d)) == ["b", 0, 1, "a"]


def test_update_takes_mappings_of_all_kinds(store: Any) -> None:
    d = create_container(store, Kind.DICT, OrderedDict(a=1), b=2)
    d.update(UserDict(c=3))
    d.update(create_container(store, Kind.DICT, {"d": 4}))
    d |= iter([("e", 5)])
    assert d == UserDict(a=1, b=2, c=3, d=4, e=5) == d
    assert d | d == {**d}
    assert create_container(store, Kind.DICT, {"a": 0}) | d == {**d}
    with pytest.raises(TypeError):
        d | [("a", 1)]


def test_keys_values_and_items_are_lists_as_those_of_a_manager(store: Any) -> None:
    d = create_container(store, Kind.DICT, {"a": 1, "b": 2})
    keys = d.keys()
    d["c"] = 3
    assert (keys, repr(keys), keys == {"a", "b"}) == (["a", "b"], "['a', 'b']", True)
    assert (d.items(), str(d.items())) == (list(dict(d).items()), "[('a', 1), ('b', 2), ('c', 3)]")
    assert json.dumps([d.keys(), d.values(), d.items()]).startswith(
        '[["a", "b", "c"], [1, 2, 3], ['
    )
    assert type(pickle.loads(pickle.dumps(keys))) is list
    del d["c"]
    assert d.keys() == dict(d).keys()
    assert d.items() == {"a": 1, "b": 2}.items()
    assert not keys.isdisjoint(["a"])
    assert d.values()[0] == 1
    assert d.keys()[-1:] == ["b"]
    assert d.values() == [1, 2]
    assert d.values() + [3] == [1, 2, 3]  # noqa: RUF005 - it is about this
    assert [0] + d.values() == [0, 1, 2]  # noqa: RUF005 - as above
    assert pickle.loads(pickle.dumps(d.items())) == [("a", 1), ("b", 2)]


def test_containers_are_of_the_abstract_types(store: Any) -> None:
    for kind, abstract in (
        (Kind.DICT, MutableMapping),
        (Kind.COUNTER, MutableMapping),
        (Kind.LIST, MutableSequence),
        (Kind.DEQUE, MutableSequence),
        (Kind.SET, MutableSet),
    ):
        container = create_container(store, kind)
        assert isinstance(container, abstract)
        assert all(hasattr(container, name) for name in abstract.__dict__ if name[:1] != "_")
        assert (container.__hash__ is None) == (kind not in (Kind.DICT, Kind.LIST))
    assert isinstance(create_container(store, Kind.ARRAY, "i"), Sequence)


# --- List -------------------------------------------------------------------------------------


def test_atomic_steps_of_a_list(store: Any) -> None:
    items = create_container(store, Kind.LIST, [1, 2.5, "x"])
    assert (items.add(0), items.add(-2, 0.5)) == (2, 3.0)
    assert items.update_with(2, str.upper) == "X"
    calls: list[Any] = [lambda: items.add(9), lambda: items.update_with(9, str)]
    for call in calls:
        with pytest.raises(IndexError):
            call()
    assert items == [2, 3.0, "X"]


def test_a_sort_that_fails_changes_nothing(store: Any) -> None:
    items = create_container(store, Kind.LIST, [3, "x", 1])
    with pytest.raises(TypeError):
        items.sort()
    assert items == [3, "x", 1]
    items.sort(key=str, reverse=True)
    assert items == ["x", 3, 1]


def test_a_failed_extend_changes_nothing(store: Any) -> None:
    items = create_container(store, Kind.LIST, [1])
    with pytest.raises(ZeroDivisionError):
        items.extend(1 / n for n in (1, 0))
    assert items == [1]


def test_floats_of_all_kinds_are_stored(store: Any) -> None:
    items = create_container(store, Kind.LIST, [math.inf, -0.0, math.nan])
    assert (items[0], math.copysign(1, items[1]), math.isnan(items[2])) == (math.inf, -1, True)


# --- Names ------------------------------------------------------------------------------------


def test_name_is_one_container_for_all(store: Any) -> None:
    stock = create_container(store, Kind.DICT, {"tea": 5}, name="stock")
    again = create_container(store, Kind.DICT, {"tea": 99}, name="stock")
    assert isinstance(again, Dict)
    assert again == stock == {"tea": 5}
    with pytest.raises(TypeError):
        create_container(store, Kind.LIST, name="stock")


def test_the_arguments_are_checked_before_anything_is_made(store: Any) -> None:
    for kind, args in ((Kind.DICT, [5]), (Kind.LIST, [5]), (Kind.DEQUE, [[], -1])):
        with pytest.raises((TypeError, ValueError)):
            create_container(store, kind, *args, name="broken")
    assert store.names() == []
