"""Locks that a server lends, between processes, and when somebody dies or is cut off."""

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
from garrison.net._limits import Limits

from . import afar
from .afar import Actor, Served, actor_at, thread, until, until_waiting

LOCKS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"]


# -- between processes ----------------------------------------------------------------------------


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(limits=Limits(reconnect_grace_s=0.2)) as running:
        yield running


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with served.connect() as connected:
        yield connected


def cut(client: Any) -> None:
    """Break the connection of a client, as if the network had."""
    client._lock_client.connection._link.close("it was cut")


@pytest.mark.parametrize("kind", LOCKS)
def test_one_after_the_other(served: Served, client: Any, kind: str) -> None:
    with actor_at(served, kind, "door") as other:
        mine = getattr(client, kind)("door")
        assert mine.acquire()
        assert not other.do(afar.call, "acquire", False)
        assert not other.do(afar.call, "acquire", True, 0.02)
        other.begin(afar.call, "acquire")
        until_waiting(getattr(mine, "_lock", mine))
        mine.release()
        assert other.result()
        assert not mine.acquire(timeout=0)
        assert other.do(afar.look, "fence") > mine.fence > 0
        other.do(afar.call, "release")
        with mine:
            assert not other.do(afar.call, "acquire", False)


@pytest.mark.parametrize("kind", LOCKS)
def test_a_killed_client_has_nothing(served: Served, client: Any, kind: str) -> None:
    mine = getattr(client, kind)("door")
    with actor_at(served, kind, "door") as holder, actor_at(served, kind, "door") as waiter:
        assert holder.do(afar.call, "acquire")
        waiter.begin(afar.call, "acquire")
        until_waiting(getattr(mine, "_lock", mine))
        with thread(mine.acquire):
            until_waiting(getattr(mine, "_lock", mine), 2)
            waiter.kill()
            until_waiting(getattr(mine, "_lock", mine), 1)
            assert mine.fence == 0
            holder.kill()
        assert mine.fence > 0


def test_a_lock_is_released_by_another_thread(client: Any) -> None:
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


def test_a_lock_is_released_by_another_process(served: Served, client: Any) -> None:
    door = client.Lock("door")
    door.acquire()
    with actor_at(served, "Lock", "door") as other:
        other.do(afar.call, "release")
        assert other.do(afar.call, "acquire", False)
        with pytest.raises(LeaseLost, match="has expired"):
            door.release()


def test_an_rlock_is_not_released_by_another(served: Served, client: Any) -> None:
    door = client.RLock("door")
    door.acquire()
    door.acquire()
    with pytest.raises(NotHeld, match="this thread"), thread(client.RLock("door").release):
        pass
    with actor_at(served, "RLock", "door") as other:
        with pytest.raises(NotHeld):
            other.do(afar.call, "release")
        door.release()
        assert not other.do(afar.call, "acquire", False)
        door.release()
        assert other.do(afar.call, "acquire", False)


def test_permits_are_counted_for_all(served: Served, client: Any) -> None:
    seats = client.Semaphore("seats", 2)
    with actor_at(served, "Semaphore", "seats", 99) as other:
        assert other.do(afar.call, "acquire", False)
        assert seats.acquire(False)
        assert not other.do(afar.call, "acquire", False)
        assert seats.get_value() == 0
    until(lambda: seats.get_value() == 1)
    seats.release()
    seats.release()
    assert seats.get_value() == 3
    with pytest.raises(ValueError, match="-1"):
        client.Semaphore(-1)
    few = client.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="too many"):
        few.release()


def test_an_event_is_everybodys(served: Served, client: Any) -> None:
    start = client.Event("start")
    assert not start.wait(0.02)
    with actor_at(served, "Event", "start") as other:
        other.begin(afar.call, "wait")
        until_waiting(start)
        start.set()
        assert other.result() is True
        assert other.do(afar.call, "is_set")
        other.do(afar.call, "clear")
    assert not start.is_set()


def wait_at(kept: Any, timeout: float | None = None) -> Any:
    with kept.thing:
        return kept.thing.wait(timeout)


def test_a_condition_between_processes(served: Served, client: Any) -> None:
    news = client.Condition("news")
    with actor_at(served, "Condition", "news") as one, actor_at(served, "Condition", "news") as two:
        assert one.do(wait_at, 0.02) is False
        one.begin(wait_at)
        until_waiting(news)
        two.begin(wait_at)
        until_waiting(news, 2)
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


def test_a_condition_waits_for_a_predicate(served: Served, client: Any) -> None:
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
def test_a_condition_with_a_lock_of_ones_own(client: Any, kind: str) -> None:
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


def test_a_killed_waiter_of_a_condition_is_not_notified(served: Served, client: Any) -> None:
    news = client.Condition("news")
    with (
        actor_at(served, "Condition", "news") as dead,
        actor_at(served, "Condition", "news") as one,
    ):
        dead.begin(wait_at)
        until_waiting(news)
        one.begin(wait_at)
        until_waiting(news, 2)
        dead.kill()
        until_waiting(news, 1)
        with news:
            news.notify()
        assert one.result() is True


def meet(kept: Any, address: Any, parties: int, told: Any = None, timeout: Any = None) -> Any:
    afar.connect(kept, address)
    action = (lambda: Path(told).write_text("acted")) if told else None
    kept.thing = kept.client.Barrier(parties, action, name="gate")
    return kept.thing.wait(timeout)


def test_a_barrier_between_processes(served: Served, client: Any, tmp_path: Path) -> None:
    with Actor() as one, Actor() as two:
        told = tmp_path / "told"
        one.begin(meet, served.address, 3, str(told))
        two.begin(meet, served.address, 3)
        gate = client.Barrier(3, name="gate")
        assert gate.parties == 3
        until(lambda: gate.n_waiting == 2)
        assert not told.exists()
        places = {gate.wait(), one.result(), two.result()}
        assert places == {0, 1, 2}
        assert told.read_text() == "acted"
        assert not gate.broken


def test_a_barrier_whose_action_fails(client: Any) -> None:
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


def test_a_barrier_breaks_with_a_party(served: Served, client: Any) -> None:
    gate = client.Barrier(3, name="gate")
    with Actor() as one, Actor() as two:
        one.begin(meet, served.address, 3)
        two.begin(meet, served.address, 3)
        until(lambda: gate.n_waiting == 2)
        one.kill()
        with pytest.raises(threading.BrokenBarrierError):
            two.result()
        with pytest.raises(threading.BrokenBarrierError):
            gate.wait()


# -- interrupts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore"])
def test_an_interrupted_acquire_borrows_nothing(served: Served, client: Any, kind: str) -> None:
    door = getattr(client, kind)("door")
    door.acquire()
    with actor_at(served, kind, "door") as other:
        other.begin(afar.call, "acquire")
        until_waiting(door)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        until_waiting(door, 0)
        door.release()
        assert door.acquire(False)
        door.release()
        assert other.do(afar.call, "acquire", False)


def acquire_while_interrupted(kept: Any, rounds: int) -> int:
    """Be interrupted at any moment of an acquire; what is had is given back."""
    number = 0

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    for turn in range(rounds):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + turn % 40 * 0.00001)
            had = False
            had = kept.thing.acquire()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            number += 1
            # The return of acquire itself may have been interrupted: then it is known to be had.
            had = had or bool(kept.thing._fences)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if had:
            # Open: rarely the loan has been undone, and its number is still in the list.
            with contextlib.suppress(NotHeld):
                kept.thing.release()
    return number


def test_interrupts_at_any_moment_leave_nothing_lent(served: Served, client: Any) -> None:
    with actor_at(served, "Lock", "door") as other:
        interrupted = other.do(acquire_while_interrupted, 400)
        assert interrupted > 0
        assert client.Lock("door").acquire(timeout=5)


def wait_and_be_interrupted(kept: Any) -> bool:
    with pytest.raises(KeyboardInterrupt), kept.thing:
        kept.thing.wait()
    return bool(kept.thing.acquire(False))


def test_an_interrupted_wait_has_its_lock_again(served: Served, client: Any) -> None:
    news = client.Condition("news")
    with actor_at(served, "Condition", "news") as other:
        other.begin(wait_and_be_interrupted)
        until_waiting(news)
        news.acquire()
        other.interrupt()
        until_waiting(news, 0)
        assert not other.has_answered()
        news.release()
        assert other.result() is True


def test_an_interrupted_wait_for_an_event(served: Served, client: Any) -> None:
    start = client.Event("start")
    with actor_at(served, "Event", "start") as other:
        other.begin(afar.call, "wait")
        until_waiting(start)
        other.interrupt()
        with pytest.raises(KeyboardInterrupt):
            other.result()
        until_waiting(start, 0)


# -- broken connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lease_is_lost_with_its_connection(client: Any, caplog: Any, kind: str) -> None:
    door = getattr(client, kind)("door")
    door.acquire()
    cut(client)
    with pytest.raises(LeaseLost, match="has expired"):
        door.release()
    assert "reconnected" in caplog.text
    assert door.acquire(False)
    door.release()
    if kind in {"RLock", "Condition"}:
        door.acquire()
        door.acquire()
        cut(client)
        for _ in range(2):
            with pytest.raises(LeaseLost):
                door.release()
        assert door.acquire(False)
        door.release()


def test_a_lease_that_somebody_else_has_by_now(served: Served, client: Any) -> None:
    door, seats = client.Lock("door"), client.Semaphore("seats", 1)
    door.acquire()
    seats.acquire()
    cut(client)
    client.dict("reconnect")
    with served.connect() as _, actor_at(served, "Lock", "door") as other:
        assert other.do(afar.call, "acquire", False)
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
        cut(client)
        with pytest.raises(LeaseLost):
            act()
        with pytest.raises(LeaseLost):
            news.release()


def test_who_waits_goes_on_waiting_after_a_break(served: Served, client: Any) -> None:
    door, start = client.Lock("door"), client.Event("start")
    with actor_at(served, "Lock", "door") as other, served.connect() as third:
        other.do(afar.call, "acquire")
        with thread(door.acquire), thread(start.wait):
            watched, signalled = third.Lock("door"), third.Event("start")
            until_waiting(watched)
            until_waiting(signalled)
            cut(client)
            until_waiting(watched)
            until_waiting(signalled)
            other.do(afar.call, "release")
            signalled.set()
        assert door.fence > 0


def test_numbers_grow_over_a_restart_on_a_path(tmp_path: Path) -> None:
    with Served(tmp_path) as served, served.connect() as client:
        door, waiting = client.Lock("door"), client.Lock("other")
        door.acquire()
        before = door.fence
        waiting.acquire()
        with thread(lambda: client.Lock("other").acquire()):
            until_waiting(waiting)
            served.restart()
            with pytest.raises(LeaseLost):
                door.release()
        assert door.acquire(False)
        assert door.fence > before
        assert not waiting.acquire(False)


def test_a_server_that_is_told_to_stop_does_not_wait_for_those_who_wait(tmp_path: Path) -> None:
    with Served(tmp_path) as served, served.connect() as client:
        door = client.Lock("door")
        door.acquire()
        with actor_at(served, "Lock", "door") as other:
            other.begin(afar.call, "acquire")
            until_waiting(door)
            served.restart(signal.SIGTERM)
            assert other.result() is True


# -- names, and what has none ---------------------------------------------------------------------


def test_a_name_has_one_kind(client: Any) -> None:
    client.Lock("door")
    for kind in ("RLock", "Semaphore", "Event", "Condition"):
        with pytest.raises(WrongKind, match=f"'door' is a Lock .*not a {kind}"):
            getattr(client, kind)("door")
    client.Condition("news")
    own = client.RLock()
    from garrison.manager.client._remote_locks import RemoteCondition

    with pytest.raises(WrongKind, match="has the lock 'news/lock'"):
        RemoteCondition(client._lock_client, "news", lock=own)


def test_what_a_server_lends_is_a_proxy_to_programs(client: Any) -> None:
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


def lent(client: Any) -> int:
    """How many things the server lends."""
    found: int = client._lock_client.connection.ask(40, "count", "")[0]
    return found


def test_what_has_no_name_is_freed_with_its_last_user(served: Served, client: Any) -> None:
    with actor_at(served, "Lock") as other:
        door = client.Lock()
        door.acquire()
        again = pickle.loads(pickle.dumps(door))
        assert not again.acquire(False)
        assert lent(client) == 2
        del door
        assert lent(client) == 2
        again.release()
        del again
        gc.collect()
        until(lambda: lent(client) == 1)
        other.kill()
        until(lambda: lent(client) == 0)


def take(lock: Any, done: Any) -> None:
    done.put((lock.acquire(False), lock.acquire(timeout=20)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_has_no_name_reaches_a_child(client: Any, method: str) -> None:
    context = garrison.get_context(method)
    door, done = client.Lock(), context.Queue()
    door.acquire()
    child = context.Process(target=take, args=(door, done))
    child.start()
    until_waiting(door)
    door.release()
    del door  # as soon as it can be had there
    assert done.get(timeout=20) == (False, True)
    child.join()


def test_at_home_a_name_is_the_same_as_from_afar() -> None:
    key = os.urandom(32)
    with (
        garrison.Manager(("127.0.0.1", 0), key=key) as home,
        garrison.connect(home.address, key, direct=False) as client,
    ):
        near, far = home.Lock("door"), client.Lock("door")
        near.acquire()
        assert not far.acquire(False)
        with thread(far.acquire):
            until_waiting(near)
            near.release()
        assert not near.acquire(False)
        assert isinstance(home.Lock(), garrison.Lock)
