"""Handles: how a block of shared memory is sent to another process.

A forked child has the memory already. A spawned child receives the descriptors. For any other
process of the same user (a pool's worker, the reader of a queue) the handle names a process and a
descriptor number, and the receiver opens that descriptor (`_os.descriptor_sharing`). The sender
keeps the memory until the handle has arrived.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import deque
from multiprocessing import context, reduction

from garrison import _os
from garrison._core import SharedBlock
from garrison._os import descriptor_sharing
from garrison._pickling import register
from garrison._typing import Any
from garrison.errors import SharedMemoryGone

__all__ = ["InheritedFd", "SharedBlock"]

Id = tuple[int, int]


def reduce_block(spot: SharedBlock) -> tuple[Any, ...]:
    """Return a handle of a block, for the process that is being spawned or for any other."""
    chunk, length, fd = spot.chunk
    family, family_fd = spot.family
    place = (spot.offset, len(spot), spot.readonly)
    popen: Any = context.get_spawning_popen()
    if popen is not None:
        descriptors = (_for_child(popen, fd), _for_child(popen, family_fd))
        return _inherit, (chunk, length, family, descriptors, place)
    _export(spot)
    return _receive, address_of(spot)


export_count: int = 0
"""The number of handles written so far; pass it to `cancel_exports` if pickling fails."""
_latest: deque[tuple[int, int, weakref.ref[SharedBlock]]] = deque(maxlen=1024)


def _export(spot: SharedBlock) -> None:
    global export_count  # noqa: PLW0603 - read where each task is written: an attribute is the cheapest
    spot.export()
    _latest.append((export_count, threading.get_ident(), weakref.ref(spot)))
    export_count += 1


def cancel_exports(since: int, until: int | None = None) -> None:
    """Cancel the handles that this thread has written since: no process will receive them."""
    end = export_count if until is None else until
    if since == end:
        return
    here = threading.get_ident()
    for entry in [entry for entry in _latest if since <= entry[0] < end and entry[1] == here]:
        _latest.remove(entry)
        spot = entry[2]()
        if spot is not None:
            spot.arrived()


def address_of(spot: SharedBlock) -> tuple[Any, ...]:
    """Return the block's address for processes of this user; this process keeps the block."""
    chunk, length, fd = spot.chunk
    family, family_fd = spot.family
    sender = (os.getpid(), fd, family_fd, _os.boot_id(), descriptor_sharing.address())
    return chunk, length, family, sender, (spot.offset, len(spot), spot.readonly)


register(SharedBlock, reduce_block)


class InheritedFd:
    """A descriptor that a spawned process receives under a number of its own."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (_for_child(context.get_spawning_popen(), self.fd),)


def _same(duplicate: Any) -> Any:
    return duplicate


def _for_child(popen: Any, fd: int) -> Any:
    """Pass a descriptor to a child once, for all objects behind it."""
    handed = vars(popen).setdefault("_garrison_descriptors", {})
    if fd not in handed:
        handed[fd] = reduction.DupFd(fd)
    return handed[fd]


def _inherit(chunk: Id, length: int, family: Id, descriptors: Any, place: Any) -> SharedBlock:
    """Rebuild a block in a spawned child."""
    offset, size, readonly = place
    spot = SharedBlock.find(chunk, offset, size)
    if spot is None:
        fd, family_fd = (each.detach() for each in descriptors)
        if chunk in _attached:
            msg = "this handle was used here before, and its memory is gone"
            raise SharedMemoryGone(msg)
        spot = SharedBlock.attach((chunk, fd, length), (family, family_fd), offset, size)
        _attached.add(chunk)
        os.close(fd)
    return spot.part(0, size, readonly) if readonly else spot


_attached: set[Id] = set()
"""Chunks whose inherited descriptor is closed: its number may belong to another file now."""


def _receive(chunk: Id, length: int, family: Id, sender: Any, place: Any) -> SharedBlock:
    """Rebuild the block of a handle that is used once."""
    spot = open_address(chunk, length, family, sender, place)
    spot.arrived()
    return spot


def open_address(chunk: Id, length: int, family: Id, sender: Any, place: Any) -> SharedBlock:
    """Rebuild the block of an address that is used any number of times; its owner keeps it."""
    offset, size, readonly = place
    spot = SharedBlock.find(chunk, offset, size)
    if spot is None:
        spot = _open(chunk, length, family, sender, place)
    return spot.part(0, size, readonly) if readonly else spot


_LOCAL_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of this process, not of the sender."""


def _open(chunk: Id, length: int, family: Id, sender: Any, place: Any) -> SharedBlock:
    pid, fd, family_fd, host, address = sender
    if not _os.is_same_machine(host):
        msg = (
            "this handle is of another machine, whose memory cannot be shared with this one; "
            "send a copy"
        )
        raise SharedMemoryGone(msg)
    opened: list[int] = []
    try:
        opened.append(descriptor_sharing.open_fd_of_process(pid, fd, address=address))
        opened.append(descriptor_sharing.open_fd_of_process(pid, family_fd, address=address))
        return SharedBlock.attach((chunk, opened[0], length), (family, opened[1]), *place[:2])
    except PermissionError as error:
        msg = f"process {pid}, which sent this handle, belongs to another user: {error}"
        raise SharedMemoryGone(msg) from error
    except OSError as error:
        if error.errno in _LOCAL_ERRNOS:
            raise
        # This includes a number that belongs to a socket or a directory now.
        msg = (
            f"process {pid}, which sent this handle, is gone or has dropped the memory; "
            "keep the object there until the handle has arrived"
        )
        raise SharedMemoryGone(msg) from error
    finally:
        for number in opened:
            os.close(number)
