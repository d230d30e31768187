"""A long list of tiny tasks, chunks as the library chooses."""

from __future__ import annotations

import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values

REPEAT = 3


def turn(peer: str, quick: bool) -> Values:
    count = 20_000 if quick else 200_000
    with peers.opened(peer) as pool:
        return {"rate": rate(pool, count)}


def rate(pool: peers.Adapter, count: int) -> float:
    """Millions of tasks a second, in the best of some calls."""
    return count / min(seconds(pool, count) for _ in range(REPEAT)) / 1e6


def seconds(pool: peers.Adapter, count: int) -> float:
    start = time.perf_counter()
    results = pool.map(tasks.nothing, range(count))
    took = time.perf_counter() - start
    assert results == list(range(count))
    return took


if __name__ == "__main__":
    goals = (Goal("times", 1.1), Goal("times", 1.5))
    harness.main(
        harness.Benchmark(
            name="map_small",
            claim="`map` of 200,000 tiny tasks, automatic chunks",
            metrics=(Metric("rate", "M tasks/s", "higher", *goals),),
            turn=turn,
            note="concurrent.futures, loky and pebble have no automatic chunks and are given "
            f"those of multiprocessing. The best of {REPEAT} calls counts in each round.",
        )
    )
