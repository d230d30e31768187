"""Many tasks are sent, then each result is got."""

from __future__ import annotations

import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    count = 2_000 if quick else 20_000
    with peers.opened(peer) as pool:
        return {"rate": rate(pool, count)}


def rate(pool: peers.Adapter, count: int) -> float:
    """Thousands of tasks a second."""
    start = time.perf_counter()
    handles = [pool.submit(tasks.nothing, x) for x in range(count)]
    results = [pool.result(handle) for handle in handles]
    took = time.perf_counter() - start
    assert results == list(range(count))
    return count / took / 1000


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="apply_async_many",
            claim="20,000 `apply_async`, then `get` each",
            metrics=(Metric("rate", "k tasks/s", "higher", Goal("times", 15), Goal("times", 25)),),
            turn=turn,
        )
    )
