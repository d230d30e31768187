"""The names of `multiprocessing.synchronize`: garrison's where it has them."""

from __future__ import annotations

from multiprocessing import synchronize as _standard
from typing import Any

from garrison import sync
from garrison.sync import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]


def __getattr__(name: str) -> Any:
    """Find what is not garrison's own in the standard library."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(sync, name) if name in sync.__all__ else getattr(_standard, name)
