"""Locks that survive their owners."""

from __future__ import annotations

from garrison.sync._locks import Lock, RLock

__all__ = ["Lock", "RLock"]

for _kind in (Lock, RLock):
    _kind.__module__ = __name__
del _kind
