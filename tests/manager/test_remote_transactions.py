"""Transactions and queues used from another machine."""

from __future__ import annotations

import os
import queue
import threading
from typing import Any

import pytest

import garrison
from garrison.errors import ClaimLost, DeadlockError, TransactionFailed
from garrison.manager.server._store_service import StoreService
from garrison.net import Limits
from waiting import wait_until

from . import processes
from .processes import KEY, RemoteProcess, break_connections, thread

# -- transactions ---------------------------------------------------------------------------------


def test_requests_that_arrive_together_are_one_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = garrison.SimpleQueue()
    run = StoreService._run_batch_in_one_transaction

    def count(service: StoreService, session: Any, batch: list[Any]) -> bool:
        done = run(service, session, batch)
        batches.put(len(batch) if done else 0)
        return done

    monkeypatch.setattr(StoreService, "_run_batch_in_one_transaction", count)
    with (
        garrison.get_context("fork").Manager(("127.0.0.1", 0), key=KEY) as server,
        garrison.connect(server.address, KEY, direct=False) as client,
    ):
        shared = client.dict()
        with client.pipeline() as pipeline:
            later = pipeline(shared)
            for number in range(100):
                later[number] = number
        assert shared == {number: number for number in range(100)}
    sizes = [batches.get() for _ in range(batches.qsize())]
    assert sum(sizes) > 50, sizes  # read in one piece, or in a few


def test_remote_transaction_is_all_or_nothing(local_manager: Any, client: Any) -> None:
    local, remote, items = (
        local_manager.dict("stock", a=1),
        client.dict("stock"),
        client.list(name="items"),
    )
    with pytest.raises(ZeroDivisionError), client.transaction():
        remote["a"] = 2
        items.append(client.dict(inner=1))
        assert (remote["a"], local["a"], len(items)) == (2, 1, 1)
        1 / 0  # noqa: B018
    assert (remote, items) == ({"a": 1}, [])
    with client.transaction():
        remote["a"] = 2
        items.append({"b": 3})
        assert local == {"a": 1}
    assert (local, items) == ({"a": 2}, [{"b": 3}])


def test_remote_transaction_belongs_to_its_thread(
    local_manager: Any, client: Any, other: RemoteProcess
) -> None:
    remote = client.dict("stock", a=1)
    other.do(processes.get, "dict", "stock")
    with client.transaction():
        remote["a"] = 2
        seen: list[int] = []
        with thread(lambda: seen.append(remote["a"])):
            pass
        assert (seen, other.do(processes.call, "get", "a")) == ([1], 1)
        other.begin(processes.call, "__setitem__", "a", 5)
        writer = threading.Thread(target=remote.__setitem__, args=("b", 7))
        writer.start()
        assert remote == {"a": 2}
    writer.join()
    other.result()
    assert remote == local_manager.dict("stock") == {"a": 5, "b": 7}


def test_local_and_remote_transactions_exclude_each_other(local_manager: Any, client: Any) -> None:
    local, remote = local_manager.dict("stock", a=1), client.dict("stock")
    with local_manager.transaction():
        local["a"] = 2
        for wait in (0, 0.05):
            with pytest.raises(TimeoutError), client.transaction(wait):
                pytest.fail("two transactions at once")
        assert remote["a"] == 1
    with client.transaction():
        remote["a"] += 1
        for wait in (0, 0.05):
            with pytest.raises(TimeoutError), local_manager.transaction(wait):
                pytest.fail("two transactions at once")
    assert local["a"] == 3


def test_many_local_and_remote_transactions_lose_nothing(
    local_manager: Any, client: Any, other: RemoteProcess
) -> None:
    local, remote = local_manager.dict("stock", a=0, b=0), client.dict("stock")
    other.do(processes.get, "dict", "stock")
    other.begin(move, 30)

    def here() -> None:
        for _ in range(30):
            with client.transaction():
                remote["a"] += 1
                remote["b"] -= 1

    with thread(here), thread(here):
        for _ in range(30):
            with local_manager.transaction():
                local["a"] += 1
                local["b"] -= 1
    other.result()
    assert local == {"a": 120, "b": -120}


def move(state: Any, times: int) -> None:
    for _ in range(times):
        with state.client.transaction():
            state.thing["a"] += 1
            state.thing["b"] -= 1


def begin_and_write(state: Any) -> None:
    state.client.store.backend.begin()
    state.thing["a"] = "never"


def test_transaction_of_a_killed_client_is_undone(
    local_manager: Any, client: Any, other: RemoteProcess
) -> None:
    remote = client.dict("stock", a=1)
    other.do(processes.get, "dict", "stock")
    other.do(begin_and_write)
    with thread(lambda: remote.__setitem__("b", 2)):
        other.kill()
    assert remote == local_manager.dict("stock") == {"a": 1, "b": 2}


def test_a_busy_transaction_is_undone_when_it_has_lasted_too_long() -> None:
    limits = Limits(max_transaction_s=0.3)
    undone = pytest.raises(TransactionFailed, match=r"undone: it has lasted for 0\.3 s")
    with (
        garrison.Manager(("127.0.0.1", 0), key=KEY, limits=limits) as server,
        garrison.connect(server.address, KEY, direct=False) as client,
    ):
        shared = client.dict(a=1)
        with undone, client.transaction():
            shared["a"] = 2
            while shared["a"] == 2:
                pass
        assert shared == {"a": 1}
        shared["a"] = 3
        with client.transaction():
            shared["a"] += 1
        assert shared == {"a": 4}


def test_an_idle_transaction_is_undone(local_manager: Any, client: Any) -> None:
    local, remote = local_manager.dict("stock", a=1), client.dict("stock")
    undone = pytest.raises(TransactionFailed, match=r"undone: nothing was done in it for 0\.5 s")
    with undone, client.transaction():
        remote["a"] = 2
        local["b"] = 3  # waits for it
        remote["a"] = 4
    assert remote == {"a": 1, "b": 3}
    with client.transaction():
        remote["a"] = 5
    assert local["a"] == 5
    with pytest.raises(TransactionFailed), client.transaction():
        remote["a"] = 6
        local["b"] = 7
    assert local == {"a": 5, "b": 7}


def test_transaction_is_undone_with_its_connection(client: Any) -> None:
    remote = client.dict("stock", a=1)
    undone = pytest.raises(garrison.ManagerLost, match="nothing of it was done")
    with undone, client.transaction():
        remote["a"] = 2
        break_connections(client.address)
        remote["a"] = 3
    assert remote == {"a": 1}
    with client.transaction():
        remote["a"] = 4
    assert remote == {"a": 4}


def test_transaction_is_not_inherited_by_a_forked_child(client: Any) -> None:
    remote = client.dict("stock", a=1)
    with client.transaction():
        remote["a"] = 2
        pid = os.fork()
        if pid == 0:
            ok = not client.store.backend.in_transaction and remote["a"] == 1
            os._exit(0 if ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert remote == {"a": 2}


# -- queues ---------------------------------------------------------------------------------------


def test_queue_wakes_local_and_remote_waiters(local_manager: Any, client: Any) -> None:
    local, remote = local_manager.Queue("jobs", 1), client.Queue("jobs")
    got: list[Any] = []
    for taker, giver in ((remote, local), (local, remote), (remote, remote)):
        with thread(lambda taker=taker: got.append(taker.get(timeout=20))):  # type: ignore[misc]
            giver.put("job")
    assert got == ["job"] * 3
    for full, taker in ((remote, local), (local, remote)):
        full.put(1)
        with thread(lambda full=full: full.put(2, timeout=20)):  # type: ignore[misc]
            assert [taker.get(timeout=20), taker.get(timeout=20)] == [1, 2]


def test_remote_queue_keeps_its_timeouts(local_manager: Any, client: Any) -> None:
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
        local_manager.JoinableQueue("jobs").get()
        local_manager.JoinableQueue("jobs").task_done()
    with client.transaction(), pytest.raises(DeadlockError):
        jobs.get()


def claim(state: Any, _: Any = None) -> Any:
    state.claimed = state.thing.claim()
    return state.claimed.__enter__()


def test_claims_of_a_killed_client_are_returned(
    local_manager: Any, client: Any, other: RemoteProcess
) -> None:
    remote, local = client.Queue("jobs"), local_manager.Queue("jobs")
    remote.put_many([1, 2, 3])
    other.do(processes.get, "Queue", "jobs")
    assert other.do(claim) == 1
    with remote.claim() as mine:
        assert mine == 2
        other.kill()
        wait_until(lambda: remote.qsize() == 2)
        assert local.get() == 1
    assert local.get_many(5) == [3]


def test_claim_of_a_living_client_is_kept(client: Any) -> None:
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
        break_connections(client.address)
        assert jobs.get(timeout=20) == 1


def test_interrupted_get_takes_no_item(
    local_manager: Any, client: Any, other: RemoteProcess
) -> None:
    jobs = local_manager.Queue("jobs")
    other.do(processes.get, "Queue", "jobs")
    for method in ("get", "claim"):
        other.begin(claim) if method == "claim" else other.begin(processes.call, "get")
        wait_until(lambda: client.store.backend.ask("waiter_count")[0] == 1)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        jobs.put(1)
        assert jobs.get(timeout=20) == 1
