"""The states of server locks: the effect of each request, without a server."""

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

    def __init__(self, client: Any) -> None:
        self.answers: list[Any] = []
        super().__init__(client, self.answers.append)


def asked(state: Any, client: Any, *more: Any) -> Asked:
    waiter = Asked(client)
    (state.acquire if isinstance(state, LockState) else state.wait)(waiter, *more)
    return waiter


def test_lock_is_granted_in_order_of_requests() -> None:
    state = lock()
    first, second, third = (asked(state, each) for each in (ANN, BOB, EVE))
    assert (first.answers, second.answers, state.n_waiting, state.value) == ([1], [], 2, 0)
    state.release(ANN, 1)
    assert (second.answers, third.answers) == ([2], [])
    state.release(BOB, 2)
    state.release(EVE, 3)
    assert (third.answers, state.is_initial) == ([3], True)


def test_a_lock_may_be_released_by_another() -> None:
    state = lock()
    asked(state, ANN)
    state.release(BOB)
    assert state.is_initial
    with pytest.raises(NotOwner, match="too many"):
        state.release(BOB)


def test_expired_lease_is_not_released() -> None:
    state = lock()
    asked(state, ANN)
    state.forget("ann")
    assert asked(state, BOB).answers == [2]
    with pytest.raises(LeaseExpired, match="lease 1 has expired"):
        state.release(("ann again", 1), 1)
    assert state.value == 0


def test_cancelled_waiter_is_passed_over() -> None:
    state = lock()
    asked(state, ANN)
    tired, patient = asked(state, BOB), asked(state, EVE)
    state.leave(tired)
    assert tired.answers == [0]
    state.release(ANN, 1)
    assert (tired.answers, patient.answers) == ([0], [2])


def test_a_session_that_is_gone_is_passed_over() -> None:
    state = lock()
    asked(state, ANN)
    gone, patient = asked(state, BOB), asked(state, EVE)
    state.forget("bob")
    state.forget("ann")
    assert (gone.answers, patient.answers) == ([], [2])


def test_rlock_belongs_to_its_owner() -> None:
    state = lock(recursive=True)
    assert [asked(state, ANN).answers for _ in range(2)] == [[1], [1]]
    waiting = asked(state, BOB)
    with pytest.raises(NotOwner, match="not acquired"):
        state.release(("ann", 2), 1)
    state.release(ANN, 1)
    assert waiting.answers == []
    state.release(ANN, 1)
    assert waiting.answers == [2]
    state.forget("bob")
    assert state.is_initial


def test_semaphore_grants_its_permits() -> None:
    state = lock(permits=2, bounded=False, exclusive=False)
    waiters = [asked(state, each) for each in (ANN, ANN, BOB)]
    assert [each.answers for each in waiters] == [[1], [2], []]
    state.forget("ann")
    assert waiters[2].answers == [3]
    assert state.value == 1
    with pytest.raises(LeaseExpired):
        state.release(("ann again", 1), 2, since=4)
    state.release(BOB, 3)
    state.release(BOB)
    assert state.value == 3


def test_bounded_semaphore_refuses_extra_releases() -> None:
    state = lock(permits=2, exclusive=False)
    asked(state, ANN)
    state.release(BOB)
    with pytest.raises(NotOwner, match="too many"):
        state.release(BOB)


def test_event_wakes_all_waiters() -> None:
    state = EventState()
    early, tired, gone = asked(state, ANN), asked(state, BOB), asked(state, EVE)
    state.leave(tired)
    state.forget("eve")
    state.set()
    late = asked(state, BOB)
    assert [each.answers for each in (early, tired, gone, late)] == [[True], [False], [], [True]]
    state.clear()
    assert asked(state, ANN).answers == []


def test_condition_notifies_in_order() -> None:
    state = ConditionState(lock(recursive=True))
    for each in (ANN, ANN):  # twice: a wait gives all of it up
        asked(state.lock, each)
    first = asked(state, ANN, 1)
    asked(state.lock, BOB)
    second = asked(state, BOB, 2)
    asked(state.lock, EVE)
    state.notify(EVE, 1, 3)
    assert (first.answers, second.answers) == ([], [])
    state.lock.release(EVE, 3)
    assert (first.answers, second.answers) == ([4], [])
    assert state.lock.depth(ANN) == 2
    state.leave(second)
    assert second.answers == []
    state.forget("ann")
    assert second.answers == [-5]
    state.lock.release(BOB, 5)
    assert state.is_initial


def test_condition_requires_its_lock() -> None:
    state = ConditionState(lock(recursive=True))
    for attempt in (lambda: asked(state, ANN), lambda: state.notify(ANN, 1)):
        with pytest.raises(NotOwner, match="un-acquired"):
            attempt()
    asked(state.lock, ANN)
    state.forget("ann")
    with pytest.raises(LeaseExpired):
        asked(state, ("ann again", 1), 1)


def test_barrier_opens_with_its_last_party() -> None:
    state = BarrierState(2)
    for _ in range(2):
        waiters = [asked(state, each) for each in (ANN, BOB)]
        assert [each.answers for each in waiters] == [[[0, False]], [[1, False]]]
    early = asked(state, ANN)
    state.reset()
    assert (early.answers, state.is_initial) == ([BROKEN], True)
    early = asked(state, ANN)
    state.leave(early)
    assert early.answers == asked(state, BOB).answers == [BROKEN]


def test_barrier_action_runs_before_the_parties_go_on() -> None:
    state = BarrierState(3)
    waiters = [asked(state, ANN), asked(state, BOB, True), asked(state, EVE, True)]
    assert [each.answers for each in waiters] == [[], [[1, True]], []]
    early = asked(state, ("next", 1))  # of the next round
    assert not state.acted(EVE)
    assert state.acted(BOB)
    assert [each.answers for each in waiters] == [[[0, False]], [[1, True]], [[2, False]]]
    assert early.answers == []


@pytest.mark.parametrize("gone", ["ann", "bob"])
def test_barrier_breaks_when_a_session_ends(gone: str) -> None:
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
