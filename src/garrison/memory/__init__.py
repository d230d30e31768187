"""Memory that processes really share: it has no names, and goes with its last user."""

from __future__ import annotations

from garrison.memory._handles import Inherited, Spot
from garrison.memory._ndarray import ndarray
from garrison.memory._raw import RawArray, RawValue, copy
from garrison.memory._share import Shared, share

__all__ = ["Inherited", "RawArray", "RawValue", "Shared", "Spot", "copy", "ndarray", "share"]

for _each in (RawArray, RawValue, Shared, copy, ndarray, share):
    _each.__module__ = __name__
del _each
