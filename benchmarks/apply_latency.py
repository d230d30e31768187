"""One tiny task there and back."""

from __future__ import annotations

import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    with peers.opened(peer) as pool:
        took = sorted(round_trip(pool) for _ in range(300 if quick else 3000))
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def round_trip(pool: peers.Adapter) -> float:
    start = time.perf_counter_ns()
    pool.apply(tasks.nothing, 1)
    return (time.perf_counter_ns() - start) / 1000


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="apply_latency",
            claim="`apply` of a tiny task, round trip",
            metrics=(
                Metric("p50", "us", "lower", Goal("times", 40), Goal("at most", 3)),
                Metric("p99", "us", "lower"),
            ),
            turn=turn,
        )
    )
