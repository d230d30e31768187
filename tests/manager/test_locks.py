"""A manager's locks: proxies to programs, with the arguments and errors of `threading`'s."""

from __future__ import annotations

import importlib
import pickle
from typing import Any

import pytest

import garrison
from garrison import managers

ACQUIRERS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore")
standard: Any = importlib.import_module("multiprocessing.managers")
KINDS = {
    **dict.fromkeys(ACQUIRERS, "AcquirerProxy"),
    "Condition": "ConditionProxy",
    "Event": "EventProxy",
}


@pytest.fixture
def manager() -> Any:
    with garrison.Manager() as started:
        yield started
    vars(started).clear()  # pytest keeps it for a while


def release(lock: Any) -> None:
    lock.release()


def use(thing: Any) -> bool:
    with thing as taken:
        return bool(taken)


@pytest.mark.parametrize("name", KINDS)
def test_locks_of_a_manager_are_proxies(manager: Any, name: str) -> None:
    thing = getattr(manager, name)()
    for module in (standard, managers):
        assert isinstance(thing, getattr(module, KINDS[name]))
    assert repr(thing).startswith(f"<{KINDS[name]} object, typeid {name!r} at 0x")
    assert "object, typeid" not in str(thing).partition("(")[0]
    with pytest.raises(managers.RemoteError, match="'nothing'"):
        thing._callmethod("nothing")
    again = pickle.loads(pickle.dumps(thing))
    assert (type(again), again._token.id) == (type(thing), thing._token.id)


@pytest.mark.parametrize("name", [*ACQUIRERS, "Condition"])
def test_acquire_takes_the_arguments_of_threading(manager: Any, name: str) -> None:
    lock = getattr(manager, name)()
    calls: list[Any] = [
        *(lock.acquire, lambda: lock.acquire(True), lambda: lock.acquire(False)),
        *(lambda: lock.acquire(blocking=False), lambda: lock.acquire(block=False)),
        *(lambda: lock.acquire(True, 1), lambda: lock.acquire(timeout=-1)),
        lambda: lock._callmethod("acquire", (False,)),
    ]
    for call in calls:
        assert call() is True
        lock.release()
    for call in (lambda: lock.acquire(False, 1), lambda: lock.acquire(timeout=-5)):
        with pytest.raises(ValueError, match="timeout"):
            call()
    with lock as taken:
        assert taken is True


@pytest.mark.parametrize("name", ACQUIRERS[::2])
def test_acquired_lock_is_not_acquired_again(manager: Any, name: str) -> None:
    lock = getattr(manager, name)()
    with lock:
        for arguments in ((False,), (True, 0.01)):
            assert lock.acquire(*arguments) is False
        assert lock.acquire(blocking=False) is False


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_lock_is_released_by_another_process(manager: Any, method: str) -> None:
    lock = manager.Lock()
    lock.acquire()
    process = garrison.get_context(method).Process(target=release, args=(lock,))
    process.start()
    process.join()
    assert (process.exitcode, lock.acquire(blocking=False)) == (0, True)


def test_release_without_holding_raises_as_in_threading(manager: Any) -> None:
    condition = manager.Condition()
    wrong: list[Any] = [manager.Lock().release, manager.RLock().release, condition.release]
    wrong += [condition.wait, condition.notify, condition.notify_all]
    for call in wrong:
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(ValueError, match="too many times"):
        manager.BoundedSemaphore().release()


def test_workers_acquire_locks_of_a_manager(manager: Any) -> None:
    with garrison.get_context("spawn").Pool(1) as pool:
        for name in (*ACQUIRERS, "Condition"):
            assert pool.apply(use, (getattr(manager, name)(),))


def test_condition_uses_the_given_lock(manager: Any) -> None:
    condition = manager.Condition(manager.Lock())
    with condition:
        assert condition.acquire(blocking=False) is False
        assert condition.wait(0.01) is False
        assert condition.wait_for(lambda: "now", timeout=1) == "now"


def test_barrier_lets_all_parties_pass(manager: Any) -> None:
    barrier = manager.Barrier(1)
    assert isinstance(barrier, standard.BarrierProxy)
    assert (barrier.parties, barrier.n_waiting, barrier.broken, barrier.wait()) == (1, 0, False, 0)
    barrier.abort()
    assert barrier._callmethod("__getattribute__", ("broken",)) is True
