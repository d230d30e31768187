"""Pickling of queue items that are not plain values.

Functions and classes are pickled by reference, as in the standard library, since any process may be
the receiver. Writable buffers of `LARGE` bytes and more stay out of the pickle and arrive as views.
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
"""Larger buffers are cheaper outside of the pickle."""

_latest = threading.local()


def encode(item: object) -> bytes | tuple[bytes, list[Any]]:
    """Pickle `item`; return its large buffers beside the pickle, if it has any."""
    since = handles.export_count
    try:
        return _encode(item)
    except BaseException:
        handles.cancel_exports(since)
        raise
    finally:
        _latest.span = (since, handles.export_count)


def cancel_last_exports() -> None:
    """Cancel the exports of this thread's last item, which was not put."""
    handles.cancel_exports(*_latest.span)


def _encode(item: object) -> bytes | tuple[bytes, list[memoryview]]:
    try:
        data, buffers = dumps_apart(item, STANDARD, LARGE)
    except UNPICKLABLE as error:
        raise _refusal(item, error) from error
    if buffers is None:
        if len(data) >= capacity.CHECK_THRESHOLD:
            check_available(len(data))
        return data
    check_available(len(data) + sum(view.nbytes for view in buffers))
    return data, buffers


def _refusal(item: object, error: Exception) -> ItemUnpicklable:
    kind = type(item)
    return ItemUnpicklable(
        f"an item of type {kind.__module__}.{kind.__qualname__} cannot be put into a queue: "
        f"{type(error).__name__}: {error}; put something that can be pickled"
    )


def check_available(size: int) -> None:
    """Raise if there is not enough memory for `size` more bytes in a queue."""
    remedy = "have items taken faster, give the queue a maxsize, or put smaller items"
    capacity.check_available(size, "bytes more of a queue", remedy)


def raise_items_unreadable(items: list[Any], errors: list[BaseException]) -> NoReturn:
    """Raise an error with the readable items, because others cannot be unpickled."""
    msg = (
        f"{len(errors)} of {len(items) + len(errors)} items cannot be rebuilt here (the first: "
        f"{type(errors[0]).__name__}: {errors[0]}); the others are in .items"
    )
    raise ItemsUnreadable(msg, items, errors) from errors[0]


_sends_in = 0
"""The process that has registered its cleanup."""


def register_sender_cleanup() -> None:
    """Let this process free its unused memory in queues when it exits."""
    global _sends_in  # noqa: PLW0603 - one number for each process
    if _sends_in != os.getpid():
        _sends_in = os.getpid()
        # A process of multiprocessing exits without atexit; a main program uses both.
        util.Finalize(None, _core.retire_senders, exitpriority=-100)
        atexit.register(_core.retire_senders)
