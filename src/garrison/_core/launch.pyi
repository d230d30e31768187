"""Forking a supervisor and its workers."""

from typing import Any

from garrison._core.table import Table

def fork_supervisor(
    table: Table, numbers: list[int], channel: int, parents_end: int, report: bytes
) -> tuple[str, Any]:
    """Fork a supervisor, which forks a worker for each of these numbers.

    Return what this process is then, and what belongs to it: ("parent", pid), ("worker", (slot,
    owner id, file for its stack, desk)), ("supervisor", None or what it takes over), ("failed",
    exception).
    """

def launch_workers(
    table: Table, numbers: list[int], channel: int, parent: int, report: bytes
) -> tuple[str, Any]:
    """In a supervisor that is there already: fork a worker for each of these numbers, as above."""
