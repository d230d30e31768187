"""Who holds what, and who waits for what: read from shared memory, from outside."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable

from garrison import _core
from garrison._typing import Any, NoReturn
from garrison.errors import DeadlockError

__all__ = ["Holder", "Waiter", "holders", "waiters"]

KINDS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier")
"""In the order in which the core counts them."""

_known: weakref.WeakSet[_core.Lock | _core.Semaphore] = weakref.WeakSet()


def remember(lock: _core.Lock | _core.Semaphore) -> None:
    """Have `holders` ask this lock."""
    _known.add(lock)


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes
    ----------
    kind : str
        ``'Lock'``, ``'RLock'`` or ``'BoundedSemaphore'``.
    object : int
        The number by which `Waiter` names the same lock, in every process.
    pid, thread : int
        The process, 0 if it is gone, and the thread (0 for a permit of a semaphore).
    seconds : float
        For how long, to a few milliseconds; 0 for a permit.
    where : str
        File, line and function, for a lock that was made with ``detect_deadlocks=True``.
    """

    kind: str
    object: int
    pid: int
    thread: int
    seconds: float
    where: str


@dataclasses.dataclass(frozen=True)
class Waiter:
    """Who waits, for longer than 100 ms.

    Attributes
    ----------
    kind : str
        What is waited for: ``'Lock'``, ``'Condition'``, ``'Event'`` ...
    object : int
        Its number, as in `Holder`.
    pid, thread : int
        The process and the thread that wait.
    seconds : float
        For how long.
    where : str
        File, line and function.
    holder : int
        The process that has it, 0 where there is no single one.
    """

    kind: str
    object: int
    pid: int
    thread: int
    seconds: float
    where: str
    holder: int


def holders() -> list[Holder]:
    """Tell who holds the locks that this process knows.

    Nothing is stopped or locked for it: each line was true at its own moment.

    Examples
    --------
    >>> from garrison import Lock
    >>> from garrison.sync import holders
    >>> with Lock() as held, Lock() as _free:
    ...     [each.kind for each in holders()]
    ['Lock', 'Lock']
    """
    found: list[Holder] = []
    for lock in list(_known):
        if isinstance(lock, _core.Semaphore):
            found += _of_semaphore(lock)
        elif (holder := lock.holder) is not None:
            found.append(Holder("RLock" if lock.recursive else "Lock", lock.number, *holder))
    return sorted(found, key=lambda each: -each.seconds)


def _of_semaphore(semaphore: _core.Semaphore) -> Iterable[Holder]:
    for pid, permits in semaphore.holders:
        yield from [Holder("BoundedSemaphore", semaphore.number, pid, 0, 0.0, "")] * permits


def waiters() -> list[Waiter]:
    """Tell who waits, anywhere among the processes that share locks with this one.

    Waits show here once they have lasted for 100 ms.

    Examples
    --------
    >>> from garrison.sync import waiters
    >>> waiters()
    []
    """
    return [_waiter(*each) for each in _core.waits()]


def _waiter(
    pid: int,
    thread: int,
    kind: int,
    number: int,
    seconds: float,
    holder: int,
    _thread: int,
    where: str,
) -> Waiter:
    return Waiter(KINDS[kind], number, pid, thread, seconds, where, holder)


def raise_deadlock(members: Iterable[tuple[Any, ...]]) -> NoReturn:
    """Say who waits for whom; called by the core in the one that gives in."""
    cycle = [_waiter(*each) for each in members]
    lines = [
        f"process {each.pid} (thread {each.thread}) has waited {each.seconds:.1f} s, "
        f"at {each.where}, for the {each.kind} that process {each.holder} holds"
        for each in cycle
    ]
    msg = "these wait for each other and would for ever:\n  " + "\n  ".join(lines)
    raise DeadlockError(msg)
