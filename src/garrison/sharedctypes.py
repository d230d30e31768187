"""The names of `multiprocessing.sharedctypes`."""

from __future__ import annotations

from garrison import _standard
from garrison._typing import TYPE_CHECKING
from garrison.memory.raw import RawArray, RawValue, copy, typecode_to_type
from garrison.sync import (
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
    "RawArray",
    "RawValue",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "copy",
    "synchronized",
    "typecode_to_type",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = _standard.mirror(__name__, globals())
