"""Containers from afar: the same for everybody, whatever is in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import garrison
from garrison.errors import (
    ContainerGone,
    ValueUnreadable,
    WrongKind,
)
from garrison.net._limits import Limits

from . import afar
from .afar import KEY, Actor, Served, until

FAST = Limits(idle_transaction_s=0.5, reconnect_grace_s=0.3)


@pytest.fixture
def home() -> Iterator[Any]:
    with garrison.Manager(("127.0.0.1", 0), key=KEY, limits=FAST) as manager:
        yield manager
    vars(manager).clear()  # pytest keeps it for a while


@pytest.fixture
def client(home: Any) -> Iterator[Any]:
    with garrison.connect(home.address, KEY, direct=False) as connected:
        yield connected


@pytest.fixture
def other(home: Any) -> Iterator[Actor]:
    with Actor() as actor:
        actor.do(afar.connect, home.address)
        yield actor


# -- the same for everybody -----------------------------------------------------------------------


def test_a_name_is_the_same_at_home_and_from_afar(home: Any, client: Any, other: Actor) -> None:
    near, far = home.dict("stock", tea=1), client.dict("stock", tea=99)
    assert not client.store.is_local
    far["milk"] = {"cold": True}
    near["milk"]["cold"] = False
    other.do(afar.get, "dict", "stock")
    other.do(afar.call, "__setitem__", "tea", 7)
    assert near == far == {"tea": 7, "milk": {"cold": False}}
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
        near, far = (getattr(each, kind)(*args, **kwargs) for each in (home, client))
        change(near)
        assert str(near) == str(far)
        change(far)
        assert str(near) == str(far)


def test_a_name_has_one_kind(home: Any, client: Any) -> None:
    home.dict("stock")
    with pytest.raises(WrongKind, match="stock"):
        client.list(name="stock")
    with pytest.raises(TypeError, match="stock"):
        client.Queue("stock")


def test_a_face_may_outlive_its_manager(home: Any) -> None:
    for direct in (True, False):
        stock = garrison.connect(home.address, KEY, direct=direct).dict("stock", tea={"cups": 1})
        assert stock["tea"]["cups"] == 1
        child = garrison.connect(home.address, KEY, direct=direct).dict("stock")["tea"]
        assert child["cups"] == 1


def test_keys_of_all_kinds(home: Any, client: Any) -> None:
    near, far = home.dict("keys"), client.dict("keys")
    keys = [
        None, 1, -1, 10**40, 1.5, float("inf"), "text", "\udcff", b"bytes", "x" * 5000,
        (1, ("two", None)), frozenset({1, "a"}), Decimal("2.75"), Fraction(1, 3), 2j, ...,
    ]  # fmt: skip
    for number, key in enumerate(keys):
        far[key] = number
    assert {key: far[key] for key in keys} == dict(zip(keys, range(len(keys)), strict=True))
    assert list(far) == list(near) == keys
    far[True] = "first key stays"
    assert far[1.0] == near[1] == "first key stays"
    for key in keys:
        assert key in far
        del far[key]
    assert not near


def test_errors_are_those_of_the_plain_types(client: Any) -> None:
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


def test_what_is_gone(home: Any, client: Any) -> None:
    parent = client.dict({"child": {}})
    child = parent["child"]
    del parent["child"]
    until(lambda: _is_gone(child))
    with pytest.raises(ContainerGone):
        child["a"] = 1


def _is_gone(face: Any) -> bool:
    try:
        len(face)
    except ContainerGone:
        return True
    return False


@pytest.mark.watchdog(90)
def test_values_of_50_megabytes(home: Any, client: Any) -> None:
    big = os.urandom(1 << 20) * 50
    far = client.dict("big")
    far["a"] = big
    assert home.dict("big")["a"] == big
    assert far["a"] == big
    home.list([big], name="l")
    assert client.list(name="l").pop() == big


def test_update_with_is_atomic(home: Any, client: Any, other: Actor) -> None:
    far = client.dict("stock", n=0)
    other.do(afar.get, "dict", "stock")
    other.begin(count_up, 100)
    near = home.dict("stock")
    for _ in range(100):
        far.update_with("n", lambda n: n + 1)
        near.update_with("n", lambda n: n + 1)
        far.add("n", 1)
    other.result()
    assert far["n"] == 400


def count_up(kept: Any, times: int) -> None:
    for _ in range(times):
        kept.thing.update_with("n", lambda n: n + 1)


def test_an_iteration_is_a_snapshot(home: Any, client: Any) -> None:
    near = home.dict("many")
    near.update((n, n) for n in range(100_000))
    far = client.dict("many")
    seen = 0
    for number, (key, value) in enumerate(far.items()):
        assert (key, value) == (number, number)
        if number % 10_000 == 0:
            near[number] = "changed"
            near.pop(99_999 - number)
            far[f"new {number}"] = 1
        seen += 1
    assert seen == 100_000
    assert len(near) == 100_000
    assert list(reversed(far))[:1] == ["new 90000"]


def test_iterations_that_are_left_are_closed(client: Any) -> None:
    items = client.list(range(5000))
    for _ in range(200):
        assert next(iter(items)) == 0
    iterators = [iter(items) for _ in range(64)]
    assert [next(each) for each in iterators] == [0] * 64
    with pytest.raises(ValueError, match="64 iterations are open"):
        next(iter(items))
    del iterators
    assert next(iter(items)) == 0


def test_many_threads(client: Any) -> None:
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


def test_a_pipeline(home: Any, client: Any) -> None:
    near, far = home.dict("stock", a=1), client.dict("stock")
    items = client.list(name="items")
    with client.pipeline() as pipeline:
        stock, later = pipeline(far), pipeline(items)
        stock["b"] = 2
        a, missing, gone = stock.get("a"), stock.get("zzz", 5), stock.pop("zzz")
        for n in range(1000):
            later.append(n)
        with pytest.raises(RuntimeError, match="at the end"):
            _ = a.value
        with pytest.raises(TypeError, match="promise"):
            bool(a)
    assert (a.value, missing.value, near) == (1, 5, {"a": 1, "b": 2})
    assert items == list(range(1000))
    with pytest.raises(KeyError, match="zzz"):
        _ = gone.value
    with client.pipeline() as pipeline, client.transaction():
        pipeline(far)["c"] = 3
    assert near["c"] == 3


# -- keyless servers ------------------------------------------------------------------------------


class Loot:
    def __reduce__(self) -> Any:
        return os.mkdir, ("/tmp/never-made-by-a-test-of-garrison",)


def test_nothing_of_a_keyless_server_is_called() -> None:
    with Served(key=b"") as served, served.connect() as client:
        stock = client.dict("stock")
        plain = [(1, 2), frozenset("a"), 2j, Decimal(1), {"a": (1,)}]
        for number, value in enumerate(plain):
            stock[number] = value
        assert [stock[number] for number in range(4)] == plain[:4]
        assert stock[4]["a"] == (1,)
        stock["loot"] = Loot()
        with pytest.raises(ValueUnreadable, match=r"mkdir.*start the server with a key"):
            stock["loot"]
        assert not os.path.exists("/tmp/never-made-by-a-test-of-garrison")  # noqa: PTH110
        with garrison.connect(served.address) as found:
            assert found.dict("stock")[0] == (1, 2)
