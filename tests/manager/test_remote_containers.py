"""Containers used from another machine: one container for all, with any contents."""

from __future__ import annotations

import os
import threading
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import garrison
from garrison.errors import (
    ContainerGone,
    WrongKind,
)
from garrison.manager.client import _remote_backend
from waiting import wait_until

from . import processes
from .processes import KEY, RemoteProcess

# -- the same for everybody -----------------------------------------------------------------------


def test_local_and_remote_names_are_one_container(
    local_manager: Any, client: Any, other: RemoteProcess
) -> None:
    local, remote = local_manager.dict("stock", tea=1), client.dict("stock", tea=99)
    assert not client.store.is_local
    remote["milk"] = {"cold": True}
    local["milk"]["cold"] = False
    other.do(processes.get, "dict", "stock")
    other.do(processes.call, "__setitem__", "tea", 7)
    assert local == remote == {"tea": 7, "milk": {"cold": False}}
    makers: list[Any] = [
        ("list", (), {"name": "l"}, lambda items: items.append(1)),
        ("set", (), {"name": "s"}, lambda s: s.add(1)),
        ("deque", (), {"name": "d"}, lambda d: d.appendleft(1)),
        ("Counter", ("c",), {}, lambda c: c.update("abc")),
        ("Namespace", ("n",), {}, lambda n: setattr(n, "a", 1)),
        ("Value", ("i", 5), {"name": "v"}, lambda v: v.set(6)),
        ("Array", ("i", [1, 2]), {"name": "a"}, lambda a: a.__setitem__(0, 9)),
    ]
    for kind, args, kwargs, change in makers:
        local, remote = (getattr(each, kind)(*args, **kwargs) for each in (local_manager, client))
        change(local)
        assert str(local) == str(remote)
        change(remote)
        assert str(local) == str(remote)


def test_name_has_one_kind_of_container(local_manager: Any, client: Any) -> None:
    local_manager.dict("stock")
    with pytest.raises(WrongKind, match="stock"):
        client.list(name="stock")
    with pytest.raises(TypeError, match="stock"):
        client.Queue("stock")


def test_container_outlives_its_manager_object(local_manager: Any) -> None:
    for direct in (True, False):
        stock = garrison.connect(local_manager.address, KEY, direct=direct).dict(
            "stock", tea={"cups": 1}
        )
        assert stock["tea"]["cups"] == 1
        child = garrison.connect(local_manager.address, KEY, direct=direct).dict("stock")["tea"]
        assert child["cups"] == 1


def test_remote_dict_takes_keys_of_all_kinds(local_manager: Any, client: Any) -> None:
    local, remote = local_manager.dict("keys"), client.dict("keys")
    keys = [
        None, 1, -1, 10**40, 1.5, float("inf"), "text", "\udcff", b"bytes", "x" * 5000,
        (1, ("two", None)), frozenset({1, "a"}), Decimal("2.75"), Fraction(1, 3), 2j, ...,
    ]  # fmt: skip
    for number, key in enumerate(keys):
        remote[key] = number
    assert {key: remote[key] for key in keys} == dict(zip(keys, range(len(keys)), strict=True))
    assert list(remote) == list(local) == keys
    remote[True] = "first key stays"
    assert remote[1.0] == local[1] == "first key stays"
    for key in keys:
        assert key in remote
        del remote[key]
    assert not local


def test_remote_errors_are_those_of_the_plain_types(client: Any) -> None:
    stock, items = client.dict({"a": 1}), client.list([1])
    key = ("not", "there")
    for look in (stock.__getitem__, stock.__delitem__, stock.pop):
        with pytest.raises(KeyError) as caught:
            look(key)
        assert caught.value.args == (key,)
    with pytest.raises(KeyError, match="empty"):
        client.dict().popitem()
    with pytest.raises(IndexError, match="list index out of range"):
        items[5]
    with pytest.raises(TypeError, match="unhashable"):
        stock[[]] = 1
    with pytest.raises(TypeError, match="cannot store"):
        stock["lock"] = threading.Lock()
    with pytest.raises(ValueError, match="not in"):
        items.remove(7)
    assert (stock, items) == ({"a": 1}, [1])


def test_deleted_container_raises_container_gone(local_manager: Any, client: Any) -> None:
    parent = client.dict({"child": {}})
    child = parent["child"]
    del parent["child"]
    wait_until(lambda: _is_gone(child))
    with pytest.raises(ContainerGone):
        child["a"] = 1


def _is_gone(face: Any) -> bool:
    try:
        len(face)
    except ContainerGone:
        return True
    return False


@pytest.mark.watchdog(90)
def test_remote_values_of_50_megabytes(local_manager: Any, client: Any) -> None:
    big = os.urandom(1 << 20) * 50
    remote = client.dict("big")
    remote["a"] = big
    assert local_manager.dict("big")["a"] == big
    assert remote["a"] == big
    local_manager.list([big], name="l")
    assert client.list(name="l").pop() == big


def test_remote_update_with_is_atomic(
    local_manager: Any, client: Any, other: RemoteProcess
) -> None:
    remote = client.dict("stock", n=0)
    other.do(processes.get, "dict", "stock")
    other.begin(count_up, 100)
    local = local_manager.dict("stock")
    for _ in range(100):
        remote.update_with("n", lambda n: n + 1)
        local.update_with("n", lambda n: n + 1)
        remote.add("n", 1)
    other.result()
    assert remote["n"] == 400


def count_up(state: Any, times: int) -> None:
    for _ in range(times):
        state.thing.update_with("n", lambda n: n + 1)


def test_remote_iteration_is_a_snapshot(local_manager: Any, client: Any) -> None:
    local = local_manager.dict("many")
    local.update((n, n) for n in range(100_000))
    remote = client.dict("many")
    seen = 0
    for number, (key, value) in enumerate(remote.items()):
        assert (key, value) == (number, number)
        if number % 10_000 == 0:
            local[number] = "changed"
            local.pop(99_999 - number)
            remote[f"new {number}"] = 1
        seen += 1
    assert seen == 100_000
    assert len(local) == 100_000
    assert list(reversed(remote))[:1] == ["new 90000"]


def test_abandoned_iterations_are_closed_in_the_server(client: Any) -> None:
    items = client.list(range(5000))
    for _ in range(200):
        assert next(iter(items)) == 0
    iterators = [iter(items) for _ in range(64)]
    assert [next(each) for each in iterators] == [0] * 64
    with pytest.raises(ValueError, match="64 iterations are open"):
        next(iter(items))
    del iterators
    assert next(iter(items)) == 0


def test_many_threads_share_a_remote_client(client: Any) -> None:
    stock = client.dict("stock", n=0)

    def work() -> None:
        for number in range(50):
            stock.add("n", 1)
            stock[threading.get_ident()] = number
            assert stock[threading.get_ident()] == number

    threads = [threading.Thread(target=work) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert stock["n"] == 800


def test_pipelined_operation_of_too_many_values_is_refused_where_it_is_called(
    client: Any,
) -> None:
    stock, items = client.dict(), client.list()
    with client.pipeline() as pipeline:
        later = pipeline(stock)
        later["before"] = 1
        with pytest.raises(OverflowError, match="more than 262144 values in one message"):
            later.update(dict.fromkeys(range(300_000)))
        with pytest.raises(OverflowError, match="more than 262144 values in one message"):
            pipeline(items).extend(range(300_000))
        later["after"] = 2
    assert (stock, len(items)) == ({"before": 1, "after": 2}, 0)


def test_pipeline_sends_operations_together(local_manager: Any, client: Any) -> None:
    local, remote = local_manager.dict("stock", a=1), client.dict("stock")
    items = client.list(name="items")
    with client.pipeline() as pipeline:
        stock, later = pipeline(remote), pipeline(items)
        stock["b"] = 2
        a, missing, gone = stock.get("a"), stock.get("zzz", 5), stock.pop("zzz")
        for n in range(1000):
            later.append(n)
        with pytest.raises(RuntimeError, match="at the end"):
            _ = a.value
        with pytest.raises(TypeError, match="promise"):
            bool(a)
    assert (a.value, missing.value, local) == (1, 5, {"a": 1, "b": 2})
    assert items == list(range(1000))
    with pytest.raises(KeyError, match="zzz"):
        _ = gone.value
    with client.pipeline() as pipeline, client.transaction():
        pipeline(remote)["c"] = 3
    assert local["c"] == 3


def test_many_entries_go_in_several_requests_of_one_transaction(
    local_manager: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remote_backend, "ENTRIES_PER_REQUEST", 3)
    numbers = list(range(10))
    mapping, items, both = client.dict(), client.list(numbers), client.deque([1, 2])
    mapping.update({number: -number for number in numbers})
    assert mapping == {number: -number for number in numbers}
    both.extend(numbers)
    both.extendleft(numbers)
    assert list(both) == [*reversed(numbers), 1, 2, *numbers]
    items[2:4] = numbers
    assert list(items) == [0, 1, *numbers, *range(4, 10)]
    items[:] = [5] * 7
    assert list(items) == [5] * 7
    with pytest.raises(TypeError):
        items.extend([*numbers, threading.Lock()])
    assert list(items) == [5] * 7


@pytest.mark.parametrize("count", [3, 40])
def test_remote_get_many_is_of_one_moment(
    local_manager: Any, client: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(_remote_backend, "ENTRIES_PER_REQUEST", 16)
    local, remote = local_manager.dict("stock"), client.dict("stock")
    keys: list[Any] = [1, "text", (1, "a"), None, b"x" * 500, *range(10, 10 + count)]
    remote.set_many({key: [str(key)] if key == "text" else str(key) for key in keys})
    for shared in (local, remote):
        found = shared.get_many([*keys, "missing", 1.0])
        assert list(found) == keys
        assert list(found.pop("text")) == ["text"]
        assert found == {key: str(key) for key in keys if key != "text"}
        assert shared.get_many([]) == {}
    with client.transaction():
        remote[1] = "changed"
        assert remote.get_many([1]) == {1: "changed"}
        assert local.get_many([1]) == {1: "1"}
    with pytest.raises(TypeError):
        remote.get_many(5)
