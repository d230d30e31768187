"""Locks that survive their owners, queues without a thread."""

from __future__ import annotations

from garrison.sync._locks import Lock, RLock
from garrison.sync._queues import JoinableQueue, Queue, SimpleQueue

__all__ = ["JoinableQueue", "Lock", "Queue", "RLock", "SimpleQueue"]

for _kind in (JoinableQueue, Lock, Queue, RLock, SimpleQueue):
    _kind.__module__ = __name__
del _kind
