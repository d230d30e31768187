"""Locks that a server lends: what each request does to them, without any server."""

from __future__ import annotations

from typing import Any

import pytest

from garrison.manager.server._lock_state import (
    BROKEN,
    BarrierState,
    ConditionState,
    EventState,
    LeaseExpired,
    LockState,
    NotOwner,
    Waiter,
)

ANN, BOB, EVE = ("ann", 1), ("bob", 1), ("eve", 1)


class Numbers:
    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> int:
        self.last += 1
        return self.last


def lock(**options: Any) -> LockState:
    return LockState(Numbers(), **options)


class Asked(Waiter):
    """Keeps its answers."""

    def __init__(self, borrower: Any) -> None:
        self.answers: list[Any] = []
        super().__init__(borrower, self.answers.append)


def asked(loan: Any, borrower: Any, *more: Any) -> Asked:
    waiter = Asked(borrower)
    (loan.acquire if isinstance(loan, LockState) else loan.wait)(waiter, *more)
    return waiter


def test_a_lock_is_used_by_one_after_the_other() -> None:
    loan = lock()
    first, second, third = (asked(loan, each) for each in (ANN, BOB, EVE))
    assert (first.answers, second.answers, loan.n_waiting, loan.value) == ([1], [], 2, 0)
    loan.release(ANN, 1)
    assert (second.answers, third.answers) == ([2], [])
    loan.release(BOB, 2)
    loan.release(EVE, 3)
    assert (third.answers, loan.is_initial) == ([3], True)


def test_a_lock_may_be_released_by_another() -> None:
    loan = lock()
    asked(loan, ANN)
    loan.release(BOB)
    assert loan.is_initial
    with pytest.raises(NotOwner, match="too many"):
        loan.release(BOB)


def test_a_loan_that_is_over_is_not_released() -> None:
    loan = lock()
    asked(loan, ANN)
    loan.forget("ann")
    assert asked(loan, BOB).answers == [2]
    with pytest.raises(LeaseExpired, match="lease 1 has expired"):
        loan.release(("ann again", 1), 1)
    assert loan.value == 0


def test_who_waits_no_longer_is_passed_over() -> None:
    loan = lock()
    asked(loan, ANN)
    tired, patient = asked(loan, BOB), asked(loan, EVE)
    loan.leave(tired)
    assert tired.answers == [0]
    loan.release(ANN, 1)
    assert (tired.answers, patient.answers) == ([0], [2])


def test_a_session_that_is_gone_is_passed_over() -> None:
    loan = lock()
    asked(loan, ANN)
    gone, patient = asked(loan, BOB), asked(loan, EVE)
    loan.forget("bob")
    loan.forget("ann")
    assert (gone.answers, patient.answers) == ([], [2])


def test_an_rlock_is_its_borrowers() -> None:
    loan = lock(recursive=True)
    assert [asked(loan, ANN).answers for _ in range(2)] == [[1], [1]]
    waiting = asked(loan, BOB)
    with pytest.raises(NotOwner, match="not acquired"):
        loan.release(("ann", 2), 1)
    loan.release(ANN, 1)
    assert waiting.answers == []
    loan.release(ANN, 1)
    assert waiting.answers == [2]
    loan.forget("bob")
    assert loan.is_initial


def test_permits() -> None:
    loan = lock(permits=2, bounded=False, exclusive=False)
    waiters = [asked(loan, each) for each in (ANN, ANN, BOB)]
    assert [each.answers for each in waiters] == [[1], [2], []]
    loan.forget("ann")
    assert waiters[2].answers == [3]
    assert loan.value == 1
    with pytest.raises(LeaseExpired):
        loan.release(("ann again", 1), 2, since=4)
    loan.release(BOB, 3)
    loan.release(BOB)
    assert loan.value == 3


def test_bounded_permits() -> None:
    loan = lock(permits=2, exclusive=False)
    asked(loan, ANN)
    loan.release(BOB)
    with pytest.raises(NotOwner, match="too many"):
        loan.release(BOB)


def test_an_event() -> None:
    loan = EventState()
    early, tired, gone = asked(loan, ANN), asked(loan, BOB), asked(loan, EVE)
    loan.leave(tired)
    loan.forget("eve")
    loan.set()
    late = asked(loan, BOB)
    assert [each.answers for each in (early, tired, gone, late)] == [[True], [False], [], [True]]
    loan.clear()
    assert asked(loan, ANN).answers == []


def test_a_condition() -> None:
    loan = ConditionState(lock(recursive=True))
    for each in (ANN, ANN):  # twice: a wait gives all of it up
        asked(loan.lock, each)
    first = asked(loan, ANN, 1)
    asked(loan.lock, BOB)
    second = asked(loan, BOB, 2)
    asked(loan.lock, EVE)
    loan.notify(EVE, 1, 3)
    assert (first.answers, second.answers) == ([], [])
    loan.lock.release(EVE, 3)
    assert (first.answers, second.answers) == ([4], [])
    assert loan.lock.depth(ANN) == 2
    loan.leave(second)
    assert second.answers == []
    loan.forget("ann")
    assert second.answers == [-5]
    loan.lock.release(BOB, 5)
    assert loan.is_initial


def test_a_condition_without_its_lock() -> None:
    loan = ConditionState(lock(recursive=True))
    for attempt in (lambda: asked(loan, ANN), lambda: loan.notify(ANN, 1)):
        with pytest.raises(NotOwner, match="un-acquired"):
            attempt()
    asked(loan.lock, ANN)
    loan.forget("ann")
    with pytest.raises(LeaseExpired):
        asked(loan, ("ann again", 1), 1)


def test_a_barrier() -> None:
    loan = BarrierState(2)
    for _ in range(2):
        waiters = [asked(loan, each) for each in (ANN, BOB)]
        assert [each.answers for each in waiters] == [[[0, False]], [[1, False]]]
    early = asked(loan, ANN)
    loan.reset()
    assert (early.answers, loan.is_initial) == ([BROKEN], True)
    early = asked(loan, ANN)
    loan.leave(early)
    assert early.answers == asked(loan, BOB).answers == [BROKEN]


def test_a_barrier_whose_action_comes_first() -> None:
    loan = BarrierState(3)
    waiters = [asked(loan, ANN), asked(loan, BOB, True), asked(loan, EVE, True)]
    assert [each.answers for each in waiters] == [[], [[1, True]], []]
    early = asked(loan, ("next", 1))  # of the next round
    assert not loan.acted(EVE)
    assert loan.acted(BOB)
    assert [each.answers for each in waiters] == [[[0, False]], [[1, True]], [[2, False]]]
    assert early.answers == []


@pytest.mark.parametrize("gone", ["ann", "bob"])
def test_a_barrier_breaks_when_somebody_dies(gone: str) -> None:
    acting = BarrierState(2)
    first, second = asked(acting, ANN, True), asked(acting, BOB)
    acting.forget(gone)
    assert acting.broken
    assert first.answers == [[0, True]]
    assert second.answers == ([BROKEN] if gone == "ann" else [])
    assert not acting.acted(ANN)
    filling = BarrierState(3)
    first, second = asked(filling, ANN), asked(filling, BOB)
    filling.forget("bob")
    assert (first.answers, second.answers) == ([BROKEN], [])
