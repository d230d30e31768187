"""Containers from afar: the same for everybody, in transactions, through queues, of any kind."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import garrison
from garrison.errors import (
    ClaimLost,
    ContainerGone,
    DeadlockError,
    TransactionFailed,
    ValueUnreadable,
    WrongKind,
)
from garrison.manager._limits import Limits

from . import afar
from .afar import KEY, Actor, Served, thread, until

FAST = Limits(idle_transaction=0.5, away=0.3)


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
    assert not client.store.is_home
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


# -- transactions ---------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(home: Any, client: Any) -> None:
    near, far, items = home.dict("stock", a=1), client.dict("stock"), client.list(name="items")
    with pytest.raises(ZeroDivisionError), client.transaction():
        far["a"] = 2
        items.append(client.dict(inner=1))
        assert (far["a"], near["a"], len(items)) == (2, 1, 1)
        1 / 0  # noqa: B018
    assert (far, items) == ({"a": 1}, [])
    with client.transaction():
        far["a"] = 2
        items.append({"b": 3})
        assert near == {"a": 1}
    assert (near, items) == ({"a": 2}, [{"b": 3}])


def test_a_transaction_is_its_threads(home: Any, client: Any, other: Actor) -> None:
    far = client.dict("stock", a=1)
    other.do(afar.get, "dict", "stock")
    with client.transaction():
        far["a"] = 2
        seen: list[int] = []
        with thread(lambda: seen.append(far["a"])):
            pass
        assert (seen, other.do(afar.call, "get", "a")) == ([1], 1)
        other.begin(afar.call, "__setitem__", "a", 5)
        writer = threading.Thread(target=far.__setitem__, args=("b", 7))
        writer.start()
        assert far == {"a": 2}
    writer.join()
    other.result()
    assert far == home.dict("stock") == {"a": 5, "b": 7}


def test_home_and_remote_transactions_exclude_each_other(home: Any, client: Any) -> None:
    near, far = home.dict("stock", a=1), client.dict("stock")
    with home.transaction():
        near["a"] = 2
        for wait in (0, 0.05):
            with pytest.raises(TimeoutError), client.transaction(wait):
                pytest.fail("two transactions at once")
        assert far["a"] == 1
    with client.transaction():
        far["a"] += 1
        for wait in (0, 0.05):
            with pytest.raises(TimeoutError), home.transaction(wait):
                pytest.fail("two transactions at once")
    assert near["a"] == 3


def test_many_transactions_at_once(home: Any, client: Any, other: Actor) -> None:
    near, far = home.dict("stock", a=0, b=0), client.dict("stock")
    other.do(afar.get, "dict", "stock")
    other.begin(move, 30)

    def here() -> None:
        for _ in range(30):
            with client.transaction():
                far["a"] += 1
                far["b"] -= 1

    with thread(here), thread(here):
        for _ in range(30):
            with home.transaction():
                near["a"] += 1
                near["b"] -= 1
    other.result()
    assert near == {"a": 120, "b": -120}


def move(kept: Any, times: int) -> None:
    for _ in range(times):
        with kept.client.transaction():
            kept.thing["a"] += 1
            kept.thing["b"] -= 1


def begin_and_write(kept: Any) -> None:
    kept.client.store.engine.begin()
    kept.thing["a"] = "never"


def test_a_transaction_dies_with_its_client(home: Any, client: Any, other: Actor) -> None:
    far = client.dict("stock", a=1)
    other.do(afar.get, "dict", "stock")
    other.do(begin_and_write)
    with thread(lambda: far.__setitem__("b", 2)):
        other.kill()
    assert far == home.dict("stock") == {"a": 1, "b": 2}


def test_an_idle_transaction_is_undone(home: Any, client: Any) -> None:
    near, far = home.dict("stock", a=1), client.dict("stock")
    with pytest.raises(TransactionFailed, match=r"undone: nothing was done in it for 0\.5 s"):
        with client.transaction():
            far["a"] = 2
            near["b"] = 3  # waits for it
            far["a"] = 4
    assert far == {"a": 1, "b": 3}
    with client.transaction():
        far["a"] = 5
    assert near["a"] == 5
    with pytest.raises(TransactionFailed), client.transaction():
        far["a"] = 6
        near["b"] = 7
    assert near == {"a": 5, "b": 7}


def test_a_broken_transaction_is_undone(client: Any) -> None:
    far = client.dict("stock", a=1)
    with pytest.raises(garrison.ManagerLost, match="nothing of it was done"):
        with client.transaction():
            far["a"] = 2
            client.store.engine._local.own.connection._link.close("it was cut")
            far["a"] = 3
    assert far == {"a": 1}
    with client.transaction():
        far["a"] = 4
    assert far == {"a": 4}


def test_a_transaction_is_not_a_forked_childs(client: Any) -> None:
    far = client.dict("stock", a=1)
    with client.transaction():
        far["a"] = 2
        pid = os.fork()
        if pid == 0:
            ok = not client.store.engine.in_transaction and far["a"] == 1
            os._exit(0 if ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert far == {"a": 2}


# -- queues ---------------------------------------------------------------------------------------


def test_a_queue_wakes_who_waits_wherever_he_is(home: Any, client: Any) -> None:
    near, far = home.Queue("jobs", 1), client.Queue("jobs")
    got: list[Any] = []
    for taker, giver in ((far, near), (near, far), (far, far)):
        with thread(lambda taker=taker: got.append(taker.get(timeout=20))):  # type: ignore[misc]
            giver.put("job")
    assert got == ["job"] * 3
    for full, taker in ((far, near), (near, far)):
        full.put(1)
        with thread(lambda full=full: full.put(2, timeout=20)):  # type: ignore[misc]
            assert [taker.get(timeout=20), taker.get(timeout=20)] == [1, 2]


def test_timeouts_of_a_queue(home: Any, client: Any) -> None:
    jobs = client.JoinableQueue("jobs", 1)
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0.02)
    with pytest.raises(queue.Empty):
        jobs.get_nowait()
    jobs.put(1)
    with pytest.raises(queue.Full):
        jobs.put(2, timeout=0.02)
    with pytest.raises(TimeoutError):
        jobs.join(timeout=0.02)
    with thread(jobs.join):
        home.JoinableQueue("jobs").get()
        home.JoinableQueue("jobs").task_done()
    with client.transaction(), pytest.raises(DeadlockError):
        jobs.get()


def claim(kept: Any, _: Any = None) -> Any:
    kept.claimed = kept.thing.claim()
    return kept.claimed.__enter__()


def test_claims_of_a_killed_client_come_back(home: Any, client: Any, other: Actor) -> None:
    far, near = client.Queue("jobs"), home.Queue("jobs")
    far.put_many([1, 2, 3])
    other.do(afar.get, "Queue", "jobs")
    assert other.do(claim) == 1
    with far.claim() as mine:
        assert mine == 2
        other.kill()
        until(lambda: far.qsize() == 2)
        assert near.get() == 1
    assert near.get_many(5) == [3]


def test_a_claim_of_a_living_client_stays(client: Any) -> None:
    jobs = client.Queue("jobs")
    jobs.put(1)
    with jobs.claim():
        # Longer than the server takes between two looks for the dead.
        with pytest.raises(queue.Empty):
            jobs.get(timeout=2.5)
    assert jobs.empty()


def test_a_claim_is_lost_with_its_connection(client: Any) -> None:
    jobs = client.Queue("jobs")
    jobs.put(1)
    with pytest.raises(ClaimLost), jobs.claim():
        client._lender.connection._link.close("it was cut")
        assert jobs.get(timeout=20) == 1


def test_an_interrupted_get_takes_nothing(home: Any, client: Any, other: Actor) -> None:
    jobs = home.Queue("jobs")
    other.do(afar.get, "Queue", "jobs")
    for method in ("get", "claim"):
        other.begin(claim) if method == "claim" else other.begin(afar.call, "get")
        until(lambda: client.store.engine.ask("waiting")[0] == 1)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        jobs.put(1)
        assert jobs.get(timeout=20) == 1


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
        with pytest.raises(ValueUnreadable, match="mkdir.*start the server with a key"):
            stock["loot"]
        assert not os.path.exists("/tmp/never-made-by-a-test-of-garrison")  # noqa: PTH110
        with garrison.connect(served.address) as found:
            assert found.dict("stock")[0] == (1, 2)
