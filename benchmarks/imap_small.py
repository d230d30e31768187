"""Tiny tasks, one element a chunk, in order and as they come."""

from __future__ import annotations

import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    count = 2_000 if quick else 5_000
    with peers.opened(peer) as pool:
        return {"imap": rate(pool.imap, count), "imap_unordered": rate(pool.imap_unordered, count)}


def rate(imap: peers.Imap, count: int) -> float:
    list(imap(tasks.nothing, range(100)))
    start = time.perf_counter()
    results = list(imap(tasks.nothing, range(count)))
    took = time.perf_counter() - start
    assert sorted(results) == list(range(count))
    return count / took / 1000


if __name__ == "__main__":
    goals = (Goal("times", 8), Goal("times", 15))
    harness.main(
        harness.Benchmark(
            name="imap_small",
            claim="`imap` and `imap_unordered` of tiny tasks, `chunksize=1`",
            metrics=(
                Metric("imap", "k tasks/s", "higher", *goals),
                Metric("imap_unordered", "k tasks/s", "higher", *goals),
            ),
            turn=turn,
        )
    )
