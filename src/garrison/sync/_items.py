"""How items that are not plain values are written down for a queue.

They are pickled as `multiprocessing` does it, so that connections, sockets and whatever else its
reducers know can be sent. Buffers of `LARGE` bytes and more stay out of the pickle and arrive as
views.
"""

from __future__ import annotations

import atexit
import copyreg
import io
import os
import pickle
import threading
from multiprocessing import reduction, util
from typing import Any, NoReturn

from garrison import _core
from garrison.errors import ItemsUnreadable, ItemUnpicklable
from garrison.memory import _handles, _room

LARGE = 1 << 16
"""Buffers below this size are cheaper inside of the pickle."""

_OF_MULTIPROCESSING: dict[type, Any] = vars(reduction.ForkingPickler)["_extra_reducers"]


class _Pickler(pickle.Pickler):
    """As multiprocessing's, whose table of reducers is looked up in Python for every object."""

    dispatch_table: dict[type, Any]
    known: tuple[dict[type, Any], dict[type, Any]] = ({}, {})

    @classmethod
    def keep_up(cls) -> None:
        """Learn of reducers that were registered since."""
        now = (copyreg.dispatch_table, _OF_MULTIPROCESSING)
        if cls.known != now:
            cls.known = (dict(now[0]), dict(now[1]))
            cls.dispatch_table = {**now[0], **now[1]}


_latest = threading.local()


def encode(item: object) -> bytes | tuple[bytes, list[Any]]:
    """Pickle `item`; with its large buffers beside it, if it has any."""
    since = _handles.exported
    try:
        return _encode(item, since)
    except BaseException:
        _handles.withdraw(since)
        raise
    finally:
        _latest.span = (since, _handles.exported)


def withdraw_last() -> None:
    """Forget the handles in what this thread has encoded last, which was not put after all."""
    _handles.withdraw(*_latest.span)


def _encode(item: object, since: int) -> bytes | tuple[bytes, list[Any]]:
    buffers: list[Any] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < LARGE:
            return True
        buffers.append(view)
        return False

    try:
        data = _dumps(item, 5, keep)
        if not buffers:
            if len(data) >= _room.CHECKED:
                check_room(len(data))
            return data
        if any(view.readonly for view in buffers):
            # What was read-only here is the receiver's own there: only older protocols say so.
            buffers.clear()
            _handles.withdraw(since)
            data = _dumps(item, 4, None)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise _refusal(item, error) from error
    check_room(len(data) + sum(view.nbytes for view in buffers))
    return (data, buffers) if buffers else data


def _refusal(item: object, error: Exception) -> ItemUnpicklable:
    kind = type(item)
    return ItemUnpicklable(
        f"an item of type {kind.__module__}.{kind.__qualname__} cannot be put into a queue: "
        f"{type(error).__name__}: {error}; put something that can be pickled"
    )


def _dumps(item: object, protocol: int, keep: Any) -> bytes:
    _Pickler.keep_up()
    stream = io.BytesIO()
    _Pickler(stream, protocol, buffer_callback=keep).dump(item)
    return stream.getvalue()


def check_room(size: int) -> None:
    """Raise if there is no memory for so much more in a queue."""
    remedy = "have items taken faster, give the queue a maxsize, or put smaller items"
    _room.check_room(size, "bytes more of a queue", remedy)


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
