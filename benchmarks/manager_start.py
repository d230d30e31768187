"""From `Manager()` to the first value that was shared through it, in a fresh process."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    library: Any = multiprocessing
    if peer == SUBJECT:
        import garrison

        library = garrison
    took = []
    for _ in range(5 if quick else 30):
        start = time.perf_counter()
        manager = library.Manager()
        shared = manager.dict()
        shared["a"] = 1
        assert shared["a"] == 1
        took.append((time.perf_counter() - start) * 1000)
        manager.shutdown()
    took.sort()
    return {"first use": took[len(took) // 2]}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_start",
            claim="`Manager()`: from the start to the first use",
            metrics=(Metric("first use", "ms", "lower", Goal("times", 1), Goal("times", 2)),),
            turn=turn,
            peers=(SUBJECT, BASELINE),
        )
    )
