"""Shared objects (`garrison.share`) in tasks for nodes: each node gets the memory once.

In a message such an object is a number. Its memory goes through the cluster's own store of objects
to each node that has a task with it, and into shared memory there. A table that the workers inherit
from the node's pool says where.
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import struct
import threading
import weakref
from multiprocessing import resource_sharer
from multiprocessing.connection import Connection
from typing import NamedTuple

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import SharedMemoryFull
from garrison.memory import Shared
from garrison.memory.capacity import allocate_block, fill
from garrison.memory.handles import SharedBlock, address_of, open_address

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Blob", "BlobTable", "Blobs", "copied_block", "use_table"]


class Blob(NamedTuple):
    """The memory of a shared object: its number, its block, and what the cluster's `put` gave."""

    number: int
    block: SharedBlock
    stored: Any


class _Using(threading.local):
    """The blobs of what a thread is pickling."""

    blobs: dict[int, Blob] | None = None


class Blobs:
    """The driver's side: the shared objects that tasks have named."""

    def __init__(self, put: Callable[[Any], Any], dropped: Callable[[int, Any], None]) -> None:
        self._put, self._dropped = put, dropped
        self._known: dict[int, tuple[weakref.ref[SharedBlock], int, Any]] = {}
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._using = _Using()

    def first(self) -> dict[type, Any]:
        """Return the reducers that come before all others."""
        return {Shared: self._reduce, **_REFUSED}

    def begin(self) -> dict[int, Blob] | None:
        """Begin a pickle of this thread; return what `end` needs.

        Code of the user runs within it, which may use the pool: then one pickle is inside another.
        """
        using = self._using
        outer, using.blobs = using.blobs, None
        return outer

    def end(self, outer: dict[int, Blob] | None) -> tuple[Blob, ...]:
        """Return the blobs of the pickle, and go on with the one around it."""
        using = self._using
        used, using.blobs = using.blobs, outer
        return tuple(used.values()) if used else ()

    def _reduce(self, shared: Shared[Any]) -> Any:
        blob = self._of(shared._open())
        if self._using.blobs is None:
            self._using.blobs = {}
        self._using.blobs[blob.number] = blob
        return _open, (blob.number,)

    def _of(self, block: SharedBlock) -> Blob:
        found = self._known.get(id(block))
        if found is None or found[0]() is not block:
            number = next(self._numbers)
            found = weakref.ref(block), number, self._put(memoryview(block))
            self._known[id(block)] = found
            weakref.finalize(block, self._drop, id(block), *found[1:]).atexit = False
        return Blob(found[1], block, found[2])

    def _drop(self, place: int, number: int, stored: Any) -> None:
        if os.getpid() != self._pid:
            return
        found = self._known.get(place)
        if found is not None and found[1] == number:
            del self._known[place]
        self._dropped(number, stored)


def _refuse(obj: Any) -> Any:
    """Refuse an open file: a node cannot have one of this machine's."""
    if isinstance(obj, resource_sharer.DupFd):
        # A duplicate waits for its receiver; nobody will come.
        _, close = vars(resource_sharer)["_resource_sharer"]._cache.pop(vars(obj)["_id"][1])
        close()
    raise TypeError("it has an open file of this machine, which a node cannot have: open it there")


_REFUSED: dict[type, Any] = dict.fromkeys(
    (Connection, socket.socket, resource_sharer.DupFd), _refuse
)


# --- On a node --------------------------------------------------------------------------------

_ENTRY = struct.Struct("=QH")
SLOT = 512
"""Bytes of an entry: number, length, and the address of a block."""
SLOTS = 2048


def copied_block(data: Any) -> SharedBlock:
    """Copy a buffer into a block of shared memory.

    Raises
    ------
    SharedMemoryFull
        If there is no room.
    """
    view = memoryview(data).cast("B")
    block = allocate_block(len(view))
    with memoryview(block) as there:
        fill(block, there, 0, view)
    return block


class BlobTable:
    """Where a node's pool has the blobs: written by its parent, read by its workers.

    An entry is written before the first task that needs it is submitted, and stays until the driver
    drops the blob, when no task needs it any more.
    """

    def __init__(self) -> None:
        self._memory = memoryview(allocate_block(SLOT * SLOTS)).cast("B")
        self._blocks: dict[int, tuple[int, SharedBlock]] = {}
        self._free = list(range(SLOTS - 1, -1, -1))

    def keep(self, number: int, address: Any) -> None:
        """Open a blob that the agent has in shared memory, and keep it.

        Raises
        ------
        SharedMemoryFull
            If there are too many.
        """
        if number not in self._blocks:
            block = open_address(*address)
            self._blocks[number] = self._publish(number, block), block

    def _publish(self, number: int, block: SharedBlock) -> int:
        if not self._free:
            raise SharedMemoryFull(
                f"a node has {SLOTS} shared objects already: close() some that are not needed"
            )
        slot, address = self._free.pop(), pickle.dumps(address_of(block))
        place = slot * SLOT
        start = place + _ENTRY.size
        self._memory[start : start + len(address)] = address
        _ENTRY.pack_into(self._memory, place, number, len(address))
        return slot

    def drop(self, number: int) -> None:
        """Forget a blob."""
        slot, _ = self._blocks.pop(number, (None, None))
        if slot is not None:
            _ENTRY.pack_into(self._memory, slot * SLOT, 0, 0)
            self._free.append(slot)

    def address(self, number: int) -> Any:
        """Return the address of a blob's block, for `open_address`."""
        for place in range(0, SLOT * SLOTS, SLOT):
            found, length = _ENTRY.unpack_from(self._memory, place)
            if found == number:
                start = place + _ENTRY.size
                return pickle.loads(self._memory[start : start + length])  # noqa: S301 - written by `_publish`
        raise LookupError(
            f"shared object {number} is not on this node, which had no memory for it: "
            "close() others, or share smaller ones"
        )


_table: BlobTable | None = None
_opened: weakref.WeakValueDictionary[int, Shared[Any]] = weakref.WeakValueDictionary()


def use_table(table: BlobTable) -> None:
    """Find blobs in this table, in a worker."""
    global _table  # noqa: PLW0603 - a process is one worker
    _table = table


def _open(number: int) -> Shared[Any]:
    """Return a shared object in a worker."""
    found = _opened.get(number)
    if found is None:
        if _table is None:
            raise LookupError("a shared object of a cluster's task can be opened by a worker only")
        found = Shared(open_address(*_table.address(number)), [])
        _opened[number] = found
    return found
