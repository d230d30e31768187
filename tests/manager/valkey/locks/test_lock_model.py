"""The scripts of locks do what the locks of a manager's server do: both take the same random steps.

The model is `garrison.manager.server._lock_state`, which serves the locks of a manager. Numbers of
leases are compared by their order: on Valkey they are made of the clock.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from garrison.manager.server._lock_state import (
    BarrierState,
    ConditionState,
    EventState,
    LockState,
    NotOwner,
    Waiter,
)
from garrison.manager.valkey._connection import Link, get_link
from garrison.manager.valkey._errors import ServerRefused
from garrison.manager.valkey._lock_scripts import LOCK_SCRIPTS
from valkey_server import ValkeyServer

SESSIONS, THREADS, STEPS = 3, 2, 400
LEASE_MS = 60_000
Owner = tuple[str, int]
REFUSED = "refused"
WAITING = "waiting"


class Scripts:
    """One lock on a server, used by several sessions at once."""

    def __init__(self, link: Link, kind: str, size: int) -> None:
        self._link, self._kind, self._size = link, kind, size
        self._lock = "door"
        for number in range(SESSIONS):
            self.begin(f"s{number}")

    def begin(self, session: str) -> None:
        self.run("begin", session, LEASE_MS)
        if self._kind.startswith("Condition"):
            self._open(session, "door", self._kind.removeprefix("Condition"), "")
            self._open(session, "news", "Condition", "door")
        else:
            self._open(session, "door", self._kind, "")

    def _open(self, session: str, name: str, kind: str, lock: str) -> None:
        self.run("open", session, kind, self._size, lock, 1, name=name)

    def run(self, operation: str, session: str, *args: Any, name: str = "door") -> Any:
        """Return the fields of the reply, `WAITING`, or `REFUSED`."""
        sent = (operation, session, name, *args)
        try:
            reply = self._link.run_script(LOCK_SCRIPTS[operation], [self._link.tag], sent)
        except ServerRefused as refusal:
            if refusal.text.split()[0] not in {"NOTOWNER", "LEASE"}:
                raise
            return REFUSED
        return WAITING if reply and reply[0] == b"wait" else reply

    def answer(self, owner: Owner, mark: int) -> Any:
        found = self._link.execute("LINDEX", self._link.key("wake", *owner), 0)
        if found is None:
            return WAITING
        of, *fields = map(int, found.split())
        return fields if of == mark else WAITING


class Both:
    """The model and the scripts, taking the same steps."""

    def __init__(self, model: Any, scripts: Scripts, seed: int) -> None:
        self.model, self.scripts = model, scripts
        self.random = random.Random(seed)
        self.waits: dict[Owner, tuple[int, Waiter, str]] = {}
        self.numbers: dict[int, int] = {0: 0}
        self.leases: dict[Owner, list[int]] = {}
        self.acquired: dict[Owner, int] = {}
        self._marks = itertools.count(1)
        self.lock = getattr(model, "lock", model)

    def check(self, mine: Any, theirs: Any, what: Any) -> None:
        """Compare two results; numbers of leases stand for each other from then on."""
        assert (mine is WAITING) == (theirs is WAITING), what
        assert (mine is REFUSED) == (theirs is REFUSED), what
        if mine in (WAITING, REFUSED):
            return
        wanted = mine if isinstance(mine, list) else [mine]
        assert len(theirs) == len(wanted), what
        for one, other in zip(wanted, theirs, strict=True):
            if isinstance(self.model, (EventState, BarrierState)):
                assert int(one) == other, what
                continue
            assert (one > 0) == (other > 0), what
            assert (one < 0) == (other < 0), what
            assert self.numbers.setdefault(abs(one), abs(other)) == abs(other), what
        ordered = [self.numbers[each] for each in sorted(self.numbers)]
        assert ordered == sorted(ordered)

    def began(self, owner: Owner, name: str, start: Callable[[Waiter], object], *args: Any) -> None:
        """Begin a wait in both."""
        mark = next(self._marks)
        waiter = Waiter(owner, lambda _: None)
        mine: Any
        try:
            start(waiter)
            mine = waiter.result if waiter.over else WAITING
        except NotOwner:
            mine = REFUSED
        where = "news" if name == "wait" and isinstance(self.model, ConditionState) else "door"
        theirs = self.scripts.run(name, owner[0], owner[1], mark, *args, name=where)
        self.check(mine, theirs, (name, owner, args))
        if mine is WAITING:
            self.waits[owner] = (mark, waiter, where)
        elif mine is not REFUSED and name in {"acquire", "try"} and mine:
            self.granted(owner, mark, mine)
        self.settle()

    def granted(self, owner: Owner, mark: int, number: int) -> None:
        self.leases.setdefault(owner, []).append(abs(number))
        self.acquired[owner] = mark

    def settle(self) -> None:
        """Compare what has come of all waits."""
        for owner, (mark, waiter, where) in list(self.waits.items()):
            mine = waiter.result if waiter.over else WAITING
            self.check(mine, self.scripts.answer(owner, mark), ("answer", owner))
            if waiter.over:
                del self.waits[owner]
                if isinstance(self.lock, LockState):
                    if where == "news":
                        self.leases[owner] = [abs(waiter.result)] * len(self.leases[owner])
                        self.acquired.pop(owner, None)
                    else:
                        self.granted(owner, mark, waiter.result)

    def did(self, name: str, act: Callable[[], Any], session: str, *args: Any) -> Any:
        """Do something in both that does not wait."""
        try:
            mine = act()
        except NotOwner:
            mine = REFUSED
        where = "news" if name == "notify" else "door"
        theirs = self.scripts.run(name, session, *args, name=where)
        assert (mine is REFUSED) == (theirs is REFUSED), (name, session, args)
        self.settle()
        return mine

    def leave(self, owner: Owner) -> None:
        """End a wait: its time is over."""
        mark, waiter, where = self.waits[owner]
        self.model.leave(waiter) if where == "news" else self.lock.leave(waiter)
        mine = waiter.result if waiter.over else WAITING
        if isinstance(self.model, BarrierState) and mine is None:
            mine = [-1, 0]
        theirs = self.scripts.run("leave", owner[0], owner[1], mark, name=where)
        self.check(mine, theirs, ("leave", owner))
        if waiter.over:
            del self.waits[owner]
            if where == "news":
                self.leases[owner] = [abs(waiter.result)] * len(self.leases[owner])
        self.settle()

    def end(self, session: str) -> None:
        """End a session in both, and begin it again."""
        self.model.forget(session)
        for owner in [each for each in self.waits if each[0] == session]:
            del self.waits[owner]
        kept: Any
        for kept in (self.leases, self.acquired):
            for owner in [each for each in kept if each[0] == session]:
                del kept[owner]
        self.scripts.run("end", session, name="")
        self.settle()
        self.scripts.begin(session)

    def number_of(self, owner: Owner) -> int:
        """A number that this thread states when it releases: mostly its own."""
        mine = self.leases.get(owner, [])
        if mine and self.random.random() < 0.8:
            return mine[-1]
        return 0

    def step(self) -> None:
        chance = self.random
        owner = (f"s{chance.randrange(SESSIONS)}", chance.randrange(THREADS))
        if chance.random() < 0.02:
            self.end(owner[0])
        elif owner in self.waits:
            if chance.random() < 0.2:
                self.leave(owner)
        else:
            steps = self.steps(owner)
            chance.choice(steps)()

    def steps(self, owner: Owner) -> list[Callable[[], Any]]:
        if isinstance(self.model, EventState):
            return _event_steps(self, owner)
        if isinstance(self.model, BarrierState):
            return _barrier_steps(self, owner)
        steps = _lock_steps(self, owner)
        return steps + _condition_steps(self, owner) if self.model is not self.lock else steps


def _lock_steps(both: Both, owner: Owner) -> list[Callable[[], Any]]:
    lock, session, thread = both.lock, *owner
    number = both.number_of(owner)

    def release() -> None:
        known = both.leases.get(owner, [])
        sent = both.numbers[number]
        both.acquired.pop(owner, None)
        act = lambda: lock.release(owner, number)  # noqa: E731
        outcome = both.did("release", act, session, thread, sent, 0)
        if outcome is not REFUSED and known:
            known.pop()

    def cancel() -> None:
        mark = both.acquired.pop(owner, None)
        if mark is not None and lock.depth(owner):  # else another thread has released it
            both.leases[owner].pop()
            both.did("cancel", lambda: lock.release(owner), session, thread, mark)

    return [
        lambda: both.began(owner, "acquire", lock.acquire),
        lambda: both.began(owner, "try", lock.try_acquire),
        release,
        release,
        cancel,
        lambda: (
            both.check(lock.value, both.scripts.run("value", session), "value")
            if lock.value == 0
            else None
        ),
    ]


def _condition_steps(both: Both, owner: Owner) -> list[Callable[[], Any]]:
    condition, session, thread = both.model, *owner
    number, count = both.number_of(owner), both.random.choice([1, 1, 2, None])
    sent = both.numbers[number]
    few = -1 if count is None else count
    notify = lambda: condition.notify(owner, count, number)  # noqa: E731
    return [
        lambda: both.began(owner, "wait", lambda w: condition.wait(w, number), 1, sent),
        lambda: both.did("notify", notify, session, thread, few, sent),
    ]


def _event_steps(both: Both, owner: Owner) -> list[Callable[[], Any]]:
    event, session = both.model, owner[0]
    return [
        lambda: both.began(owner, "wait", event.wait, 1),
        lambda: both.began(owner, "wait", event.wait, 1),
        lambda: both.did("set", event.set, session),
        lambda: both.did("clear", event.clear, session),
    ]


def _barrier_steps(both: Both, owner: Owner) -> list[Callable[[], Any]]:
    barrier, session, thread = both.model, *owner
    acts = both.random.random() < 0.3

    def acted() -> None:
        mine = barrier.acted(owner)
        (theirs,) = both.scripts.run("acted", session, thread)
        assert mine == bool(theirs)
        both.settle()

    wait: Callable[[], Any] = lambda: both.began(  # noqa: E731
        owner, "wait", lambda w: barrier.wait(w, acts), 1, int(acts)
    )
    return [
        *(wait, wait, wait, acted, acted),
        lambda: both.did("reset", barrier.reset, session),
        *([lambda: both.did("abort", barrier.abort, session)] * (both.random.random() < 0.3)),
    ]


def model_of(kind: str, size: int) -> Any:
    numbers = itertools.count(1)
    if kind == "Event":
        return EventState()
    if kind == "Barrier":
        return BarrierState(size)
    if kind.startswith("Condition"):
        return ConditionState(model_of(kind.removeprefix("Condition"), 1))
    take = lambda: next(numbers)  # noqa: E731
    if kind in {"Lock", "RLock"}:
        return LockState(take, recursive=kind == "RLock")
    return LockState(take, size, kind == "BoundedSemaphore", exclusive=False)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("Lock", 1),
        ("RLock", 1),
        ("Semaphore", 2),
        ("BoundedSemaphore", 2),
        ("ConditionLock", 1),
        ("ConditionRLock", 1),
        ("Event", 1),
        ("Barrier", 3),
    ],
)
def test_scripts_take_the_same_steps_as_the_locks_of_a_manager(
    valkey: ValkeyServer, kind: str, size: int, seed: int
) -> None:
    link = get_link(valkey.url())
    try:
        both = Both(model_of(kind, size), Scripts(link, kind, size), seed)
        for _ in range(STEPS):
            both.step()
    finally:
        link.close()
