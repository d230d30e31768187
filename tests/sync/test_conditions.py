"""Conditions: waiters are woken in order; a killed waiter blocks no other."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from garrison._pickling import dumps
from garrison.errors import AbandonedLock
from garrison.sync import Condition, Lock, RLock
from sync.forked import Forked, arm, armed, died
from waiting import wait_until

pytestmark = pytest.mark.filterwarnings(f"ignore::{AbandonedLock.__module__}.AbandonedLock")


def wait(condition: Condition, timeout: float | None = None) -> bool:
    with condition:
        return condition.wait(timeout)


def seated(condition: Condition, count: int) -> None:
    wait_until(lambda: condition._core.waiting == count)


def notify(condition: Condition, count: int = 1) -> None:
    with condition:
        condition.notify(count)


@contextlib.contextmanager
def waiting(condition: Condition, count: int) -> Iterator[list[Forked]]:
    """So many children that have begun to wait one after the other."""
    with contextlib.ExitStack() as stack:
        children = []
        for _ in range(count):
            before = condition._core.waiting
            children.append(stack.enter_context(Forked(wait, condition)))
            seated(condition, before + 1)
        yield children


@pytest.mark.parametrize("lock", [None, Lock, RLock])
def test_longest_waiters_are_woken_first(lock: Any) -> None:
    condition = Condition(lock and lock())
    with waiting(condition, 4) as children:
        notify(condition, 2)
        assert [child.answer() for child in children[:2]] == ["True", "True"]
        assert condition._core.waiting == 2
        assert not any(child.is_over() for child in children[2:])
        with condition:
            condition.notify_all()
        assert [child.answer() for child in children[2:]] == ["True", "True"]
    assert condition._core.waiting == 0


def test_notify_without_waiters_is_not_kept() -> None:
    condition = Condition()
    notify(condition, 5)
    assert not wait(condition, 0.01)


def test_later_waiter_does_not_take_an_earlier_notification() -> None:
    condition = Condition()
    with waiting(condition, 1) as [first]:
        with condition:
            condition.notify()
            # The lock is still held: the first one cannot go on. A second one waits now.
            assert not condition.wait(0.2)
        assert first.answer() == "True"


def test_timed_out_wait_frees_its_slot() -> None:
    condition = Condition()
    for _ in range(600):
        assert not wait(condition, 0)
    assert condition._core.waiting == 0
    with waiting(condition, 1) as [child]:
        notify(condition)
        assert child.answer() == "True"


def test_wait_for_waits_for_its_predicate() -> None:
    condition, words = Condition(), Condition()
    with condition:
        assert condition.wait_for(lambda: 7) == 7
        start = time.monotonic()
        assert condition.wait_for(lambda: 0, timeout=0.05) == 0
        assert time.monotonic() - start >= 0.05

    def until_notified_twice() -> int:
        seen = 0

        def predicate() -> bool:
            nonlocal seen
            seen += 1
            return seen == 3

        with words:
            words.wait_for(predicate)
        return seen

    with Forked(until_notified_twice) as child:
        seated(words, 1)
        notify(words)
        wait_until(lambda: child.is_over() or words._core.waiting == 1)
        seated(words, 1)
        notify(words)
        assert child.answer() == "3"


def test_wait_and_notify_require_the_lock() -> None:
    condition = Condition()
    for call in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(AssertionError):
            call()
    with condition, pytest.raises(TypeError):
        condition.notify("one")  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="'int' object has no attribute 'acquire'"):
        Condition(5)  # type: ignore[arg-type]
    with Condition(threading.Lock()) as _, pytest.raises(AttributeError, match="_semlock"):  # type: ignore[arg-type]
        Condition(threading.Lock()).wait()  # type: ignore[arg-type]


def test_wait_releases_an_rlock_fully_and_restores_its_depth() -> None:
    condition = Condition()

    def thrice() -> int:
        with condition, condition, condition:
            condition.wait()
            return condition._lock._semlock._count()

    with Forked(thrice) as child:
        seated(condition, 1)
        assert condition.acquire(timeout=5)
        condition.notify()
        condition.release()
        assert child.answer() == "3"
    assert condition.acquire(timeout=5)
    condition.release()


def test_pickled_condition_is_the_same_condition() -> None:
    condition = Condition()
    same = pickle.loads(dumps(condition))
    with waiting(condition, 1) as [child]:
        notify(same)
        assert child.answer() == "True"


def test_interrupted_wait_holds_the_lock_and_passes_its_notification_on() -> None:
    condition = Condition()

    def interrupted() -> str:
        def handler(_number: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGUSR1, handler)
        with condition:
            try:
                condition.wait()
            except KeyboardInterrupt:
                return f"interrupted, {condition._lock._semlock._is_mine()}"
        return "not"

    with Forked(interrupted) as first:
        seated(condition, 1)
        with waiting(condition, 1) as [second]:
            os.kill(first.pid, signal.SIGSTOP)
            notify(condition)
            os.kill(first.pid, signal.SIGUSR1)
            os.kill(first.pid, signal.SIGCONT)
            assert first.answer() == "'interrupted, True'"
            assert second.answer() == "True"


def test_too_many_waiters_are_an_error() -> None:
    condition = Condition()
    threads = [threading.Thread(target=wait, args=(condition,)) for _ in range(256)]
    for thread in threads:
        thread.start()
    seated(condition, 256)
    with condition, pytest.raises(RuntimeError, match="256 waiters"):
        condition.wait()
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join()


def test_slots_of_dead_waiters_are_reused() -> None:
    condition = Condition()

    def fill() -> None:
        for _ in range(256):
            threading.Thread(target=wait, args=(condition,), daemon=True).start()
        threading.Event().wait()

    with Forked(fill) as child:
        seated(condition, 256)
        child.kill()
    assert not wait(condition, 0.01)
    assert condition._core.waiting == 0


def test_killed_waiter_is_passed_over() -> None:
    condition = Condition()
    with waiting(condition, 3) as children:
        children[0].kill()
        children[1].kill()
        notify(condition)
        assert children[2].answer() == "True"


def test_notification_of_a_killed_waiter_goes_to_the_next() -> None:
    condition = Condition()
    with waiting(condition, 2) as [first, second]:
        with condition:
            os.kill(first.pid, signal.SIGSTOP)
            condition.notify()
            first.kill()
        assert second.answer() == "True"


@pytest.mark.parametrize("blocked", [False, True])
def test_waiter_that_dies_before_it_reacquires_blocks_no_other(
    blocked: bool, tmp_path: Path
) -> None:
    condition = Condition()
    point = "lock.marked" if blocked else "condition.left"
    with armed(point, tmp_path / "token", wait, condition) as first:
        seated(condition, 1)
        with waiting(condition, 1) as [second]:
            with condition:
                condition.notify()
                assert died(first, tmp_path / "token")
            assert second.answer() == "True"


WAITER_DIES = ["condition.enqueued", "lock.released", "condition.unlocked", "condition.woken"]
WAITER_DIES += ["condition.left", "lock.taken"]


@pytest.mark.parametrize("point", WAITER_DIES)
def test_condition_survives_a_death_in_wait(point: str, tmp_path: Path) -> None:
    condition, before = Condition(), point in WAITER_DIES[:3]
    # It dies as it takes the lock again, not for the first time.
    again = point == "lock.taken"
    run = wait_armed if again else wait
    arguments = (condition, tmp_path / "token") if again else (condition,)
    make = Forked if again else functools.partial(armed, point, tmp_path / "token")
    with make(run, *arguments) as victim:
        wait_until(lambda: victim.is_over() or condition._core.waiting == 1)
        with Forked(wait, condition) as second:
            seated(condition, 2)
            if not before:
                notify(condition)
            assert died(victim, tmp_path / "token")
            if before:
                assert not second.is_over()
                notify(condition)
            assert second.answer() == "True"
    assert not wait(condition, 0.01)
    assert condition._core.waiting == 0


def wait_armed(condition: Condition, token: Path) -> bool:
    """Wait, and die in the moment in which the lock is had again."""
    with condition:
        arm("lock.taken", token)
        return condition.wait()


@pytest.mark.parametrize("again", ["condition.woken", "condition.left", "lock.inherited"])
def test_condition_survives_deaths_in_notify_and_in_the_notified_waiter(
    again: str, tmp_path: Path
) -> None:
    condition = Condition()
    with armed(again, tmp_path / "waiter", wait, condition) as first:
        seated(condition, 1)
        with waiting(condition, 1) as [second]:
            with armed("condition.granted", tmp_path / "notifier", notify, condition) as notifier:
                assert died(notifier, tmp_path / "notifier")
            assert died(first, tmp_path / "waiter")
            assert second.answer() == "True"
    assert condition.acquire(timeout=10)
    condition.release()


@pytest.mark.parametrize(("count", "woken"), [(-1, 0), (0, 0), (1.0, 1), (10**30, 2)])
def test_notify_takes_any_number(count: Any, woken: int) -> None:
    condition = Condition()
    with waiting(condition, 2):
        notify(condition, count)
        assert condition._core.waiting == 2 - woken
