"""Allocation of shared memory, with a clear error if none is left."""

from __future__ import annotations

import contextlib
import os

from garrison import _os
from garrison._core import SharedBlock
from garrison.errors import SharedMemoryFull

CHECK_THRESHOLD = 64 << 20
"""Larger allocations are compared with the available memory."""

DEFAULT_HINT = "send smaller pieces, or write the data to a file and send its name"


LARGE = 1 << 16
"""Bytes from which data are written into the file of a block."""
PIECE = 1 << 26
"""Bytes that are written between two checks for Ctrl-C."""


def check_available(size: int, what: str = "bytes", remedy: str = DEFAULT_HINT) -> None:
    """Raise if there is less memory than `size`, before the kernel would kill a process."""
    if size < CHECK_THRESHOLD:
        return
    room = _os.available_memory()
    if size > room:
        msg = (
            f"{size:,} {what} do not fit into the {room:,} bytes of memory that are left; {remedy}"
        )
        raise SharedMemoryFull(msg)


def allocate_block(size: int) -> SharedBlock:
    """Return a new block of `size` bytes, all zero."""
    check_available(size)
    return SharedBlock(size)


def fill(spot: SharedBlock, view: memoryview, offset: int, part: memoryview) -> None:
    """Copy bytes into a block of which there is a view."""
    written = _write_file(spot, offset, part)
    view[offset + written : offset + part.nbytes] = part[written:]


def _write_file(spot: SharedBlock, offset: int, part: memoryview) -> int:
    """Write a large part with `pwrite`, without page faults; return the number of bytes."""
    written = 0
    # A limit on file sizes may stop it.
    with contextlib.suppress(OSError):
        while part.nbytes - written >= LARGE:
            place = spot.offset + offset + written
            written += os.pwrite(spot.chunk[2], part[written : written + PIECE], place)
    return written
