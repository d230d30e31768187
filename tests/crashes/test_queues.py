"""A process is killed at each point of a queue operation, and its successor at each point too."""

from __future__ import annotations

import os
import signal
import sys
from itertools import product

import pytest

from garrison import _core
from garrison.sync import Queue
from sync import queue_tools

from . import queue_cases
from .queue_cases import DEEDS, GETS, POINTS, PUTS, Case

assert queue_tools.METHODS  # imported for what it does
pytestmark = pytest.mark.skipif(not _core.CRASH_POINTS, reason="a build with crash-points")

PROCESSES = 8
BUSY = ("fresh", "at_edges", "flooded", "cold")
OF_QUEUES = {
    point for point in POINTS if point.startswith("queue.") and not point.startswith("queue.done")
}


def first_deaths(maxsize: int) -> list[Case]:
    """Each operation, in each state, killed at each point."""
    cases = [
        Case(maxsize, state, ((deed, point),))
        for state, deed, point in product(BUSY, [*PUTS, *GETS], POINTS)
    ]
    vain = [("full", "put in vain"), ("empty", "get in vain")] if maxsize else []
    return cases + [
        Case(4, state, ((deed, point),)) for (state, deed), point in product(vain, POINTS)
    ]


def heirs_deaths(state: str) -> list[Case]:
    """Killed with a lock, and who inherits it killed as well, each at each point."""
    held = {"queue.put_locked", "queue.get_locked", "queue.copied", "queue.written"}
    held |= {point for point in POINTS if point.startswith("queue.segment")}
    held |= {"queue.put_committed", "queue.got_committed", "lock.taken"}
    same_side = [
        *product(("put many",), ("put many", "put")),
        *product(("get many",), ("get many",)),
    ]
    return [
        Case(0, state, ((one, first), (other, second)))
        for (one, other), first, second in product(same_side, sorted(held), POINTS)
        if _side(first, one) and _side(second, other)
    ]


def _side(point: str, deed: str) -> bool:
    """Whether the deed can come to that point at all."""
    name = point.removeprefix("queue.")
    puts = (
        "put",
        "segment_a",
        "segment_l",
        "segment_r",
        "segments",
        "written",
        "big",
        "heap",
        "res",
    )
    gets = ("get", "got", "segment_c", "segment_p", "copied", "taken")
    return not name.startswith(gets if DEEDS[deed].kinds else puts)


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


@pytest.mark.watchdog(120.0)
@pytest.mark.parametrize("maxsize", [0, 1000])
def test_queue_survives_a_death_at_each_point(maxsize: int) -> None:
    cases = first_deaths(maxsize)
    reached, deaths, wrong = queue_cases.run_cases(cases, PROCESSES)
    assert wrong == []
    _tell(f"{deaths} deaths in {len(cases)} cases")
    missing = OF_QUEUES - reached - (set() if maxsize else {"queue.got_woken", "queue.woken"})
    assert missing == set()


@pytest.mark.watchdog(240.0)
@pytest.mark.parametrize("state", BUSY)
def test_queue_survives_a_second_death_at_each_point(state: str) -> None:
    cases = heirs_deaths(state)
    reached, deaths, wrong = queue_cases.run_cases(cases, PROCESSES)
    assert wrong == []
    _tell(f"{deaths} deaths in {len(cases)} cases")
    assert "lock.inherited" in reached
    assert deaths > 400


@pytest.mark.parametrize("point", ["queue.done", "queue.done_woken"])
def test_task_done_survives_a_death(point: str) -> None:
    assert queue_cases.die_in_task_done(point) == (True, 1)


def test_stopped_process_without_a_lock_blocks_no_other() -> None:
    queue = Queue()
    queue.put_many(range(3))
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        queue.put(3)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    queue.put(4)
    os.kill(pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert queue.get_many(9) == [0, 1, 2, 4, 3]
