"""How items that are not plain values are written down for a queue.

Functions and classes go by reference, as in the standard library: who will take the item is not
known. Writable buffers of `LARGE` bytes and more stay out of the pickle and arrive as views.
"""

from __future__ import annotations

import atexit
import os
import threading
from multiprocessing import util

from garrison import _core
from garrison._pickling import STANDARD, UNPICKLABLE, dumps_apart
from garrison._typing import Any, NoReturn
from garrison.errors import ItemsUnreadable, ItemUnpicklable
from garrison.memory import capacity, handles

LARGE = 1 << 16
"""Buffers below this size are cheaper inside of the pickle."""

_latest = threading.local()


def encode(item: object) -> bytes | tuple[bytes, list[Any]]:
    """Pickle `item`; with its large buffers beside it, if it has any."""
    since = handles.exported
    try:
        return _encode(item)
    except BaseException:
        handles.withdraw(since)
        raise
    finally:
        _latest.span = (since, handles.exported)


def withdraw_last() -> None:
    """Forget the handles in what this thread has encoded last, which was not put after all."""
    handles.withdraw(*_latest.span)


def _encode(item: object) -> bytes | tuple[bytes, list[memoryview]]:
    try:
        data, buffers = dumps_apart(item, STANDARD, LARGE)
    except UNPICKLABLE as error:
        raise _refusal(item, error) from error
    if buffers is None:
        if len(data) >= capacity.CHECKED:
            check_room(len(data))
        return data
    check_room(len(data) + sum(view.nbytes for view in buffers))
    return data, buffers


def _refusal(item: object, error: Exception) -> ItemUnpicklable:
    kind = type(item)
    return ItemUnpicklable(
        f"an item of type {kind.__module__}.{kind.__qualname__} cannot be put into a queue: "
        f"{type(error).__name__}: {error}; put something that can be pickled"
    )


def check_room(size: int) -> None:
    """Raise if there is no memory for so much more in a queue."""
    remedy = "have items taken faster, give the queue a maxsize, or put smaller items"
    capacity.check_room(size, "bytes more of a queue", remedy)


def undecodable(items: list[Any], errors: list[BaseException]) -> NoReturn:
    """Raise for several items that were taken, of which some cannot be rebuilt."""
    msg = (
        f"{len(errors)} of {len(items) + len(errors)} items cannot be rebuilt here (the first: "
        f"{type(errors[0]).__name__}: {errors[0]}); the others are in .items"
    )
    raise ItemsUnreadable(msg, items, errors) from errors[0]


_sends_in = 0
"""The process whose end is watched."""


def sends() -> None:
    """Note that this process has put something big: at its end it gives back what nobody needs."""
    global _sends_in  # noqa: PLW0603 - one number for each process
    if _sends_in != os.getpid():
        _sends_in = os.getpid()
        # A process of multiprocessing leaves without atexit; a main program has both.
        util.Finalize(None, _core.retire_senders, exitpriority=-100)
        atexit.register(_core.retire_senders)
