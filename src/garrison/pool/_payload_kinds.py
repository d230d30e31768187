"""`PayloadKind`: how a function is applied to what a task's cell has for it."""

from __future__ import annotations

import enum

__all__ = ["TASKS_AHEAD_PER_WORKER", "PayloadKind"]

TASKS_AHEAD_PER_WORKER = 4
"""Tasks of an `imap` that are waiting or at work, for each worker of this machine."""


class PayloadKind(enum.IntEnum):
    """The form of a task's payload, and how the function is applied to it."""

    CALL = 0
    """(args, kwds)"""
    ARGS = 1
    """args: a call without keywords, the usual one."""
    ITEMS = 2
    """A list of items; each is the function's one argument."""
    STAR_ITEMS = 3
    """A list of argument tuples."""
    ONE_ITEM = 4
    """An item, which is the function's one argument."""
    PICKLED_ITEMS = 5
    """Pickled items one after the other (see `_core.split`), each with an outcome of its own."""
    LISTED_ITEMS = 6
    """A list of items that are one pickle, each with an outcome of its own."""
