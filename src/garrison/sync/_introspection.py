"""The holders and the waiters of locks, read from shared memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from garrison import _core
from garrison._typing import Any, NoReturn
from garrison.errors import DeadlockError
from garrison.sync._known_locks import known

__all__ = ["Holder", "Waiter", "holders", "waiters"]

KINDS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier")
"""The kinds, in the order of their numbers in the core."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """A thread that holds a lock.

    Attributes
    ----------
    kind : str
        ``'Lock'``, ``'RLock'`` or ``'BoundedSemaphore'``.
    object : int
        The lock's number, the same in every process and in `Waiter`.
    pid, thread : int
        The process, 0 if it is gone, and the thread (0 for a permit of a semaphore).
    seconds : float
        How long it has been held, to a few milliseconds; 0 for a permit.
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
    """A thread that has waited for longer than 100 ms.

    Attributes
    ----------
    kind : str
        The kind of object that it waits for: ``'Lock'``, ``'Condition'``, ``'Event'`` ...
    object : int
        The object's number, as in `Holder`.
    pid, thread : int
        The waiting process and thread.
    seconds : float
        How long it has waited.
    where : str
        File, line and function.
    holder : int
        The process that holds the object, 0 if there is no single one.
    """

    kind: str
    object: int
    pid: int
    thread: int
    seconds: float
    where: str
    holder: int


def holders() -> list[Holder]:
    """Return the holders of the locks that this process knows.

    No process is stopped for this: each entry was true at its own moment.

    Examples
    --------
    >>> from garrison import Lock
    >>> from garrison.sync import holders
    >>> with Lock() as held, Lock() as _free:
    ...     [each.kind for each in holders()]
    ['Lock', 'Lock']
    """
    found: list[Holder] = []
    for lock in list(known):
        if isinstance(lock, _core.Semaphore):
            found += _semaphore_holders(lock)
        elif (holder := lock.holder) is not None:
            found.append(Holder("RLock" if lock.recursive else "Lock", lock.number, *holder))
    return sorted(found, key=lambda each: -each.seconds)


def _semaphore_holders(semaphore: _core.Semaphore) -> Iterable[Holder]:
    for pid, permits in semaphore.holders:
        yield from [Holder("BoundedSemaphore", semaphore.number, pid, 0, 0.0, "")] * permits


def waiters() -> list[Waiter]:
    """Return the waiters in all processes that share locks with this one.

    A wait is listed once it has lasted for 100 ms.

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
    """Raise `DeadlockError` that names the cycle. The core calls this in one of its threads."""
    cycle = [_waiter(*each) for each in members]
    lines = [
        f"process {each.pid} (thread {each.thread}) has waited {each.seconds:.1f} s, "
        f"at {each.where}, for the {each.kind} that process {each.holder} holds"
        for each in cycle
    ]
    msg = "deadlock, each waits for the next one:\n  " + "\n  ".join(lines)
    raise DeadlockError(msg)


for _public in (Holder, Waiter, holders, waiters):
    _public.__module__ = "garrison.sync"
