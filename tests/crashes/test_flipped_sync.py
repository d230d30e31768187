"""Every byte of the words of semaphores, conditions, events and barriers, flipped one at a time.

As in `test_flipped_bytes.py`: an error or no harm. What a flip turns into another value that is
possible (an event that is set, a semaphore with more permits) is no damage that can be seen; it
must not make the object unusable. The bytes of the registry of owners are flipped in a program of
its own (`registry_trials.py`), since all processes of this one share theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flipping import PATIENCE_S, TrialFailedError, assert_same, check, flip, run_trials, suppressed
from garrison.sync import Barrier, BoundedSemaphore, Condition, Event, Lock, Semaphore
from waiting import wait_until

from .registry_trials import BYTES as REGISTRY_BYTES

Release = Callable[[], object]


def words_of(thing: Any) -> memoryview:
    if isinstance(thing, Semaphore):
        return memoryview(thing._semlock.place[0])
    return memoryview(thing._spot if hasattr(thing, "_spot") else thing._core.place[0])


def beside(wait: Release) -> tuple[threading.Thread, list[object]]:
    """Run a wait in a thread: what it returned, or the error that ended it."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(wait())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def use_semaphore(kind: type[Semaphore], at: int) -> None:
    semaphore, other = kind(2), Lock()
    semaphore.acquire()
    flip(words_of(semaphore), at)
    with suppressed():
        semaphore.release()
    with suppressed():
        for _ in range(2):
            assert_same(semaphore.acquire(timeout=PATIENCE_S), True)
        semaphore.release()
    assert other.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize(("kind", "size"), [(Semaphore, 4), (BoundedSemaphore, 12)])
def test_every_byte_of_a_semaphore(
    kind: type[Semaphore], size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    check(run_trials(lambda at: use_semaphore(kind, at), range(size)), size, capsys)


def notify_one(condition: Condition) -> None:
    with condition:
        condition.notify()


def wait_for(condition: Condition) -> object:
    with condition:
        return condition.wait(PATIENCE_S)


def use_condition(at: int, mask: int) -> None:
    condition = Condition()
    core: Any = condition._core
    thread, _ = beside(lambda: wait_for(condition))
    wait_until(lambda: core.waiting == 1)
    notify_one(condition)
    thread.join()
    thread, results = beside(lambda: wait_for(condition))
    wait_until(lambda: core.waiting == 1)
    flip(words_of(condition), at, mask)
    with suppressed():
        notify_one(condition)
    thread.join()
    if results == [False]:
        raise TrialFailedError("the notification was lost")


TICKETS = range(4)
WAIT_SLOTS = range(64, 64 + 3 * 8)


@pytest.mark.watchdog(60)
@pytest.mark.parametrize("mask", [0xFF, 0x40, 0x80])
def test_every_byte_of_a_condition(mask: int, capsys: pytest.CaptureFixture[str]) -> None:
    offsets = [*TICKETS, *WAIT_SLOTS]
    check(run_trials(lambda at: use_condition(at, mask), offsets), len(offsets), capsys)


def use_event(at: int) -> None:
    event = Event()
    thread, results = beside(lambda: event.wait(PATIENCE_S))
    flip(words_of(event), at)
    event.set()
    thread.join()
    assert_same(results, [True])
    event.clear()
    assert_same(event.is_set(), False)


def test_every_byte_of_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    check(run_trials(use_event, range(4)), 4, capsys)


def use_barrier(at: int, mask: int) -> None:
    barrier = Barrier(2)
    first, _ = beside(barrier.wait)
    barrier.wait()
    first.join()
    thread, results = beside(lambda: barrier.wait(2.0))
    wait_until(lambda: barrier.n_waiting == 1)
    flip(words_of(barrier), at, mask)
    with suppressed():
        results.append(barrier.wait(2.0))
    thread.join()
    for number in results:
        if not isinstance(number, Exception) and number not in {0, 1}:
            raise TrialFailedError(repr(number))


BARRIER_SIZE = 24


@pytest.mark.watchdog(90)
@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x04, 0x80])
def test_every_byte_of_a_barrier(mask: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A round in which no party acts, or of which no party has heard, ends."""
    failed = run_trials(lambda at: use_barrier(at, mask), range(BARRIER_SIZE))
    check(failed, BARRIER_SIZE, capsys)


@pytest.mark.watchdog(120)
def test_every_byte_of_the_registry_of_owners(capsys: pytest.CaptureFixture[str]) -> None:
    tests = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    words = [sys.executable, "-m", "crashes.registry_trials"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "failed: []\n", done.stdout + done.stderr
    check([], len(REGISTRY_BYTES), capsys)
