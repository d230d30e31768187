"""What the tests of queues have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from garrison.sync import Lock

METHODS = ("fork", "spawn", "forkserver")

# What a process keeps from the first lock on is its own, not that of the first test to take one.
with Lock():
    pass


def in_child(context: Any, task: Callable[..., object], *args: Any) -> Any:
    """Start a process."""
    process = context.Process(target=task, args=args)
    process.start()
    return process


def ended(*processes: Any) -> None:
    """Wait for processes that end well."""
    for process in processes:
        process.join()
        assert process.exitcode == 0
        process.close()


def memory_of(queue: Any) -> int:
    """Bytes that really are behind the queue's file."""
    return Path(f"/proc/self/fd/{queue._spot.chunk[2]}").stat().st_blocks * 512
