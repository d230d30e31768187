"""The names of `multiprocessing.synchronize`."""

from __future__ import annotations

from garrison import _standard
from garrison._typing import TYPE_CHECKING
from garrison.sync import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = _standard.mirror(__name__, globals())
