"""One face for all the queues that are compared."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import harness

EVERYONE = (harness.SUBJECT, harness.BASELINE, "SimpleQueue", "faster-fifo")
CONTEXT: Any = multiprocessing.get_context("fork")
ROOM = 100_000_000
"""Bytes for the ring of faster-fifo, which has to be told; it must hold three of the arrays."""


def opened(peer: str) -> Any:
    """Return a queue of this library, without a limit where the library has such a queue."""
    if peer == harness.SUBJECT:
        from garrison.sync import Queue

        return Queue()
    if peer == "faster-fifo":
        import faster_fifo

        return faster_fifo.Queue(max_size_bytes=ROOM)
    return CONTEXT.SimpleQueue() if peer == "SimpleQueue" else CONTEXT.Queue()


def child(task: Callable[..., object], *args: Any) -> Any:
    """Start another process, with the queues as arguments."""
    process = CONTEXT.Process(target=task, args=args)
    process.start()
    return process


def join(process: Any) -> None:
    """Wait for it, and see that it did well."""
    process.join()
    assert process.exitcode == os.EX_OK
