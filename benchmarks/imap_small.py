"""Tiny tasks, one element a chunk, in order and as they come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import harness
import peers
import tasks
from harness import Goal, Metric, Values

COUNT = 5_000
ITEMS: dict[str, Callable[[int], Any]] = {
    "tuples": lambda n: (n, f"n{n}", n / 2),
    "dicts": lambda n: {"id": n, "name": f"n{n}", "value": n / 2},
    "strings": lambda n: f"string {n}",
}


def turn(peer: str, quick: bool) -> Values:
    least = 0.05 if quick else 0.3
    with peers.opened(peer) as pool:
        values = {
            "imap": rate(pool.imap, least),
            "imap_unordered": rate(pool.imap_unordered, least),
        }
        if isinstance(pool, peers.PoolAdapter):
            for kind in ITEMS:
                values[f"imap, {kind}"] = rate(pool.imap, least, items_of(kind))
            values["imap_unordered, tuples"] = rate(pool.imap_unordered, least, items_of("tuples"))
            values["starmap"] = rate(starmap_of(pool), least)
    return values


def items_of(kind: str) -> list[Any]:
    return [ITEMS[kind](number) for number in range(COUNT)]


def starmap_of(pool: peers.PoolAdapter) -> peers.Imap:
    """`starmap` of tasks with one argument, called as an imap."""
    return lambda task, items: iter(
        pool.pool.starmap(task, [(item,) for item in items], chunksize=1)
    )


def rate(imap: peers.Imap, least: float, items: list[Any] | None = None) -> float:
    """Thousands of tasks a second, over as many calls as take `least` seconds."""
    inputs = range(COUNT) if items is None else items
    list(imap(tasks.nothing, inputs[:100]))
    start = time.perf_counter()
    calls = took = 0.0
    while took < least:
        results = list(imap(tasks.nothing, inputs))
        assert len(results) == COUNT
        calls += 1
        took = time.perf_counter() - start
    assert sorted(map(repr, results)) == sorted(map(repr, inputs))
    return calls * COUNT / took / 1000


if __name__ == "__main__":
    goals = (Goal("times", 12), Goal("times", 20))
    harness.main(
        harness.Benchmark(
            name="imap_small",
            claim="tiny tasks, `chunksize=1`",
            metrics=(
                Metric("imap", "k tasks/s", "higher", *goals),
                Metric("imap_unordered", "k tasks/s", "higher", *goals),
                *(Metric(f"imap, {kind}", "k tasks/s", "higher", *goals) for kind in ITEMS),
                Metric("imap_unordered, tuples", "k tasks/s", "higher", *goals),
                Metric("starmap", "k tasks/s", "higher", *goals),
            ),
            turn=turn,
            note=f"{COUNT:,} elements a call.",
        )
    )
