"""Pickling for transfers to other processes: one pickler, in one pass."""

from __future__ import annotations

from garrison._pickling._by_value import ByValue, by_value, found_by_name
from garrison._pickling._culprit import UNPICKLABLE, find_culprit, short, without_key
from garrison._pickling._kept import Kept
from garrison._pickling._pickler import STANDARD, dumps, dumps_apart, make_rules
from garrison._pickling._transfer import (
    Transferable,
    assert_transfer,
    reduce_for_transfer,
    register,
    transferring,
)

__all__ = [
    "STANDARD",
    "UNPICKLABLE",
    "ByValue",
    "Kept",
    "Transferable",
    "assert_transfer",
    "by_value",
    "dumps",
    "dumps_apart",
    "find_culprit",
    "found_by_name",
    "make_rules",
    "reduce_for_transfer",
    "register",
    "short",
    "transferring",
    "without_key",
]
