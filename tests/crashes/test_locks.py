"""A process is killed at each named point of each operation on a lock, and so is its successor.

::

    victim     does an operation, and dies at a point
    successor  takes the lock, and dies at a point of that, or at none
    checkers   two processes that take turns with the lock, and count
"""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from garrison import _core
from garrison.errors import AbandonedLock, OwnerDied
from garrison.memory import SharedBlock
from garrison.sync import Lock, RLock
from sync.forked import Forked, armed, died
from waiting import wait_until

if TYPE_CHECKING:
    from garrison.sync import OnAbandon

Mutex = Lock | RLock
POINTS = [
    point for point in _core.CRASH_POINTS if point.partition(".")[0] in {"agent", "lock", "chunk"}
]
SIGNED = frozenset({"agent.slot_taken", "agent.registered"})
PLAIN = SIGNED | {"lock.taken", "lock.released"}
WAITED = PLAIN | {"lock.marked", "lock.woken"}
TURNS = 10

if not POINTS:
    pytest.skip("a build with the feature crash-points", allow_module_level=True)


def has_waiter(lock: Mutex) -> bool:
    return bool(memoryview(lock._location[0])[3] & 0x80)


def over(child: Forked) -> None:
    """Wait for a process that may wait for the lock of a dead one, and tell it, as a pool does."""

    def is_over() -> bool:
        _core.announce_death()
        return child.is_over()

    wait_until(is_over)


# What the victims do.


def take_and_release(lock: Mutex) -> None:
    lock.acquire()
    lock.release()


def attempt(lock: Mutex) -> None:
    if lock.acquire(timeout=0):
        lock.release()


def nest(lock: Mutex) -> None:
    with lock, lock, lock:
        pass


def pass_on(lock: Mutex) -> None:
    with lock:
        wait_until(lambda: has_waiter(lock))


def allocate(lock: Mutex) -> None:
    with lock:
        made = [Lock() for _ in range(70)]
        with made[-1]:
            SharedBlock(100_000)


def recover(lock: Mutex) -> None:
    lock.recover()
    lock.release()


def refuse(lock: Mutex) -> None:
    with contextlib.suppress(OwnerDied):
        lock.acquire()


def give_back(lock: Mutex) -> None:
    with warnings.catch_warnings(), contextlib.suppress(AbandonedLock):
        warnings.simplefilter("error", AbandonedLock)
        lock.acquire()


# What others do around them.


@contextlib.contextmanager
def alone(lock: Mutex, victim: Callable[[], Forked]) -> Iterator[Forked]:
    with victim() as child:
        yield child


@contextlib.contextmanager
def held(lock: Mutex, victim: Callable[[], Forked]) -> Iterator[Forked]:
    """Another one has it, until the victim waits."""
    lock.acquire()
    with victim() as child:
        wait_until(lambda: has_waiter(lock) or child.is_over())
        lock.release()
        yield child


@contextlib.contextmanager
def wanted(lock: Mutex, victim: Callable[[], Forked]) -> Iterator[Forked]:
    """Another one waits for it while the victim has it."""
    with victim() as child:
        wait_until(lambda: lock.locked() or child.is_over())
        with Forked(successor_of(lock)) as waiter:
            yield child
            over(waiter)
            assert waiter.answer() == "None"


@contextlib.contextmanager
def abandoned(lock: Mutex, victim: Callable[[], Forked]) -> Iterator[Forked]:
    """Another one has died with it."""

    def die() -> None:
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    with Forked(die) as child:
        child.join()
    with victim() as child:
        yield child


@dataclass(frozen=True)
class Operation:
    """What a victim does, to what kind of lock, in which surroundings, through which points."""

    act: Callable[[Mutex], None]
    around: Callable[..., contextlib.AbstractContextManager[Forked]]
    kind: type[Mutex] = Lock
    mode: OnAbandon = "ignore"
    points: frozenset[str] = PLAIN


INHERITED = {"lock.inherited"}
OPERATIONS = {
    "acquire and release": Operation(take_and_release, alone),
    "attempt": Operation(attempt, alone),
    "acquire while it is held": Operation(take_and_release, held, points=WAITED),
    "attempt while it is held": Operation(attempt, held, points=SIGNED | {"lock.marked"}),
    "release while it is wanted": Operation(pass_on, wanted),
    "nest": Operation(nest, alone, RLock),
    "nest while it is held": Operation(nest, held, RLock, points=WAITED),
    "release a recursive one while it is wanted": Operation(pass_on, wanted, RLock),
    "inherit": Operation(take_and_release, abandoned, points=WAITED | INHERITED),
    "inherit a recursive one": Operation(nest, abandoned, RLock, points=WAITED | INHERITED),
    "inherit by an attempt": Operation(attempt, abandoned, points=PLAIN | INHERITED),
    "inherit and give back": Operation(
        give_back, abandoned, mode="warn", points=(WAITED | INHERITED) - {"lock.released"}
    ),
    "refuse": Operation(
        refuse, abandoned, mode="raise", points=SIGNED | {"lock.marked", "lock.woken"}
    ),
    "recover": Operation(recover, abandoned, mode="raise", points=WAITED | INHERITED),
    "allocate": Operation(
        allocate, alone, points=PLAIN | {"chunk.created", "chunk.reserved", "chunk.allocated"}
    ),
}


def successor_of(lock: Mutex) -> Callable[[], None]:
    """Take it from whomever, and release it."""
    return lambda: recover(lock)


def count(lock: Mutex, tally: memoryview) -> None:
    for _ in range(TURNS):
        lock.recover()
        seen = tally[0]
        os.sched_yield()
        tally[0] = seen + 1
        lock.release()


def is_sound(lock: Mutex) -> bool:
    """Whether two more processes exclude each other, and leave it free."""
    tally = memoryview(SharedBlock(8)).cast("q")
    with Forked(count, lock, tally) as one, Forked(count, lock, tally) as two:
        for child in (one, two):
            over(child)
            assert child.answer() == "None"
    return tally[0] == 2 * TURNS and not lock.locked()


def run(operation: Operation, first: str, second: str, tokens: Path) -> tuple[bool, bool]:
    """One case; whether the victim and its successor have died."""
    lock = operation.kind(on_abandon=operation.mode)
    token = tokens / f"{len(os.listdir(tokens))}"
    with operation.around(lock, lambda: armed(first, token, operation.act, lock)) as victim:
        over(victim)
        if not died(victim, token):
            return False, False
    token = tokens / f"{len(os.listdir(tokens))}"
    with armed(second, token, successor_of(lock)) as successor:
        over(successor)
        again = died(successor, token)
    assert is_sound(lock)
    return True, again


@pytest.fixture(scope="module")
def total(pytestconfig: pytest.Config) -> Iterator[Counter[str]]:
    """Cases by how often somebody was killed; printed at the end."""
    cases: Counter[str] = Counter()
    yield cases
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\nlocks: {cases.total()} crashes, {cases['twice']} of them of a successor too")  # noqa: T201


@pytest.mark.watchdog(120.0)
@pytest.mark.parametrize("name", OPERATIONS)
def test_lock_survives_a_death_at_each_point(
    name: str, tmp_path: Path, total: Counter[str]
) -> None:
    operation, reached, again = OPERATIONS[name], set(), set()
    for first in POINTS:
        for second in POINTS:
            victim, successor = run(operation, first, second, tmp_path)
            if not victim:
                break
            reached.add(first)
            again |= {second} if successor else set()
            total["twice" if successor else "once"] += 1
    assert reached == operation.points
    assert again >= PLAIN
