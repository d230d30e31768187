"""Holders and waiters are reported; deadlocks are found and named."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from garrison.errors import DeadlockError
from garrison.sync import Barrier, Condition, Event, Lock, RLock, Semaphore, holders, waiters
from waiting import wait_until

from .forked import Forked


def shown(pid: int) -> bool:
    return pid in {each.pid for each in waiters()}


def test_holders_are_named() -> None:
    lock, nested, free = Lock(), RLock(detect_deadlocks=True), Lock()
    with lock, nested, nested:
        numbers = {each._semlock.number: each for each in (lock, nested, free)}
        found = {numbers[each.object]: each for each in holders() if each.object in numbers}
        assert set(found) == {lock, nested}
        assert {each.pid for each in found.values()} == {os.getpid()}
        assert (found[lock].kind, found[nested].kind) == ("Lock", "RLock")
        assert re.match(r"test_introspection\.py:\d+ in test_holders", found[nested].where)
    assert not {each.object for each in holders()} & set(numbers)


def test_holder_in_another_process_is_named() -> None:
    lock, go = Lock(), Event()

    def hold() -> None:
        with lock:
            go.wait()

    with Forked(hold) as child:
        wait_until(lock.locked)
        number = lock._semlock.number
        assert [each.pid for each in holders() if each.object == number] == [child.pid]
        assert "SomeOtherProcess" in repr(lock)
        go.set()
        assert child.answer() == "None"
    assert repr(lock) == "<Lock(owner=None)>"


def in_condition(condition: Condition) -> None:
    with condition:
        condition.wait()


def wait_for(kind: str) -> object:
    """Wait for what will never be."""
    calls: dict[str, Callable[[], object]] = {
        "Condition": lambda: in_condition(Condition()),
        "Event": Event().wait,
        "Barrier": Barrier(2).wait,
        "Semaphore": Semaphore(0).acquire,
    }
    return calls[kind]()


@pytest.mark.parametrize("kind", ["Condition", "Event", "Barrier", "Semaphore"])
def test_waits_are_shown_while_they_last(kind: str) -> None:
    with Forked(wait_for, kind) as child:
        wait_until(lambda: shown(child.pid))
        [wait] = [each for each in waiters() if each.pid == child.pid]
        assert (wait.kind, wait.holder) == (kind, 0)
        assert wait.seconds >= 0.1
        assert re.search(r"\.py:\d+ in \w+", wait.where)
        child.kill()
        assert not shown(child.pid)


def test_a_wait_names_the_holder_and_ends() -> None:
    lock = Lock()
    lock.acquire()
    with Forked(lock.acquire) as child:
        wait_until(lambda: shown(child.pid))
        [wait] = [each for each in waiters() if each.pid == child.pid]
        assert (wait.holder, wait.object) == (os.getpid(), lock._semlock.number)
        lock.release()
        assert child.answer() == "True"
    assert not shown(child.pid)


def take_in_turn(own: Any, others: Any, barrier: Barrier) -> str:
    try:
        with own:
            barrier.wait()
            with others:
                return "both"
    except DeadlockError as error:
        return str(error)


@pytest.mark.parametrize("count", [2, 3])
def test_one_waiter_of_a_cycle_raises_deadlock_error(count: int) -> None:
    kinds = [Lock, RLock, Lock][:count]
    locks = [kind(detect_deadlocks=True) for kind in kinds]
    barrier = Barrier(count)

    def run(number: int) -> str:
        return take_in_turn(locks[number], locks[(number + 1) % count], barrier)

    children = [Forked(run, number) for number in range(count)]
    try:
        answers = [child.answer() for child in children]
        assert answers.count("'both'") == count - 1
        [text] = [answer for answer in answers if answer != "'both'"]
        assert all(f"process {child.pid} " in text for child in children)
        assert "take_in_turn" in text
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert not any(lock.locked() for lock in locks)


def test_deadlock_of_threads_is_detected() -> None:
    locks = [Lock(detect_deadlocks=True), Lock(detect_deadlocks=True)]
    barrier, answers = Barrier(2), []

    def run(number: int) -> None:
        answers.append(take_in_turn(locks[number], locks[1 - number], barrier))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer == "both" for answer in answers) == [False, True]


def test_deadlock_of_one_thread_is_detected() -> None:
    lock = Lock(detect_deadlocks=True)
    with lock, pytest.raises(DeadlockError, match=str(os.getpid())):
        lock.acquire()
    with lock:
        assert not lock.acquire(timeout=0.5), "a wait with an end is no deadlock"


def test_deadlock_is_not_raised_without_the_option() -> None:
    locks, barrier = [Lock(), Lock(detect_deadlocks=True)], Barrier(2)
    with (
        Forked(take_in_turn, locks[0], locks[1], barrier) as one,
        Forked(take_in_turn, locks[1], locks[0], barrier) as two,
    ):
        wait_until(lambda: min([0, *(each.seconds for each in waiters())][-2:]) > 0.5)
        assert shown(one.pid)
        assert shown(two.pid)
        one.kill()
        assert two.answer() == "'both'"


def test_stopped_waiter_is_not_a_deadlock() -> None:
    # What it waits for may be free long since: only what the holder itself confirms counts.
    first, second = Lock(detect_deadlocks=True), Lock(detect_deadlocks=True)
    first.acquire()

    def hold_second_and_wait_for_first() -> str:
        with second, first:
            return "both"

    with Forked(hold_second_and_wait_for_first) as child:
        wait_until(lambda: shown(child.pid))
        os.kill(child.pid, signal.SIGSTOP)
        first.release()
        assert not second.acquire(timeout=0.5)
        with Forked(second.acquire) as other:
            wait_until(lambda: shown(other.pid))
            assert not other.is_over()
            os.kill(child.pid, signal.SIGCONT)
            assert child.answer() == "'both'"
            assert other.answer() == "True"
