"""Transactions from afar, and queues."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.errors import ClaimLost, DeadlockError, TransactionFailed
from garrison.net._limits import Limits

from . import afar
from .afar import KEY, Actor, thread, until

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
    kept.client.store.backend.begin()
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
    undone = pytest.raises(TransactionFailed, match=r"undone: nothing was done in it for 0\.5 s")
    with undone, client.transaction():
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
    undone = pytest.raises(garrison.ManagerLost, match="nothing of it was done")
    with undone, client.transaction():
        far["a"] = 2
        client.store.backend.transaction_connection.connection._link.close("it was cut")
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
            ok = not client.store.backend.in_transaction and far["a"] == 1
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
    # Longer than the server takes between two looks for the dead.
    with jobs.claim(), pytest.raises(queue.Empty):
        jobs.get(timeout=2.5)
    assert jobs.empty()


def test_a_claim_is_lost_with_its_connection(client: Any) -> None:
    jobs = client.Queue("jobs")
    jobs.put(1)
    with pytest.raises(ClaimLost), jobs.claim():
        client._lock_client.connection._link.close("it was cut")
        assert jobs.get(timeout=20) == 1


def test_an_interrupted_get_takes_nothing(home: Any, client: Any, other: Actor) -> None:
    jobs = home.Queue("jobs")
    other.do(afar.get, "Queue", "jobs")
    for method in ("get", "claim"):
        other.begin(claim) if method == "claim" else other.begin(afar.call, "get")
        until(lambda: client.store.backend.ask("waiter_count")[0] == 1)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        jobs.put(1)
        assert jobs.get(timeout=20) == 1
