"""Events: one word, which a signal handler may set."""

from __future__ import annotations

import pickle
import signal
import threading
from pathlib import Path
from types import FrameType

import pytest

from garrison._pickling import dumps
from garrison.sync import Event, waiters
from sync.forked import Forked, armed, died
from waiting import wait_until


def test_set_clear_wait() -> None:
    event = Event()
    assert not event.is_set()
    assert not event.wait(0)
    assert not event.wait(0.01)
    assert not event.wait(-1)
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait()
    assert event.wait(0)
    event.clear()
    event.clear()
    assert not event.wait(0)


def test_waiters_are_woken_even_if_the_event_is_cleared_at_once() -> None:
    event = Event()
    with Forked(event.wait) as one, Forked(event.wait) as two:
        wait_until(lambda: {one.pid, two.pid} <= {each.pid for each in waiters()})
        event.set()
        event.clear()
        assert (one.answer(), two.answer()) == ("True", "True")
    assert not event.is_set()


def test_threads_wait_for_an_event() -> None:
    event, seen = Event(), []
    threads = [threading.Thread(target=lambda: seen.append(event.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    with Forked(event.set) as child:
        child.join()
    for thread in threads:
        thread.join()
    assert seen == [True] * 3


def test_pickled_event_is_the_same_event() -> None:
    event = Event()
    pickle.loads(dumps(event)).set()
    assert event.is_set()


def test_signal_handler_may_set_the_event_of_the_interrupted_wait() -> None:
    event = Event()

    def in_child() -> bool:
        def handler(_number: int, _frame: FrameType | None) -> None:
            event.set()

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        return event.wait()

    with Forked(in_child) as child:
        assert child.answer() == "True"


def test_handlers_that_set_and_clear_at_every_moment() -> None:
    event, rounds = Event(), 300

    def in_child() -> int:
        def handler(_number: int, _frame: FrameType | None) -> None:
            event.set()

        signal.signal(signal.SIGALRM, handler)
        passed = 0
        for number in range(rounds):
            event.clear()
            signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number))
            passed += event.wait()
        return passed

    with Forked(in_child) as child:
        assert child.answer() == str(rounds)


def test_a_handler_that_raises_ends_the_wait() -> None:
    event = Event()

    def in_child() -> str:
        def handler(_number: int, _frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            event.wait()
        except KeyboardInterrupt:
            return "interrupted"
        return "not"

    with Forked(in_child) as child:
        assert child.answer() == "'interrupted'"


def test_event_survives_a_death_between_setting_and_waking(tmp_path: Path) -> None:
    event = Event()
    with Forked(event.wait) as waiter:
        wait_until(lambda: waiter.pid in {each.pid for each in waiters()})
        with armed("event.set", tmp_path / "token", event.set) as victim:
            assert died(victim, tmp_path / "token")
        assert waiter.answer() == "True"
    assert event.is_set()


def test_nan_is_refused_as_a_timeout() -> None:
    with pytest.raises(ValueError, match="nan"):
        Event().wait(float("nan"))
