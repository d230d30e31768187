"""How a place in shared memory reaches another process.

A forked child has it already. A child that is being spawned is handed the descriptors. For anybody
else (a pool's worker, the reader of a queue, a stranger of the same user) the handle says which
process has the memory open under which number, and the receiver opens that (`_descriptors`); the
sender keeps the memory until the handle has arrived.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections import deque
from multiprocessing import context, reduction

from garrison import _descriptors, _lending, _os
from garrison._core import Spot
from garrison._pickling import register
from garrison._typing import Any
from garrison.errors import SharedMemoryGone

__all__ = ["Inherited", "Spot"]

Id = tuple[int, int]


def _reduce(spot: Spot) -> tuple[Any, ...]:
    chunk, length, fd = spot.chunk
    family, family_fd = spot.family
    place = (spot.offset, len(spot), spot.readonly)
    popen: Any = context.get_spawning_popen()
    if popen is not None:
        descriptors = (_for_child(popen, fd), _for_child(popen, family_fd))
        return _inherit, (chunk, length, family, descriptors, place)
    _export(spot)
    return _attach, _address(spot)


exported = 0
"""How many handles were written so far. Who may have to write something twice notes it before."""
_latest: deque[tuple[int, int, weakref.ref[Spot]]] = deque(maxlen=1024)


def _export(spot: Spot) -> None:
    global exported  # noqa: PLW0603 - read where each task is written: an attribute is the cheapest
    spot.export()
    _latest.append((exported, threading.get_ident(), weakref.ref(spot)))
    exported += 1


def withdraw(since: int, until: int | None = None) -> None:
    """Forget the handles that this thread has written between: nobody will get them."""
    end = exported if until is None else until
    if since == end:
        return
    here = threading.get_ident()
    for entry in [entry for entry in _latest if since <= entry[0] < end and entry[1] == here]:
        _latest.remove(entry)
        spot = entry[2]()
        if spot is not None:
            spot.arrived()


def _address(spot: Spot) -> tuple[Any, ...]:
    """Say where any process of this user and machine finds it, as long as this one has it."""
    chunk, length, fd = spot.chunk
    family, family_fd = spot.family
    sender = (os.getpid(), fd, family_fd, _os.host(), _lending.address())
    return chunk, length, family, sender, (spot.offset, len(spot), spot.readonly)


register(Spot, _reduce)


class Inherited:
    """A descriptor that reaches a spawned process under a number of its own."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (_for_child(context.get_spawning_popen(), self.fd),)


def _same(duplicate: Any) -> Any:
    return duplicate


def _for_child(popen: Any, fd: int) -> Any:
    """Hand a descriptor to a child once, however many objects lie behind it: it takes no two."""
    handed = vars(popen).setdefault("_garrison_descriptors", {})
    if fd not in handed:
        handed[fd] = reduction.DupFd(fd)
    return handed[fd]


def _inherit(chunk: Id, length: int, family: Id, descriptors: Any, place: Any) -> Spot:
    """Rebuild a spot in a spawned child."""
    offset, size, readonly = place
    spot = Spot.find(chunk, offset, size)
    if spot is None:
        fd, family_fd = (each.detach() for each in descriptors)
        if chunk in _attached:
            msg = "this handle was rebuilt here once, and what it names is gone since"
            raise SharedMemoryGone(msg)
        spot = Spot.attach((chunk, fd, length), (family, family_fd), offset, size)
        _attached.add(chunk)
        os.close(fd)
    return spot.part(0, size, readonly) if readonly else spot


_attached: set[Id] = set()
"""Chunks whose inherited descriptor is closed: its number may be another file's by now."""


def _attach(chunk: Id, length: int, family: Id, sender: Any, place: Any) -> Spot:
    """Rebuild a spot wherever the handle has come to."""
    spot = _visit(chunk, length, family, sender, place)
    spot.arrived()
    return spot


def _visit(chunk: Id, length: int, family: Id, sender: Any, place: Any) -> Spot:
    """Rebuild a spot whose handle may be read any number of times: its sender keeps it."""
    offset, size, readonly = place
    spot = Spot.find(chunk, offset, size)
    if spot is None:
        spot = _open(chunk, length, family, sender, place)
    return spot.part(0, size, readonly) if readonly else spot


_OUR_OWN = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say nothing of the sender."""


def _open(chunk: Id, length: int, family: Id, sender: Any, place: Any) -> Spot:
    pid, fd, family_fd, host, address = sender
    if not _os.may_be_here(host):
        msg = (
            "this handle was made on another machine, whose memory cannot be had here; send a copy"
        )
        raise SharedMemoryGone(msg)
    opened: list[int] = []
    try:
        opened.append(_descriptors.open_foreign(pid, fd, address=address))
        opened.append(_descriptors.open_foreign(pid, family_fd, address=address))
        return Spot.attach((chunk, opened[0], length), (family, opened[1]), *place[:2])
    except PermissionError as error:
        msg = f"process {pid}, which sent this handle, belongs to another user: {error}"
        raise SharedMemoryGone(msg) from error
    except OSError as error:
        if error.errno in _OUR_OWN:
            raise
        # Also where the number is a socket's or a folder's by now.
        msg = (
            f"process {pid}, which sent this handle, is gone or has no longer what it names; "
            "keep the object there until the handle has arrived"
        )
        raise SharedMemoryGone(msg) from error
    finally:
        for number in opened:
            os.close(number)
