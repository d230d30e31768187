"""What is sent in the event loop, and what by a thread."""

from __future__ import annotations

from collections.abc import Iterable

from garrison._typing import Any

__all__ = ["is_small"]

LARGE = 1 << 20
"""Bytes of an value from which on it is sent by a thread."""
MANY = 1 << 14
"""Elements of an value from which on it is sent by a thread."""
_SMALL = frozenset({int, float, bool, complex, type(None)})


def is_small(values: Iterable[Any]) -> bool:
    """Whether values are sent in no time, as far as that is seen without looking into them."""
    for value in values:
        kind = type(value)
        if kind in _SMALL:
            continue
        if kind in (str, bytes, bytearray):
            if len(value) >= LARGE:
                return False
        elif kind in (list, tuple, dict, set, frozenset):
            if len(value) >= MANY:
                return False
        elif getattr(value, "nbytes", 0) >= LARGE:
            return False
    return True
