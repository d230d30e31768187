"""The states of a server's locks, and what each request does to them. No I/O, no clock.

An owner is a thread of a session. When the session ends, its leases end. Each lease has a number,
the fence, larger than those of all earlier leases; so a resource can reject the requests of an
owner whose lease has expired.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Owner = tuple[Hashable, int]
    Answer = Callable[[Any], object]

__all__ = [
    "BROKEN",
    "BarrierState",
    "ConditionState",
    "EventState",
    "LeaseExpired",
    "LockState",
    "NotOwner",
    "SyncState",
    "Waiter",
]


class NotOwner(GarrisonError, ValueError):
    """The caller released, or waited with, a lock that it does not hold."""


class LeaseExpired(NotOwner):
    """The caller released a lock after its lease had expired."""


@dataclass(eq=False)
class Waiter:
    """A waiting thread: `answer` is called once, with the result of the wait."""

    owner: Owner
    answer: Answer
    over: bool = False
    result: Any = None

    def answer_once(self, result: Any) -> bool:
        """Answer, unless that happened before; return whether it did now."""
        if self.over:
            return False
        self.over, self.result = True, result
        self.answer(result)
        return True


class SyncState:
    """What locks, events, conditions and barriers have in common."""

    is_initial = False
    """Whether it is in its initial state, so that it can be forgotten and created again."""
    n_waiting = 0
    """The number of waiters."""

    def forget(self, session: Hashable) -> None:
        """End the leases and the waits of a session."""
        raise NotImplementedError

    def is_used_by(self, session: Hashable) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a session holds it or waits for it."""
        return False


@dataclass
class LockState(SyncState):
    """A lock, a recursive lock, or a semaphore.

    Parameters
    ----------
    next_number
        Returns the number of the next lease.
    permits : int
        The initial number of permits.
    bounded : bool
        Whether releasing more permits than were acquired is an error.
    recursive : bool
        Whether its owner, and only its owner, may acquire it again and release it.
    exclusive : bool
        Whether it is a lock, with one lease at a time.
    """

    next_number: Callable[[], int]
    permits: int = 1
    bounded: bool = True
    recursive: bool = False
    exclusive: bool = True
    _counts: Counter[Owner] = field(default_factory=Counter)
    _numbers: dict[Owner, int] = field(default_factory=dict)
    _waiting: deque[Waiter] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._free = self.permits

    @property
    def value(self) -> int:
        """The number of free permits."""
        return self._free

    @property
    def is_initial(self) -> bool:  # type: ignore[override]
        """Whether all permits are free and there is no waiter."""
        return self._free == self.permits and not self._waiting

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """The number of waiters."""
        return len(self._waiting)

    def acquire(self, waiter: Waiter) -> bool:
        """Grant it to a waiter now, or queue the waiter; return whether it was now."""
        if self.recursive and self._counts[waiter.owner]:
            self._counts[waiter.owner] += 1
            return waiter.answer_once(self._numbers[waiter.owner])
        self._waiting.append(waiter)
        self._grant()
        return waiter.over

    def try_acquire(self, waiter: Waiter) -> None:
        """Grant it now or not at all."""
        if not self.acquire(waiter):
            self.leave(waiter)

    def leave(self, waiter: Waiter) -> None:
        """End a wait without success."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        waiter.answer_once(0)

    def check(self, number: int, since: int = 0) -> None:
        """Raise if a lease has expired.

        Parameters
        ----------
        number : int
            The lease's number; 0 if the caller states none.
        since : int
            The first number that the caller's session can have received.
        """
        current = number in self._numbers.values() if self.exclusive else number >= since
        if number and not current:
            raise LeaseExpired(
                f"lease {number} has expired: another thread released it, or it ended when the "
                "connection was lost"
            )

    def release(self, owner: Owner, number: int = 0, since: int = 0) -> None:
        """Release one permit; an owner that knows the number of its lease states it."""
        self.check(number, since)
        if not self._counts[owner]:
            if self.recursive:
                raise NotOwner("cannot release a lock that this thread has not acquired")
            # As with `threading.Lock`, any thread may release it.
            owner = next((each for each, count in self._counts.items() if count), owner)
            if self.bounded and not self._counts[owner]:
                raise NotOwner("released too many times")
        self._release_one(owner)
        self._grant()

    def _release_one(self, owner: Owner) -> None:
        if self._counts[owner]:
            self._counts[owner] -= 1
        if self._counts[owner]:
            if self.recursive:
                return
        else:
            del self._counts[owner]
            self._numbers.pop(owner, None)
        self._free += 1

    def _grant(self) -> None:
        while self._free and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.over:
                self._free -= 1
                self._counts[waiter.owner] += 1
                number = self._numbers[waiter.owner] = self.next_number()
                waiter.answer_once(number)

    def depth(self, owner: Owner) -> int:
        """How many times an owner has acquired it."""
        return self._counts[owner]

    def give_up(self, owner: Owner) -> int:
        """Release it completely; return how many times it was acquired."""
        depth = self._counts.pop(owner, 0)
        self._numbers.pop(owner, None)
        self._free += min(depth, 1) if self.recursive else depth
        self._grant()
        return depth

    def reacquire(self, owner: Owner, depth: int, answer: Answer) -> None:
        """Grant it `depth` times again, and answer with the new lease's number."""

        def deepen(number: int) -> None:
            self._counts[owner] = depth
            answer(number)

        self.acquire(Waiter(owner, deepen))

    def is_used_by(self, session: Hashable) -> bool:
        """Whether a session holds it or waits for it."""
        return any(
            each[0] == session
            for each in (*self._counts, *(waiter.owner for waiter in self._waiting))
        )

    def forget(self, session: Hashable) -> None:
        """End the leases and the waits of a session."""
        for waiter in [each for each in self._waiting if each.owner[0] == session]:
            self._waiting.remove(waiter)
            waiter.over = True
        for owner in [each for each in self._counts if each[0] == session]:
            self.give_up(owner)


@dataclass
class EventState(SyncState):
    """A flag."""

    is_set: bool = False
    _waiting: list[Waiter] = field(default_factory=list)

    @property
    def is_initial(self) -> bool:  # type: ignore[override]
        """Whether it is clear and there is no waiter."""
        return not self.is_set and not self._waiting

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """The number of waiters."""
        return len(self._waiting)

    def wait(self, waiter: Waiter) -> None:
        """Answer when it is set."""
        if self.is_set:
            waiter.answer_once(True)
        else:
            self._waiting.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """End a wait without success."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        waiter.answer_once(False)

    def set(self) -> None:
        """Set the flag, and answer all waiters."""
        self.is_set = True
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.answer_once(True)

    def clear(self) -> None:
        """Clear the flag: later waits block."""
        self.is_set = False

    def forget(self, session: Hashable) -> None:
        """Remove the waits of a session."""
        self._waiting = [each for each in self._waiting if each.owner[0] != session]

    def is_used_by(self, session: Hashable) -> bool:
        """Whether a session waits."""
        return any(each.owner[0] == session for each in self._waiting)


@dataclass
class ConditionState(SyncState):
    """A lock and the waiters for a notification."""

    lock: LockState
    _waiting: deque[tuple[Waiter, int]] = field(default_factory=deque)

    @property
    def is_initial(self) -> bool:  # type: ignore[override]
        """Whether the lock is free and there is no waiter."""
        return self.lock.is_initial and not self._waiting

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """The number of waiters for a notification."""
        return len(self._waiting)

    def _check(self, owner: Owner) -> None:
        if not self.lock.depth(owner):
            raise NotOwner("cannot wait on or notify an un-acquired lock")

    def wait(self, waiter: Waiter, number: int = 0) -> None:
        """Release the lock; answer after a notification, once the lock is acquired again.

        The answer is the number of the new lease, negated if there was no notification.
        """
        self.lock.check(number)
        self._check(waiter.owner)
        self._waiting.append((waiter, self.lock.give_up(waiter.owner)))

    def leave(self, waiter: Waiter) -> None:
        """End the wait for a notification; the lock is acquired again all the same."""
        for entry in self._waiting:
            if entry[0] is waiter:
                self._waiting.remove(entry)
                self._return(waiter, entry[1], False)
                return

    def _return(self, waiter: Waiter, depth: int, notified: bool) -> None:
        self.lock.reacquire(
            waiter.owner,
            depth,
            lambda number: waiter.answer_once(number if notified else -number),
        )

    def notify(self, owner: Owner, count: int | None, number: int = 0) -> None:
        """Wake `count` waiters, or all."""
        self.lock.check(number)
        self._check(owner)
        for _ in range(len(self._waiting) if count is None else min(count, len(self._waiting))):
            waiter, depth = self._waiting.popleft()
            self._return(waiter, depth, True)

    def forget(self, session: Hashable) -> None:
        """End the lease and the waits of a session."""
        self.lock.forget(session)
        kept = [each for each in self._waiting if each[0].owner[0] != session]
        self._waiting = deque(kept)

    def is_used_by(self, session: Hashable) -> bool:
        """Whether a session holds the lock or waits."""
        waits = any(waiter.owner[0] == session for waiter, _ in self._waiting)
        return waits or self.lock.is_used_by(session)


BROKEN = [-1, False]
"""The result of a wait at a broken barrier."""


@dataclass
class BarrierState(SyncState):
    """A point that a number of parties pass together.

    ::

        filling ──all are here──▶ passed
           │  └──one can act──▶ acting ──acted──▶ passed
           └── a timeout, a death, abort ──▶ broken, until reset ◀──┘

    The result of a wait is [index, whether this party runs the action], or `BROKEN`.
    """

    parties: int
    broken: bool = False
    _waiting: list[tuple[Waiter, bool]] = field(default_factory=list)
    _actor: Owner | None = None
    _behind: list[tuple[Waiter, int]] = field(default_factory=list)
    """The waiters that pass once the action is done, and their indices."""

    @property
    def is_initial(self) -> bool:  # type: ignore[override]
        """Whether there is no waiter and it is not broken."""
        return not self._waiting and self._actor is None and not self.broken

    @property
    def n_waiting(self) -> int:  # type: ignore[override]
        """The number of parties that have arrived."""
        return len(self._waiting)

    def wait(self, waiter: Waiter, can_act: bool = False) -> None:
        """Arrive at the barrier."""
        if self.broken:
            waiter.answer_once(BROKEN)
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
        self._actor, self._behind = chosen.owner, places
        chosen.answer_once([place, True])

    @staticmethod
    def _let_pass(places: list[tuple[Waiter, int]]) -> None:
        for waiter, place in places:
            waiter.answer_once([place, False])

    def acted(self, owner: Owner) -> bool:
        """The action is done: let the others pass; return False if the barrier is broken."""
        if self._actor != owner:
            return False
        behind, self._behind, self._actor = self._behind, [], None
        self._let_pass(behind)
        self._begin_round()
        return True

    def _break_all(self) -> None:
        all_of_them = [waiter for waiter, _ in (*self._waiting, *self._behind)]
        self._waiting, self._behind, self._actor = [], [], None
        for waiter in all_of_them:
            waiter.answer_once(BROKEN)

    def abort(self) -> None:
        """Break it for all."""
        self.broken = True
        self._break_all()

    def leave(self, waiter: Waiter) -> None:
        """End a wait; that breaks the barrier."""
        if not waiter.over:
            self.abort()

    def reset(self) -> None:
        """Start a new round; present waiters find the barrier broken."""
        self._break_all()
        self.broken = False

    def is_used_by(self, session: Hashable) -> bool:
        """Whether a session waits, or runs the action."""
        owners = [waiter.owner for waiter, _ in (*self._waiting, *self._behind)]
        return any(each[0] == session for each in (*owners, self._actor or (None, 0)))

    def forget(self, session: Hashable) -> None:
        """Break the barrier if a party of the session waits, or runs the action."""
        if self.is_used_by(session):
            for waiter, _ in (*self._waiting, *self._behind):
                waiter.over |= waiter.owner[0] == session
            self.abort()
