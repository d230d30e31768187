"""What the benchmarks of clusters have in common: the calls of a pool, and what is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness import Goal, Metric

__all__ = ["METRICS", "calls_of"]

_REACH, _AIM = Goal("times", 20), Goal("times", 50)
METRICS = (
    Metric("start", "s", "lower", Goal("times", 1)),
    Metric("map", "tasks/s", "higher", Goal("times", 1)),
    Metric("map, one by one", "tasks/s", "higher", _REACH, _AIM),
    Metric("imap", "tasks/s", "higher", _REACH, _AIM),
    Metric("apply_async", "tasks/s", "higher", _REACH, _AIM),
    Metric("1 ms tasks", "% of ideal", "higher", Goal("at least", 95)),
    Metric("array", "s", "lower", Goal("times", 1)),
)


def calls_of(pool: Any) -> dict[str, Callable[..., Any]]:
    """Return the ways in which a pool is called, each as (function, items)."""

    def one_by_one(function: Any, items: Any) -> Any:
        return pool.map(function, items, chunksize=1)

    def imap(function: Any, items: Any) -> Any:
        return list(pool.imap(function, items))

    def apply_async(function: Any, items: Any) -> Any:
        return [each.get() for each in [pool.apply_async(function, (item,)) for item in items]]

    return {
        "map": pool.map,
        "map, one by one": one_by_one,
        "imap": imap,
        "apply_async": apply_async,
    }
