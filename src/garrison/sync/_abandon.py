"""What is said when a lock comes from a process that died holding it."""

from __future__ import annotations

import warnings

from garrison import _core
from garrison.errors import AbandonedLock, OwnerDied

MODES = ("warn", "raise", "ignore")
"""In the order in which the core counts them."""


def inherited(lock: _core.Lock, pid: int | None, mode: int) -> None:
    """Warn or raise, as the lock was made to; called by the core."""
    who = "a process" if pid is None else f"process {pid}"
    text = f"{who} died while it held this {'RLock' if lock.recursive else 'Lock'}"
    if MODES[mode] == "raise":
        msg = f"{text}; see to what it protects, then take it with recover()"
        raise OwnerDied(msg, pid)
    if MODES[mode] == "warn":
        warnings.warn(f"{text}: what it protects may be half-written", AbandonedLock, stacklevel=2)
