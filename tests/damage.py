"""The words of garrison's shared memory, where tests find them to damage them.

The offsets are those of the core: `native/src/tasks/table.rs`, `queue/shared.rs`, `queue/log.rs`.
"""

from __future__ import annotations

import mmap
import signal
import struct
from typing import Any

PAGE = 4096
CAPACITY = 1 << 20
CELL_SIZE, SLOT_SIZE, ENTRY_SIZE = 384, 128, 16

HEADER = {"phase": 0, "cells": 20, "ring_head": 256, "ring_tail": 384}
CELL = {"state": 0, "args_len": 48, "args_at": 56, "result_len": 72, "result_at": 80}
QUEUE = {"put_lock": 0, "get_lock": 128, "tail": 256, "count": 264, "head": 384, "getters": 512}


class Words:
    """A part of a file of shared memory."""

    def __init__(self, fd: int, length: int) -> None:
        self._map = mmap.mmap(fd, length)

    def read(self, at: int, form: str = "Q") -> int:
        """Read a word."""
        return int(struct.unpack_from(form, self._map, at)[0])

    def write(self, at: int, value: int, form: str = "Q") -> None:
        """Write a word."""
        struct.pack_into(form, self._map, at, value)

    def flip(self, at: int) -> None:
        """Flip all bits of a byte."""
        self._map[at] ^= 0xFF


class PoolWords(Words):
    """The task table of a pool."""

    def __init__(self, pool: Any) -> None:
        table = pool._backend.table
        slots: int = table.slots
        self.rings_at = PAGE + -(-slots * SLOT_SIZE // PAGE) * PAGE
        self.cells_at = self.rings_at + 2 * CAPACITY * 4
        super().__init__(table.fd, self.cells_at + 2 * PAGE)

    @staticmethod
    def slot(number: int) -> int:
        """Where a slot begins."""
        return PAGE + number * SLOT_SIZE

    def cell(self, number: int, field: str = "state") -> int:
        """Where a word of a cell lies."""
        return self.cells_at + number * CELL_SIZE + CELL[field]


class QueueWords(Words):
    """The words of a queue: `SHARED` and what follows, then the entries of its segments."""

    SHARED = 128

    def __init__(self, queue: Any) -> None:
        super().__init__(queue._spot.chunk[2], 8 << 20)

    def at(self, field: str) -> int:
        """Where a word of the queue lies."""
        return self.SHARED + QUEUE[field]

    @staticmethod
    def segment(number: int) -> int:
        """Where the words of a segment begin: next, end, reserved, used."""
        return PAGE + number * ENTRY_SIZE


def watched(seconds: int) -> None:
    """End this process by SIGALRM if it is not over in time."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
