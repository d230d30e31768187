"""How `map` divides its input."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["chunks", "guided_sizes"]

CHUNKS_PER_WORKER = 16
"""The least chunks for each worker, if there are enough items."""
PARTS_OF_REST = 4
"""A chunk has at most 1/4 of the remaining items per worker."""


def guided_sizes(items: int, processes: int) -> Iterator[int]:
    """Sizes of chunks: large at first, single items at the end, so that all end together.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987), with a bound on the first chunks so
    that an input with all its work at the beginning is divided too.
    """
    largest = max(1, items // (CHUNKS_PER_WORKER * processes))
    while items > 0:
        size = max(1, min(largest, items // (PARTS_OF_REST * processes)))
        yield size
        items -= size


def equal_size(items: int, processes: int) -> int:
    """Return the standard library's chunk size: a quarter of each process's share."""
    size, rest = divmod(items, processes * 4)
    return size + 1 if rest else size


def chunks(items: list[Any], sizes: Iterator[int]) -> Iterator[list[Any]]:
    """Cut a list into pieces of these sizes."""
    start = 0
    for size in sizes:
        if start >= len(items):
            return
        yield items[start : start + size]
        start += size
