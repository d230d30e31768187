"""Tiny tasks, one element a chunk, in order and as they come."""

from __future__ import annotations

import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values

COUNT = 5_000


def turn(peer: str, quick: bool) -> Values:
    least = 0.05 if quick else 0.3
    with peers.opened(peer) as pool:
        return {"imap": rate(pool.imap, least), "imap_unordered": rate(pool.imap_unordered, least)}


def rate(imap: peers.Imap, least: float) -> float:
    """Thousands of tasks a second, over as many calls as take `least` seconds."""
    list(imap(tasks.nothing, range(100)))
    start = time.perf_counter()
    calls = took = 0.0
    while took < least:
        results = list(imap(tasks.nothing, range(COUNT)))
        assert len(results) == COUNT
        calls += 1
        took = time.perf_counter() - start
    assert sorted(results) == list(range(COUNT))
    return calls * COUNT / took / 1000


if __name__ == "__main__":
    goals = (Goal("times", 8), Goal("times", 15))
    harness.main(
        harness.Benchmark(
            name="imap_small",
            claim="tiny tasks, `chunksize=1`",
            metrics=(
                Metric("imap", "k tasks/s", "higher", *goals),
                Metric("imap_unordered", "k tasks/s", "higher", *goals),
            ),
            turn=turn,
            note=f"{COUNT:,} elements a call.",
        )
    )
