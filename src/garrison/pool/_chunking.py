"""How `map` divides its input."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["guided", "slices"]

PER_PROCESS = 16
"""Chunks that each process gets at the least, if there are as many items."""
REST = 4
"""A chunk is at most this part (1/REST) of what is left for each process."""


def guided(items: int, processes: int) -> Iterator[int]:
    """Sizes of chunks: large at first, single items at the end, so that all end together.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987), with a bound on the first chunks so
    that an input with all its work at the beginning is divided too.
    """
    largest = max(1, items // (PER_PROCESS * processes))
    while items > 0:
        size = max(1, min(largest, items // (REST * processes)))
        yield size
        items -= size


def even(items: int, processes: int) -> int:
    """Return the standard library's chunk size: a quarter of each process's share."""
    size, rest = divmod(items, processes * 4)
    return size + 1 if rest else size


def slices(items: list[Any], sizes: Iterator[int]) -> Iterator[list[Any]]:
    """Cut a list into pieces of these sizes."""
    start = 0
    for size in sizes:
        if start >= len(items):
            return
        yield items[start : start + size]
        start += size
