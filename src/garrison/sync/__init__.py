"""Locks that survive their owners, with their relatives, and queues without a thread."""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING
from garrison.sync._barrier import Barrier, BrokenBarrierError
from garrison.sync._condition import Condition, wait_for
from garrison.sync._event import Event
from garrison.sync._known_locks import register_for_holders
from garrison.sync._locks import Lock, LockBase, RLock
from garrison.sync._queues import JoinableQueue, Queue, SimpleQueue
from garrison.sync._semaphores import BoundedSemaphore, Semaphore

if TYPE_CHECKING:
    from garrison.sync._introspection import Holder, Waiter, holders, waiters
    from garrison.sync._locks import LockOptions as LockOptions
    from garrison.sync._locks import OnAbandon as OnAbandon
    from garrison.sync._values import (
        Array,
        Synchronized,
        SynchronizedArray,
        SynchronizedBase,
        SynchronizedString,
        Value,
        synchronized,
    )

__all__ = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Event",
    "Holder",
    "JoinableQueue",
    "Lock",
    "LockBase",
    "Queue",
    "RLock",
    "Semaphore",
    "SimpleQueue",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "Waiter",
    "holders",
    "register_for_holders",
    "synchronized",
    "wait_for",
    "waiters",
]

_HOMES = {
    "_introspection": ("Holder", "Waiter", "holders", "waiters"),
    "_values": (
        "Array",
        "Synchronized",
        "SynchronizedArray",
        "SynchronizedBase",
        "SynchronizedString",
        "Value",
        "synchronized",
    ),
}
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(__name__, globals(), _HOMES)

for _name in __all__:
    if _name in globals() and _name != "BrokenBarrierError":
        globals()[_name].__module__ = __name__
del _name
