"""The whole life of a small pool."""

from __future__ import annotations

import statistics
import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    method = None if peer == "loky" else "fork"
    cycles = [cycle(peer, method) for _ in range(3 if quick else 6)]
    return {"cycle": statistics.median(cycles[1:])}


def cycle(peer: str, method: str | None) -> float:
    start = time.perf_counter()
    pool = peers.create(peer, method=method)
    assert pool.apply(tasks.nothing, 1) == 1
    pool.close()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="pool_cycle",
            claim="create Pool(2), first result, close, join (fork)",
            metrics=(Metric("cycle", "ms", "lower", Goal("times", 2 / 3), Goal("times", 1)),),
            turn=turn,
            peers=tuple(peer for peer in harness.EVERYONE if peer != "joblib"),
            note="loky has no fork and starts its workers afresh.",
        )
    )
