"""Locks that a server lends: what each request does to them. No I/O, no clock.

A borrower is (session, thread). What it has comes back when its session is gone. Every loan has a
number, larger than those before it: whoever guards a resource can turn away a borrower whose
loan is over and who does not know it yet.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Borrower = tuple[Hashable, int]
    Answer = Callable[[Any], object]

__all__ = [
    "BarrierLoan",
    "ConditionLoan",
    "EventLoan",
    "Loan",
    "LoanOver",
    "LockLoan",
    "NotYours",
    "Waiter",
]


class NotYours(ValueError):
    """Given back by somebody who does not have it."""


class LoanOver(NotYours):
    """Given back after it had come back by itself."""


@dataclass
class Waiter:
    """Somebody who waits: `answer` is called once, with what the wait has come to."""

    borrower: Borrower
    answer: Answer
    over: bool = False

    def settle(self, result: Any) -> bool:
        """Answer, unless that has happened."""
        if self.over:
            return False
        self.over = True
        self.answer(result)
        return True


class Loan:
    """What all of them can: forget a session."""

    at_rest = False
    """Whether it is as it was made, so that nothing is lost if it is made again."""

    def forget(self, session: Hashable) -> None:
        """Take back what a session has, and let its waits go."""
        raise NotImplementedError


@dataclass
class LockLoan(Loan):
    """A lock, one that may be taken again, or a number of permits.

    Parameters
    ----------
    next_number
        Gives a loan's number.
    permits : int
        How many there are to begin with.
    bounded : bool
        Whether no more may be given back than were taken.
    recursive : bool
        Whether its borrower, and nobody else, may take it again and give it back.
    """

    next_number: Callable[[], int]
    permits: int = 1
    bounded: bool = True
    recursive: bool = False
    _borrowed: Counter[Borrower] = field(default_factory=Counter)
    _numbers: dict[Borrower, int] = field(default_factory=dict)
    _waiting: deque[Waiter] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._free = self.permits

    @property
    def value(self) -> int:
        """How many permits are free."""
        return self._free

    @property
    def at_rest(self) -> bool:  # type: ignore[override]
        """Whether it is as it was made."""
        return self._free == self.permits and not self._waiting

    def acquire(self, waiter: Waiter) -> bool:
        """Lend to a waiter now, or note that it waits; whether it was now."""
        if self.recursive and self._borrowed[waiter.borrower]:
            self._borrowed[waiter.borrower] += 1
            return waiter.settle(self._numbers[waiter.borrower])
        self._waiting.append(waiter)
        self._lend()
        return waiter.over

    def try_acquire(self, waiter: Waiter) -> None:
        """Lend now or never."""
        if not self.acquire(waiter):
            self.leave(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        waiter.settle(0)

    def release(self, borrower: Borrower, number: int = 0) -> None:
        """Take one back; who was lent it under a number says so."""
        if number and number not in self._numbers.values():
            msg = (
                f"loan {number} is over: the connection was lost since, and what was lent came back"
            )
            raise LoanOver(msg)
        mine = self._borrowed[borrower]
        if self.recursive and not mine:
            raise NotYours("cannot release a lock that this thread has not acquired")
        if not mine and self.bounded:
            # As a `threading.Lock`, it may be released by another than who has it.
            borrower = next((each for each, count in self._borrowed.items() if count), borrower)
            if not self._borrowed[borrower]:
                raise NotYours("released too many times")
        self._take_back(borrower)
        self._lend()

    def _take_back(self, borrower: Borrower) -> None:
        if self._borrowed[borrower]:
            self._borrowed[borrower] -= 1
        if self._borrowed[borrower]:
            if self.recursive:
                return
        else:
            del self._borrowed[borrower]
            self._numbers.pop(borrower, None)
        self._free += 1

    def _lend(self) -> None:
        while self._free and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.over:
                self._free -= 1
                self._borrowed[waiter.borrower] += 1
                number = self._numbers[waiter.borrower] = self.next_number()
                waiter.settle(number)

    def depth(self, borrower: Borrower) -> int:
        """How often somebody has it."""
        return self._borrowed[borrower]

    def give_up(self, borrower: Borrower) -> int:
        """Take it back however often it was taken; return how often that was."""
        depth = self._borrowed.pop(borrower, 0)
        self._numbers.pop(borrower, None)
        self._free += min(depth, 1) if self.recursive else depth
        self._lend()
        return depth

    def lend_again(self, waiter: Waiter, depth: int) -> None:
        """Lend as often as it was given up."""

        def deepen(number: int) -> None:
            self._borrowed[waiter.borrower] = depth
            waiter.settle(number)

        self.acquire(Waiter(waiter.borrower, deepen))

    def forget(self, session: Hashable) -> None:
        """Take back what a session has."""
        for waiter in [each for each in self._waiting if each.borrower[0] == session]:
            self._waiting.remove(waiter)
            waiter.over = True
        for borrower in [each for each in self._borrowed if each[0] == session]:
            self.give_up(borrower)


@dataclass
class EventLoan(Loan):
    """A flag."""

    is_set: bool = False
    _waiting: list[Waiter] = field(default_factory=list)

    @property
    def at_rest(self) -> bool:  # type: ignore[override]
        """Whether it is clear and nobody waits."""
        return not self.is_set and not self._waiting

    def wait(self, waiter: Waiter) -> None:
        """Answer when it is set."""
        if self.is_set:
            waiter.settle(True)
        else:
            self._waiting.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        waiter.settle(False)

    def set(self) -> None:
        """Answer to all who wait."""
        self.is_set = True
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.settle(True)

    def clear(self) -> None:
        """Let who comes from now on wait."""
        self.is_set = False

    def forget(self, session: Hashable) -> None:
        """Let a session's waits go."""
        self._waiting = [each for each in self._waiting if each.borrower[0] != session]


@dataclass
class ConditionLoan(Loan):
    """A lock, with a place to wait for a change."""

    lock: LockLoan
    _waiting: deque[tuple[Waiter, int]] = field(default_factory=deque)

    @property
    def at_rest(self) -> bool:  # type: ignore[override]
        """Whether nobody has the lock or waits."""
        return self.lock.at_rest and not self._waiting

    def _check(self, borrower: Borrower) -> None:
        if not self.lock.depth(borrower):
            raise RuntimeError("cannot wait on or notify an un-acquired lock")

    def wait(self, waiter: Waiter) -> None:
        """Give the lock up; answer once somebody has notified and the lock is lent again."""
        self._check(waiter.borrower)
        self._waiting.append((waiter, self.lock.give_up(waiter.borrower)))

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer for the change; the lock must be had all the same."""
        for entry in self._waiting:
            if entry[0] is waiter:
                self._waiting.remove(entry)
                self._return(waiter, entry[1], False)
                return

    def _return(self, waiter: Waiter, depth: int, notified: bool) -> None:
        back = Waiter(waiter.borrower, lambda _: waiter.settle(notified))
        self.lock.lend_again(back, depth)

    def notify(self, borrower: Borrower, count: int | None) -> None:
        """Let some, or all, of those who wait go on."""
        self._check(borrower)
        for _ in range(len(self._waiting) if count is None else min(count, len(self._waiting))):
            waiter, depth = self._waiting.popleft()
            self._return(waiter, depth, True)

    def forget(self, session: Hashable) -> None:
        """Let a session's waits go, and take the lock back."""
        self.lock.forget(session)
        kept = [each for each in self._waiting if each[0].borrower[0] != session]
        self._waiting = deque(kept)


@dataclass
class BarrierLoan(Loan):
    """A point that a number of parties pass together."""

    parties: int
    broken: bool = False
    _waiting: list[Waiter] = field(default_factory=list)

    @property
    def at_rest(self) -> bool:  # type: ignore[override]
        """Whether nobody waits and it is whole."""
        return not self._waiting and not self.broken

    @property
    def n_waiting(self) -> int:
        """How many have come."""
        return len(self._waiting)

    def wait(self, waiter: Waiter) -> None:
        """Answer with the number of the place in the round, or -1 if it is broken."""
        if self.broken:
            waiter.settle(-1)
            return
        self._waiting.append(waiter)
        if len(self._waiting) == self.parties:
            self._answer_all(range(self.parties))

    def _answer_all(self, results: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter, result in zip(waiting, results, strict=True):
            waiter.settle(result)

    def abort(self) -> None:
        """Break it for all."""
        self.broken = True
        self._answer_all([-1] * len(self._waiting))

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer, which breaks it."""
        if waiter in self._waiting:
            self.abort()

    def reset(self) -> None:
        """Begin anew; who waits finds it broken."""
        self._answer_all([-1] * len(self._waiting))
        self.broken = False

    def forget(self, session: Hashable) -> None:
        """Break it if one of those who wait is gone."""
        if any(each.borrower[0] == session for each in self._waiting):
            self._waiting = [each for each in self._waiting if each.borrower[0] != session]
            self.abort()
