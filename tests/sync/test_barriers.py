"""Barriers: all parties pass or none; a dead party breaks the barrier for the others."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from garrison._pickling import dumps
from garrison.sync import Barrier, BrokenBarrierError, Semaphore
from sync.forked import Forked, armed, died
from waiting import wait_until


def pass_it(barrier: Barrier, timeout: float = 20.0) -> str:
    try:
        return str(barrier.wait(timeout))
    except BrokenBarrierError:
        return "broken"


@contextlib.contextmanager
def waiting(barrier: Barrier, count: int) -> Iterator[list[Forked]]:
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Forked(pass_it, barrier)) for _ in range(count)]
        wait_until(lambda: barrier.n_waiting == count)
        yield children


def test_parties_pass_together_in_each_round() -> None:
    barrier, rounds = Barrier(3), 300

    def run() -> list[int]:
        return [barrier.wait() for _ in range(rounds)]

    with Forked(run) as one, Forked(run) as two:
        mine = run()
        numbers = [literal_eval(one.answer()), literal_eval(two.answer()), mine]
    assert all(sorted(each) == [0, 1, 2] for each in zip(*numbers, strict=True))
    assert (barrier.n_waiting, barrier.broken, barrier.parties) == (0, False, 3)


def test_action_runs_once_in_each_round_before_the_parties_go_on() -> None:
    rounds = Semaphore(0)
    barrier = Barrier(2, action=rounds.release)

    def run() -> bool:
        seen = []
        for number in range(50):
            barrier.wait()
            seen.append(rounds.get_value() >= number + 1)
        return all(seen)

    with Forked(run) as child:
        assert run()
        assert child.answer() == "True"
    assert rounds.get_value() == 50


def test_action_that_raises_breaks_the_barrier() -> None:
    def action() -> None:
        raise LookupError("no")

    barrier = Barrier(2, action)
    with waiting(barrier, 1) as [child]:
        with pytest.raises(LookupError):
            barrier.wait()
        assert child.answer() == "'broken'"
    assert barrier.broken


def test_timeout_breaks_the_barrier_for_all_and_reset_repairs_it() -> None:
    barrier = Barrier(3, timeout=0.01)
    with Forked(pass_it, barrier, 20.0) as child:
        wait_until(lambda: barrier.n_waiting == 1)
        with pytest.raises(BrokenBarrierError, match=r"reset\(\) repairs it"):
            barrier.wait()
        assert child.answer() == "'broken'"
    assert barrier.broken
    assert barrier.n_waiting == 0
    with pytest.raises(BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert not barrier.broken
    with waiting(barrier, 2) as children:
        barrier.wait(10)
        assert "'broken'" not in [child.answer() for child in children]


@pytest.mark.parametrize("call", ["abort", "reset"])
def test_abort_and_reset_break_waiting_parties(call: str) -> None:
    barrier = Barrier(3)
    with waiting(barrier, 2) as children:
        getattr(barrier, call)()
        assert [child.answer() for child in children] == ["'broken'"] * 2
    assert barrier.broken == (call == "abort")
    barrier.reset()
    with waiting(barrier, 2) as children:
        barrier.wait(10)
        assert "'broken'" not in [child.answer() for child in children]


def test_reset_of_an_unused_barrier_does_nothing() -> None:
    barrier = Barrier(1)
    for _ in range(3):
        barrier.reset()
        assert barrier.wait() == 0


def test_threads_are_parties_too() -> None:
    barrier, seen = Barrier(4), []
    threads = [threading.Thread(target=lambda: seen.append(barrier.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen.append(barrier.wait())
    for thread in threads:
        thread.join()
    assert sorted(seen) == [0, 1, 2, 3]


def test_pickled_barrier_is_the_same_barrier() -> None:
    barrier = Barrier(2)
    with waiting(barrier, 1) as [child]:
        pickle.loads(dumps(barrier)).wait()
        assert child.answer() in {"'0'", "'1'"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0,), ValueError),
        ((-3,), ValueError),
        ((1 << 20,), ValueError),
        (("2",), TypeError),
        ((2, 5), TypeError),
    ],
)
def test_bad_arguments_are_named(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(arguments[-1])):
        Barrier(*arguments)


def test_killed_party_breaks_the_barrier() -> None:
    barrier = Barrier(3)
    with waiting(barrier, 2) as [first, second]:
        first.kill()
        assert second.answer() == "'broken'"
    assert barrier.broken


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
@pytest.mark.parametrize("number", [0, 1])
def test_party_that_died_before_the_last_arrived_breaks_the_barrier(
    number: int, *, reaped: bool
) -> None:
    acted: list[int] = []
    barrier = Barrier(3, lambda: acted.append(1))
    with waiting(barrier, 2) as children:
        victim, other = children[number], children[1 - number]
        # The other one looks at the victim too: stopped, it leaves that to the last.
        os.kill(other.pid, signal.SIGSTOP)
        if reaped:
            victim.kill()
        else:
            os.kill(victim.pid, signal.SIGKILL)
            os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(BrokenBarrierError):
            barrier.wait(20)
        os.kill(other.pid, signal.SIGCONT)
        assert other.answer() == "'broken'"
    assert barrier.broken
    assert not acted


def test_dead_party_is_noticed_while_others_wait() -> None:
    barrier = Barrier(7)
    with waiting(barrier, 6) as children:
        for victim in (children[2], children[3]):
            victim.kill()
        rest = children[:2] + children[4:]
        assert [child.answer() for child in rest] == ["'broken'"] * 4


def test_party_that_exits_after_the_round_breaks_nothing() -> None:
    barrier = Barrier(2)
    for _ in range(3):
        with waiting(barrier, 1) as [child]:
            assert barrier.wait(20) in range(2)
            assert child.answer() in {"'0'", "'1'"}
    assert not barrier.broken


def test_stopped_party_does_not_break_the_barrier() -> None:
    barrier = Barrier(3)
    with waiting(barrier, 2) as [first, second]:
        os.kill(first.pid, signal.SIGSTOP)
        assert barrier.wait() in range(3)
        assert second.answer() != "'broken'"
        os.kill(first.pid, signal.SIGCONT)
        assert first.answer() != "'broken'"


def test_interrupted_party_is_not_counted() -> None:
    barrier = Barrier(2)

    def interrupted() -> str:
        def handler(_number: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGUSR1, handler)
        try:
            return str(barrier.wait())
        except KeyboardInterrupt:
            return "interrupted"

    with Forked(interrupted) as child:
        wait_until(lambda: barrier.n_waiting == 1)
        os.kill(child.pid, signal.SIGUSR1)
        assert child.answer() == "'interrupted'"
    assert (barrier.n_waiting, barrier.broken) == (0, False)
    with waiting(barrier, 1) as [child]:
        assert barrier.wait() in range(2)
        assert child.answer() != "'broken'"


POINTS = ["barrier.signed", "barrier.woken", "barrier.acting", "barrier.passed"]


@pytest.mark.parametrize("point", POINTS)
def test_barrier_survives_a_death_at_each_point(point: str, tmp_path: Path) -> None:
    barrier, token = Barrier(2), tmp_path / "token"
    last = point in {"barrier.acting", "barrier.passed"}
    with contextlib.ExitStack() as stack:
        if last:
            [other] = stack.enter_context(waiting(barrier, 1))
        victim = stack.enter_context(armed(point, token, pass_it, barrier))
        if not last:
            wait_until(lambda: barrier.n_waiting == 1 or victim.is_over())
            other = stack.enter_context(Forked(pass_it, barrier))
        assert died(victim, token)
        # Whoever signs is counted: without it nobody passes, and with it all do.
        fine = {"barrier.signed": {"'broken'", "'0'", "'1'"}, "barrier.acting": {"'broken'"}}
        passed = {"'0'", "'1'"}
        assert other.answer() in fine.get(point, passed | {"'broken'"})
    barrier.reset()
    with waiting(barrier, 1) as [child]:
        assert barrier.wait(10) in range(2)
        assert child.answer() != "'broken'"
