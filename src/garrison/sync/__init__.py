"""Locks that survive their owners, and values under them."""

from __future__ import annotations

from garrison.sync._locks import Lock, RLock
from garrison.sync._values import Array, Value, synchronized

__all__ = ["Array", "Lock", "RLock", "Value", "synchronized"]

for _kind in (Array, Lock, RLock, Value, synchronized):
    _kind.__module__ = __name__
del _kind
