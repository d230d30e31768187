"""The whole life of a small pool."""

from __future__ import annotations

import statistics
import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    if peer == "loky":
        return {"fork": median(peer, quick, None)}
    values = {"fork": median(peer, quick, "fork")}
    if peer in (harness.SUBJECT, harness.BASELINE):
        values |= {
            "spawn": median(peer, quick, "spawn"),
            "spawn, 8 workers": median(peer, quick, "spawn", 8),
            "forkserver": median(peer, quick, "forkserver"),
        }
    return values


def median(peer: str, quick: bool, method: str | None, workers: int = harness.WORKERS) -> float:
    cycles = [cycle(peer, method, workers) for _ in range(3 if quick else 6)]
    return statistics.median(cycles[1:])


def cycle(peer: str, method: str | None, workers: int) -> float:
    start = time.perf_counter()
    pool = peers.create(peer, workers, method)
    assert pool.apply(tasks.nothing, 1) == 1
    pool.close()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="pool_cycle",
            claim="create Pool(2), first result, close, join",
            metrics=(
                Metric("fork", "ms", "lower", Goal("times", 2 / 3), Goal("times", 1)),
                Metric("spawn", "ms", "lower", Goal("times", 1)),
                Metric("spawn, 8 workers", "ms", "lower", Goal("times", 1)),
                Metric("forkserver", "ms", "lower", Goal("times", 1)),
            ),
            turn=turn,
            peers=tuple(peer for peer in harness.EVERYONE if peer != "joblib"),
            note="loky has no fork and starts its workers afresh; its figure stands under fork.",
        )
    )
