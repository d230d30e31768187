"""The locks of this process that `holders` reports.

Apart from `holders` itself, whose records take longer to import than all locks.
"""

from __future__ import annotations

import weakref

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison import _core

__all__ = ["known", "register_for_holders"]

known: weakref.WeakSet[_core.Lock | _core.Semaphore] = weakref.WeakSet()


def register_for_holders(lock: _core.Lock | _core.Semaphore) -> None:
    """Let `holders` report this lock."""
    known.add(lock)
