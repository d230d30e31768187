"""Locks of a server: between processes, and after deaths and broken connections."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import managers
from garrison.errors import LeaseLost, NotHeld, WrongKind
from garrison.managers import RemoteError
from garrison.net import Verb
from garrison.net._limits import Limits
from waiting import wait_until

from . import processes
from .processes import (
    RemoteProcess,
    ServerProcess,
    break_connections,
    connection_to,
    remote_process_at,
    thread,
    wait_for_waiters,
)

LOCKS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"]


# -- between processes ----------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(limits=Limits(reconnect_grace_s=0.2)) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    with server.connect() as connected:
        yield connected


@pytest.mark.parametrize("kind", LOCKS)
def test_lock_passes_from_client_to_client(server: ServerProcess, client: Any, kind: str) -> None:
    with remote_process_at(server, kind, "door") as other:
        mine = getattr(client, kind)("door")
        assert mine.acquire()
        assert not other.do(processes.call, "acquire", False)
        assert not other.do(processes.call, "acquire", True, 0.02)
        other.begin(processes.call, "acquire")
        wait_for_waiters(getattr(mine, "_lock", mine))
        mine.release()
        assert other.result()
        assert not mine.acquire(timeout=0)
        assert other.do(processes.get_attribute, "fence") > mine.fence > 0
        other.do(processes.call, "release")
        with mine:
            assert not other.do(processes.call, "acquire", False)


@pytest.mark.parametrize("kind", LOCKS)
def test_leases_and_waits_of_a_killed_client_end(
    server: ServerProcess, client: Any, kind: str
) -> None:
    mine = getattr(client, kind)("door")
    with (
        remote_process_at(server, kind, "door") as holder,
        remote_process_at(server, kind, "door") as waiter,
    ):
        assert holder.do(processes.call, "acquire")
        waiter.begin(processes.call, "acquire")
        wait_for_waiters(getattr(mine, "_lock", mine))
        with thread(mine.acquire):
            wait_for_waiters(getattr(mine, "_lock", mine), 2)
            waiter.kill()
            wait_for_waiters(getattr(mine, "_lock", mine), 1)
            assert mine.fence == 0
            holder.kill()
        assert mine.fence > 0


def test_remote_lock_is_released_by_another_thread(client: Any) -> None:
    door = client.Lock("door")
    door.acquire()
    with thread(door.release):
        pass
    assert door.acquire(False)
    assert door.locked()
    door.release()
    assert not door.locked()
    with pytest.raises(NotHeld, match="too many"):
        door.release()


def test_remote_lock_is_released_by_another_process(server: ServerProcess, client: Any) -> None:
    door = client.Lock("door")
    door.acquire()
    with remote_process_at(server, "Lock", "door") as other:
        other.do(processes.call, "release")
        assert other.do(processes.call, "acquire", False)
        with pytest.raises(LeaseLost, match="has expired"):
            door.release()


def test_remote_rlock_is_released_by_its_owner_only(server: ServerProcess, client: Any) -> None:
    door = client.RLock("door")
    door.acquire()
    door.acquire()
    with pytest.raises(NotHeld, match="this thread"), thread(client.RLock("door").release):
        pass
    with remote_process_at(server, "RLock", "door") as other:
        with pytest.raises(NotHeld):
            other.do(processes.call, "release")
        door.release()
        assert not other.do(processes.call, "acquire", False)
        door.release()
        assert other.do(processes.call, "acquire", False)


def test_semaphore_counts_permits_of_all_clients(server: ServerProcess, client: Any) -> None:
    seats = client.Semaphore("seats", 2)
    with remote_process_at(server, "Semaphore", "seats", 99) as other:
        assert other.do(processes.call, "acquire", False)
        assert seats.acquire(False)
        assert not other.do(processes.call, "acquire", False)
        assert seats.get_value() == 0
    wait_until(lambda: seats.get_value() == 1)
    seats.release()
    seats.release()
    assert seats.get_value() == 3
    with pytest.raises(ValueError, match="-1"):
        client.Semaphore(-1)
    few = client.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="too many"):
        few.release()


def test_event_is_shared_by_all_clients(server: ServerProcess, client: Any) -> None:
    start = client.Event("start")
    assert not start.wait(0.02)
    with remote_process_at(server, "Event", "start") as other:
        other.begin(processes.call, "wait")
        wait_for_waiters(start)
        start.set()
        assert other.result() is True
        assert other.do(processes.call, "is_set")
        other.do(processes.call, "clear")
    assert not start.is_set()


def wait_at(state: Any, timeout: float | None = None) -> Any:
    with state.thing:
        return state.thing.wait(timeout)


def test_condition_notifies_other_processes(server: ServerProcess, client: Any) -> None:
    news = client.Condition("news")
    with (
        remote_process_at(server, "Condition", "news") as one,
        remote_process_at(server, "Condition", "news") as two,
    ):
        assert one.do(wait_at, 0.02) is False
        one.begin(wait_at)
        wait_for_waiters(news)
        two.begin(wait_at)
        wait_for_waiters(news, 2)
        with news:
            news.notify()
        assert one.result() is True
        assert not two.has_answered()
        with news:
            news.notify_all()
        assert two.result() is True
        with pytest.raises(RuntimeError, match="un-acquired"):
            news.notify()
        with pytest.raises(RuntimeError, match="un-acquired"):
            news.wait()


def test_a_condition_waits_for_a_predicate(server: ServerProcess, client: Any) -> None:
    news = client.Condition()
    count: list[int] = []

    def tell() -> None:
        for _ in range(3):
            with news:
                count.append(1)
                news.notify()

    with news:
        assert news.wait_for(lambda: False, 0.02) is False
        with thread(tell):
            assert news.wait_for(lambda: len(count) == 3, 20)
        news.acquire()
        assert news.wait(0.01) is False  # as often as it was taken, it is given up and had again
        news.release()
    with pytest.raises(NotHeld):
        news.release()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_condition_uses_the_given_remote_lock(client: Any, kind: str) -> None:
    door = getattr(client, kind)()
    news = client.Condition(door)
    had: list[bool] = []
    with news:
        with thread(lambda: had.append(door.acquire(False))):
            pass
        assert had == [False]
        assert not news.wait(0.01)
    assert door.acquire(False)
    with pytest.raises(NotHeld), thread(news.notify):
        pass
    door.release()


def test_a_killed_waiter_of_a_condition_is_not_notified(server: ServerProcess, client: Any) -> None:
    news = client.Condition("news")
    with (
        remote_process_at(server, "Condition", "news") as dead,
        remote_process_at(server, "Condition", "news") as one,
    ):
        dead.begin(wait_at)
        wait_for_waiters(news)
        one.begin(wait_at)
        wait_for_waiters(news, 2)
        dead.kill()
        wait_for_waiters(news, 1)
        with news:
            news.notify()
        assert one.result() is True


def meet(state: Any, address: Any, parties: int, told: Any = None, timeout: Any = None) -> Any:
    processes.connect(state, address)
    action = (lambda: Path(told).write_text("acted")) if told else None
    state.thing = state.client.Barrier(parties, action, name="gate")
    return state.thing.wait(timeout)


def test_barrier_joins_processes(server: ServerProcess, client: Any, tmp_path: Path) -> None:
    with RemoteProcess() as one, RemoteProcess() as two:
        told = tmp_path / "told"
        one.begin(meet, server.address, 3, str(told))
        two.begin(meet, server.address, 3)
        gate = client.Barrier(3, name="gate")
        assert gate.parties == 3
        wait_until(lambda: gate.n_waiting == 2)
        assert not told.exists()
        places = {gate.wait(), one.result(), two.result()}
        assert places == {0, 1, 2}
        assert told.read_text() == "acted"
        assert not gate.broken


def test_barrier_breaks_when_its_action_raises(client: Any) -> None:
    def act() -> None:
        raise ZeroDivisionError

    gate = client.Barrier(2, act)

    def wait() -> None:
        with pytest.raises((ZeroDivisionError, threading.BrokenBarrierError)):
            gate.wait()

    with thread(wait):
        wait()
    assert gate.broken
    gate.reset()
    assert not gate.broken
    with pytest.raises(threading.BrokenBarrierError):
        gate.wait(0.02)
    with pytest.raises(ValueError, match="one party"):
        client.Barrier(0)


def test_barrier_breaks_when_a_party_is_killed(server: ServerProcess, client: Any) -> None:
    gate = client.Barrier(3, name="gate")
    with RemoteProcess() as one, RemoteProcess() as two:
        one.begin(meet, server.address, 3)
        two.begin(meet, server.address, 3)
        wait_until(lambda: gate.n_waiting == 2)
        one.kill()
        with pytest.raises(threading.BrokenBarrierError):
            two.result()
        with pytest.raises(threading.BrokenBarrierError):
            gate.wait()


# -- interrupts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_interrupted_acquire_leaves_the_lock_free(
    server: ServerProcess, client: Any, kind: str
) -> None:
    door = getattr(client, kind)("door")
    door.acquire()
    with remote_process_at(server, kind, "door") as other:
        other.begin(processes.call, "acquire")
        wait_for_waiters(door)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        wait_for_waiters(door, 0)
        door.release()
        assert door.acquire(False)
        door.release()
        assert other.do(processes.call, "acquire", False)


def acquire_while_interrupted(state: Any, rounds: int) -> int:
    """Be interrupted at any moment of an acquire; what is had is given back."""
    number = 0

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    for turn in range(rounds):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + turn % 40 * 0.00001)
            had = False
            had = state.thing.acquire()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            number += 1
            # The return of acquire itself may have been interrupted: then it is known to be had.
            had = had or bool(state.thing._fences)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if had:
            # Open: rarely the loan has been undone, and its number is still in the list.
            with contextlib.suppress(NotHeld):
                state.thing.release()
    return number


def test_interrupts_at_any_moment_leave_no_lease(server: ServerProcess, client: Any) -> None:
    with remote_process_at(server, "Lock", "door") as other:
        interrupted = other.do(acquire_while_interrupted, 400)
        assert interrupted > 0
        assert client.Lock("door").acquire(timeout=5)


def wait_and_be_interrupted(state: Any) -> bool:
    with pytest.raises(KeyboardInterrupt), state.thing:
        state.thing.wait()
    return bool(state.thing.acquire(False))


def test_interrupted_wait_holds_its_lock_again(server: ServerProcess, client: Any) -> None:
    news = client.Condition("news")
    with remote_process_at(server, "Condition", "news") as other:
        other.begin(wait_and_be_interrupted)
        wait_for_waiters(news)
        news.acquire()
        other.interrupt()
        wait_for_waiters(news, 0)
        assert not other.has_answered()
        news.release()
        assert other.result() is True


def test_interrupted_wait_for_an_event_ends(server: ServerProcess, client: Any) -> None:
    start = client.Event("start")
    with remote_process_at(server, "Event", "start") as other:
        other.begin(processes.call, "wait")
        wait_for_waiters(start)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        wait_for_waiters(start, 0)


# -- broken connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lease_is_lost_with_its_connection(client: Any, caplog: Any, kind: str) -> None:
    door = getattr(client, kind)("door")
    door.acquire()
    break_connections(client.address)
    with pytest.raises(LeaseLost, match="has expired"):
        door.release()
    assert "reconnected" in caplog.text
    assert door.acquire(False)
    door.release()
    if kind in {"RLock", "Condition"}:
        door.acquire()
        door.acquire()
        break_connections(client.address)
        for _ in range(2):
            with pytest.raises(LeaseLost):
                door.release()
        assert door.acquire(False)
        door.release()


def test_lease_granted_to_another_client_is_not_released(
    server: ServerProcess, client: Any
) -> None:
    door, seats = client.Lock("door"), client.Semaphore("seats", 1)
    door.acquire()
    seats.acquire()
    break_connections(client.address)
    client.dict("reconnect")
    with server.connect() as _, remote_process_at(server, "Lock", "door") as other:
        assert other.do(processes.call, "acquire", False)
        with pytest.raises(LeaseLost):
            door.release()
        assert not door.acquire(False)
        with pytest.raises(LeaseLost):
            seats.release()
        assert seats.get_value() == 1


def test_a_condition_is_lost_with_its_connection(client: Any) -> None:
    news = client.Condition("news")
    for act in (news.notify, news.wait):
        news.acquire()
        break_connections(client.address)
        with pytest.raises(LeaseLost):
            act()
        with pytest.raises(LeaseLost):
            news.release()


def test_waiters_go_on_waiting_after_a_reconnection(server: ServerProcess, client: Any) -> None:
    door, start = client.Lock("door"), client.Event("start")
    with remote_process_at(server, "Lock", "door") as other, server.connect() as third:
        other.do(processes.call, "acquire")
        with thread(door.acquire), thread(start.wait):
            watched, signalled = third.Lock("door"), third.Event("start")
            wait_for_waiters(watched)
            wait_for_waiters(signalled)
            break_connections(client.address)
            wait_for_waiters(watched)
            wait_for_waiters(signalled)
            other.do(processes.call, "release")
            signalled.set()
        assert door.fence > 0


def test_fences_grow_over_a_restart(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.connect() as client:
        door, waiting = client.Lock("door"), client.Lock("other")
        door.acquire()
        before = door.fence
        waiting.acquire()
        with thread(lambda: client.Lock("other").acquire()):
            wait_for_waiters(waiting)
            server.restart()
            with pytest.raises(LeaseLost):
                door.release()
        assert door.acquire(False)
        assert door.fence > before
        assert not waiting.acquire(False)


def test_stopping_server_does_not_wait_for_waiters(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.connect() as client:
        door = client.Lock("door")
        door.acquire()
        with remote_process_at(server, "Lock", "door") as other:
            other.begin(processes.call, "acquire")
            wait_for_waiters(door)
            server.restart(signal.SIGTERM)
            assert other.result() is True


# -- names, and what has none ---------------------------------------------------------------------


def test_name_has_one_kind_of_lock(client: Any) -> None:
    client.Lock("door")
    for kind in ("RLock", "Semaphore", "Event", "Condition"):
        with pytest.raises(WrongKind, match=f"'door' is a Lock .*not a {kind}"):
            getattr(client, kind)("door")
    client.Condition("news")
    own = client.RLock()
    from garrison.manager.client._remote_locks import RemoteCondition

    with pytest.raises(WrongKind, match="has the lock 'news/lock'"):
        RemoteCondition(client._lock_client, "news", lock=own)


def test_remote_locks_are_proxies_of_the_standard_library(client: Any) -> None:
    acquirers = ("Lock", "RLock", "Semaphore", "BoundedSemaphore")
    kinds = {**dict.fromkeys(acquirers, "Acquirer"), "Condition": "Condition", "Event": "Event"}
    things = {name: (getattr(client, name)(f"a {name}"), kinds[name]) for name in kinds}
    things["Barrier"] = client.Barrier(1, name="a Barrier"), "Barrier"
    for name, (thing, kind) in things.items():
        for module in (importlib.import_module("multiprocessing.managers"), managers):
            assert isinstance(thing, getattr(module, f"{kind}Proxy"))
        assert (thing._token.typeid, thing._id) == (name, f"a {name}")
        assert str(thing) == repr(thing)
        with pytest.raises(RemoteError, match="'nothing'"):
            thing._callmethod("nothing")
        with pytest.raises(RemoteError, match="cannot pickle"):
            copy.deepcopy(thing)
    assert things["Lock"][0]._callmethod("acquire", (False,)) is True
    assert things["Event"][0]._callmethod("is_set") is False
    assert things["Barrier"][0]._callmethod("__getattribute__", ("parties",)) == 1


def number_of_locks(client: Any) -> int:
    found: int = connection_to(client.address).ask(Verb.LEASE, "count", "")[0]
    return found


def test_unnamed_lock_is_freed_with_its_last_user(server: ServerProcess, client: Any) -> None:
    with remote_process_at(server, "Lock") as other:
        door = client.Lock()
        door.acquire()
        again = pickle.loads(pickle.dumps(door))
        assert not again.acquire(False)
        assert number_of_locks(client) == 2
        del door
        assert number_of_locks(client) == 2
        again.release()
        del again
        gc.collect()
        wait_until(lambda: number_of_locks(client) == 1)
        other.kill()
        wait_until(lambda: number_of_locks(client) == 0)


def take(lock: Any, done: Any) -> None:
    done.put((lock.acquire(False), lock.acquire(timeout=20)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_unnamed_lock_is_sent_to_a_child(client: Any, method: str) -> None:
    context = garrison.get_context(method)
    door, done = client.Lock(), context.Queue()
    door.acquire()
    child = context.Process(target=take, args=(door, done))
    child.start()
    wait_for_waiters(door)
    door.release()
    del door  # as soon as it can be had there
    assert done.get(timeout=20) == (False, True)
    child.join()


def test_local_and_remote_names_are_one_lock() -> None:
    key = os.urandom(32)
    with (
        garrison.Manager(("127.0.0.1", 0), key=key) as local_manager,
        garrison.connect(local_manager.address, key, direct=False) as client,
    ):
        local, remote = local_manager.Lock("door"), client.Lock("door")
        local.acquire()
        assert not remote.acquire(False)
        with thread(remote.acquire):
            wait_for_waiters(local)
            local.release()
        assert not local.acquire(False)
        assert isinstance(local_manager.Lock(), garrison.Lock)
