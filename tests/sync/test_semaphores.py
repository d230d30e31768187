"""Semaphores: as in the standard library, and permits on loan come back after a death."""

from __future__ import annotations

import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from garrison._pickling import dumps
from garrison.sync import BoundedSemaphore, Event, Semaphore, holders, waiters
from sync.forked import Forked, armed, died
from waiting import wait_until


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_semaphore_counts_permits(kind: type[Semaphore]) -> None:
    semaphore = kind(2)
    assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]
    assert semaphore.get_value() == 0
    assert semaphore.locked()
    assert not semaphore.acquire(timeout=0.01)
    assert not semaphore.acquire(True, -1.0)
    semaphore.release()
    with semaphore:
        assert semaphore.get_value() == 0
    assert semaphore.get_value() == 1


def test_semaphore_may_be_released_before_it_is_acquired() -> None:
    semaphore = Semaphore(0)
    with Forked(semaphore.acquire) as child:
        semaphore.release()
        assert child.answer() == "True"
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 2


def test_bounded_semaphore_refuses_extra_releases() -> None:
    semaphore = BoundedSemaphore(2)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    semaphore.acquire()
    semaphore.release()
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()


def test_any_process_may_release_a_permit() -> None:
    semaphore = BoundedSemaphore(2)
    semaphore.acquire()
    semaphore.acquire()
    with Forked(semaphore.release) as child:
        assert child.answer() == "None"
    assert semaphore.get_value() == 1


def test_semaphore_of_a_million_permits_works() -> None:
    semaphore = BoundedSemaphore(1 << 20)
    assert semaphore.get_value() == 1 << 20
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    semaphore.acquire()
    semaphore.release()


def test_semaphore_of_0_permits_blocks() -> None:
    semaphore = BoundedSemaphore(0)
    assert not semaphore.acquire(False)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()


@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, OSError), (1 << 31, OverflowError), (1.5, TypeError), ("2", TypeError)],
)
@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_bad_values_are_named(kind: type[Semaphore], value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(value)):
        kind(value)


def test_maximum_of_permits_cannot_be_exceeded() -> None:
    semaphore = Semaphore((1 << 31) - 1)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()


@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_pickled_semaphore_is_the_same_semaphore(kind: type[Semaphore]) -> None:
    semaphore = kind(3)
    same = pickle.loads(dumps(semaphore))
    same.acquire()
    assert semaphore.get_value() == 2
    assert type(same) is kind
    semaphore.release()
    assert same.get_value() == 3


def test_permits_of_a_dead_process_are_returned() -> None:
    semaphore = BoundedSemaphore(3)

    def take_two_and_die() -> None:
        semaphore.acquire()
        semaphore.acquire()
        signal.raise_signal(signal.SIGKILL)

    with Forked(take_two_and_die) as child:
        assert child.join() == -signal.SIGKILL
        assert semaphore.get_value() == 1
        assert [each.pid for each in holders()].count(child.pid) == 2
    assert [semaphore.acquire() for _ in range(3)] == [True] * 3
    assert not semaphore.acquire(False)


def test_permit_released_by_another_process_is_returned_once() -> None:
    # As in a bounded buffer: who puts takes a permit, who gets gives it back.
    semaphore = BoundedSemaphore(2)

    def take(count: int) -> None:
        for _ in range(count):
            semaphore.acquire()

    with Forked(take, 2) as putter:
        putter.join()
    semaphore.release()
    with Forked(take, 1) as putter:
        putter.join()
    assert not semaphore.acquire(timeout=0.25)
    semaphore.release()
    semaphore.release()
    assert semaphore.get_value() == 2


def test_permits_of_a_stopped_process_are_kept() -> None:
    semaphore = BoundedSemaphore(1)

    def take_and_stop() -> None:
        semaphore.acquire()
        signal.raise_signal(signal.SIGSTOP)
        semaphore.release()

    with Forked(take_and_stop):
        wait_until(lambda: semaphore.get_value() == 0)
        assert not semaphore.acquire(timeout=0.25)


def test_killed_waiter_of_a_semaphore_blocks_no_other() -> None:
    semaphore = Semaphore(0)
    with Forked(semaphore.acquire) as first, Forked(semaphore.acquire) as second:
        wait_until(lambda: {first.pid, second.pid} <= {each.pid for each in waiters()})
        first.kill()
        semaphore.release()
        assert second.answer() == "True"
    assert semaphore.get_value() == 0


def test_permits_are_never_exceeded_by_processes_and_threads() -> None:
    semaphore, inside, rounds = BoundedSemaphore(2), Semaphore(0), 200

    def work() -> int:
        most = 0
        for _ in range(rounds):
            with semaphore:
                inside.release()
                most = max(most, inside.get_value())
                inside.acquire()
        return most

    with Forked(work) as one, Forked(work) as two:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(int(one.answer()), int(two.answer())) <= 2
    assert (semaphore.get_value(), inside.get_value()) == (2, 0)


SIGNED = ["semaphore.signed"]
GIVEN = ["semaphore.unsigned", "semaphore.given"]


@pytest.mark.parametrize("point", SIGNED)
def test_semaphore_survives_a_death_in_acquire(point: str, tmp_path: Path) -> None:
    semaphore = BoundedSemaphore(1)
    with armed(point, tmp_path / "first", semaphore.acquire) as first:
        assert died(first, tmp_path / "first")
    # Again in the one that takes the permit over.
    with armed(point, tmp_path / "second", semaphore.acquire) as second:
        assert died(second, tmp_path / "second")
    assert semaphore.acquire()
    semaphore.release()
    assert semaphore.get_value() == 1


@pytest.mark.parametrize("point", GIVEN)
@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_semaphore_survives_a_death_in_release(
    kind: type[Semaphore], point: str, tmp_path: Path
) -> None:
    semaphore, wanted = kind(1), Event()

    def take_and_give() -> None:
        semaphore.acquire()
        wanted.wait()
        semaphore.release()

    with armed(point, tmp_path / "token", take_and_give) as victim:
        wait_until(semaphore.locked)
        with Forked(semaphore.acquire) as waiter:
            wait_until(lambda: waiter.pid in {each.pid for each in waiters()})
            wanted.set()
            reached = died(victim, tmp_path / "token")
            assert reached == (point != "semaphore.unsigned" or kind is BoundedSemaphore)
            assert waiter.answer() == "True"
    # The waiter has left with its permit: lent, it is back; a signal, it is used.
    assert semaphore.acquire(timeout=0.5) == (kind is BoundedSemaphore)
