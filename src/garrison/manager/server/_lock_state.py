"""Locks that a server lends: what each request does to them. No I/O, no clock.

A borrower is (session, thread). What it has comes back when its session is gone. Every loan has a
number, larger than those before it: whoever guards a resource can turn away a borrower whose
loan is over and who does not know it yet.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Borrower = tuple[Hashable, int]
    Answer = Callable[[Any], object]

__all__ = [
    "BROKEN",
    "BarrierLoan",
    "ConditionLoan",
    "EventLoan",
    "Loan",
    "LoanOver",
    "LockLoan",
    "NotYours",
    "Waiter",
]


class NotYours(GarrisonError, ValueError):
    """Given back, or waited with, by somebody who does not have it."""


class LoanOver(NotYours):
    """Given back after it had come back by itself."""


@dataclass(eq=False)
class Waiter:
    """Somebody who waits: `answer` is called once, with what the wait has come to."""

    borrower: Borrower
    answer: Answer
    over: bool = False
    result: Any = None

    def settle(self, result: Any) -> bool:
        """Answer, unless that has happened."""
        if self.over:
            return False
        self.over, self.result = True, result
        self.answer(result)
        return True


class Loan:
    """What all of them can: forget a session."""

    at_rest = False
    """Whether it is as it was made, so that nothing is lost if it is made again."""
    n_waiting = 0
    """How many wait for it."""

    def forget(self, session: Hashable) -> None:
        """Take back what a session has, and let its waits go."""
        raise NotImplementedError

    def is_lent_to(self, session: Hashable) -> bool:  # noqa: ARG002 - for those that are lent
        """Whether a session has any of it, or waits for it."""
        return False


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
    exclusive : bool
        Whether it is a lock, so that there is one loan at a time.
    """

    next_number: Callable[[], int]
    permits: int = 1
    bounded: bool = True
    recursive: bool = False
    exclusive: bool = True
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

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """How many wait for it."""
        return len(self._waiting)

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

    def check(self, number: int, since: int = 0) -> None:
        """Raise if a loan is over.

        Parameters
        ----------
        number : int
            The loan's; 0 if whoever asks does not say that he was lent anything.
        since : int
            The first number that may have been lent to his session.
        """
        current = number in self._numbers.values() if self.exclusive else number >= since
        if number and not current:
            raise LoanOver(
                f"loan {number} is over: somebody gave it back, or it came back by itself when "
                "the connection was lost"
            )

    def release(self, borrower: Borrower, number: int = 0, since: int = 0) -> None:
        """Take one back; who was lent it under a number says so."""
        self.check(number, since)
        if not self._borrowed[borrower]:
            if self.recursive:
                raise NotYours("cannot release a lock that this thread has not acquired")
            # As a `threading.Lock`, it may be released by another than who has it.
            borrower = next((each for each, count in self._borrowed.items() if count), borrower)
            if self.bounded and not self._borrowed[borrower]:
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

    def lend_again(self, borrower: Borrower, depth: int, answer: Answer) -> None:
        """Lend as often as it was given up, and answer with the new number."""

        def deepen(number: int) -> None:
            self._borrowed[borrower] = depth
            answer(number)

        self.acquire(Waiter(borrower, deepen))

    def is_lent_to(self, session: Hashable) -> bool:
        """Whether a session has any of it, or waits for it."""
        return any(
            each[0] == session
            for each in (*self._borrowed, *(waiter.borrower for waiter in self._waiting))
        )

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

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """How many wait for it to be set."""
        return len(self._waiting)

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

    def is_lent_to(self, session: Hashable) -> bool:
        """Whether a session waits."""
        return any(each.borrower[0] == session for each in self._waiting)


@dataclass
class ConditionLoan(Loan):
    """A lock, with a place to wait for a change."""

    lock: LockLoan
    _waiting: deque[tuple[Waiter, int]] = field(default_factory=deque)

    @property
    def at_rest(self) -> bool:  # type: ignore[override]
        """Whether nobody has the lock or waits."""
        return self.lock.at_rest and not self._waiting

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """How many wait for a change."""
        return len(self._waiting)

    def _check(self, borrower: Borrower) -> None:
        if not self.lock.depth(borrower):
            raise NotYours("cannot wait on or notify an un-acquired lock")

    def wait(self, waiter: Waiter, number: int = 0) -> None:
        """Give the lock up; answer once somebody has notified and the lock is lent again.

        The answer is the number of the new loan, negative if nobody has notified.
        """
        self.lock.check(number)
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
        self.lock.lend_again(
            waiter.borrower,
            depth,
            lambda number: waiter.settle(number if notified else -number),
        )

    def notify(self, borrower: Borrower, count: int | None, number: int = 0) -> None:
        """Let some, or all, of those who wait go on."""
        self.lock.check(number)
        self._check(borrower)
        for _ in range(len(self._waiting) if count is None else min(count, len(self._waiting))):
            waiter, depth = self._waiting.popleft()
            self._return(waiter, depth, True)

    def forget(self, session: Hashable) -> None:
        """Let a session's waits go, and take the lock back."""
        self.lock.forget(session)
        kept = [each for each in self._waiting if each[0].borrower[0] != session]
        self._waiting = deque(kept)

    def is_lent_to(self, session: Hashable) -> bool:
        """Whether a session has the lock, or waits."""
        waits = any(waiter.borrower[0] == session for waiter, _ in self._waiting)
        return waits or self.lock.is_lent_to(session)


BROKEN = [-1, False]
"""What a wait at a barrier has come to that is broken."""


@dataclass
class BarrierLoan(Loan):
    """A point that a number of parties pass together.

    ::

        filling ──all are here──▶ passed
           │  └──one can act──▶ acting ──acted──▶ passed
           └── a timeout, a death, abort ──▶ broken, until reset ◀──┘

    A wait comes to [number of the place, whether this one is to act], or to `BROKEN`.
    """

    parties: int
    broken: bool = False
    _waiting: list[tuple[Waiter, bool]] = field(default_factory=list)
    _actor: Borrower | None = None
    _behind: list[tuple[Waiter, int]] = field(default_factory=list)
    """Who waits until it has acted, and their places."""

    @property
    def at_rest(self) -> bool:  # type: ignore[override]
        """Whether nobody waits and it is whole."""
        return not self._waiting and self._actor is None and not self.broken

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """How many have come."""
        return len(self._waiting)

    def wait(self, waiter: Waiter, can_act: bool = False) -> None:
        """Come to the barrier."""
        if self.broken:
            waiter.settle(BROKEN)
            return
        self._waiting.append((waiter, can_act))
        self._begin_round()

    def _begin_round(self) -> None:
        if self._actor is not None or len(self._waiting) < self.parties:
            return
        come, self._waiting = self._waiting[: self.parties], self._waiting[self.parties :]
        places = [(waiter, place) for place, (waiter, _) in enumerate(come)]
        actor = next((place for place, (_, can_act) in enumerate(come) if can_act), None)
        if actor is None:
            self._let_pass(places)
            return
        chosen, place = places.pop(actor)
        self._actor, self._behind = chosen.borrower, places
        chosen.settle([place, True])

    @staticmethod
    def _let_pass(places: list[tuple[Waiter, int]]) -> None:
        for waiter, place in places:
            waiter.settle([place, False])

    def acted(self, borrower: Borrower) -> bool:
        """Let the others pass; whether the barrier is still whole."""
        if self._actor != borrower:
            return False
        behind, self._behind, self._actor = self._behind, [], None
        self._let_pass(behind)
        self._begin_round()
        return True

    def _break_all(self) -> None:
        all_of_them = [waiter for waiter, _ in (*self._waiting, *self._behind)]
        self._waiting, self._behind, self._actor = [], [], None
        for waiter in all_of_them:
            waiter.settle(BROKEN)

    def abort(self) -> None:
        """Break it for all."""
        self.broken = True
        self._break_all()

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer, which breaks it."""
        if not waiter.over:
            self.abort()

    def reset(self) -> None:
        """Begin anew; who waits finds it broken."""
        self._break_all()
        self.broken = False

    def is_lent_to(self, session: Hashable) -> bool:
        """Whether a session waits, or acts."""
        borrowers = [waiter.borrower for waiter, _ in (*self._waiting, *self._behind)]
        return any(each[0] == session for each in (*borrowers, self._actor or (None, 0)))

    def forget(self, session: Hashable) -> None:
        """Break it if one of those who wait, or act, is gone."""
        if self.is_lent_to(session):
            for waiter, _ in (*self._waiting, *self._behind):
                waiter.over |= waiter.borrower[0] == session
            self.abort()
