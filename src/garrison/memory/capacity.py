"""Allocation of shared memory, with a clear error if none is left."""

from __future__ import annotations

from garrison import _os
from garrison._core import SharedBlock
from garrison.errors import SharedMemoryFull

CHECK_THRESHOLD = 64 << 20
"""Larger allocations are compared with the available memory."""

DEFAULT_HINT = "send smaller pieces, or write the data to a file and send its name"


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
