"""Shared memory for an object, or a clear error where there is none left."""

from __future__ import annotations

from garrison import _os
from garrison._core import Spot
from garrison.errors import SharedMemoryFull

CHECKED = 64 << 20
"""From this size on it is worth asking whether there is that much memory."""


REMEDY = "send smaller pieces, or write the data to a file and send its name"


def check_room(size: int, what: str = "bytes", remedy: str = REMEDY) -> None:
    """Raise before the kernel has to kill somebody for memory that is not there."""
    if size < CHECKED:
        return
    room = _os.available_memory()
    if size > room:
        msg = (
            f"{size:,} {what} do not fit into the {room:,} bytes of memory that are left; {remedy}"
        )
        raise SharedMemoryFull(msg)


def allocate(size: int) -> Spot:
    """Return fresh shared memory of so many bytes, all zero."""
    check_room(size)
    return Spot(size)
