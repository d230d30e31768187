"""A method of a registered class, called from another process of the same machine."""

from __future__ import annotations

import multiprocessing.managers
import time
from typing import Any

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Values


class Tally:
    def __init__(self) -> None:
        self.votes = 0

    def vote(self, count: int) -> int:
        self.votes += count
        return self.votes


def turn(peer: str, quick: bool) -> Values:
    base: Any
    if peer == SUBJECT:
        from garrison import managers

        base = managers.BaseManager
    else:
        base = multiprocessing.managers.BaseManager
    manager_class: Any = type("Manager", (base,), {})
    manager_class.register("Tally", Tally)
    with manager_class() as manager:
        tally = manager.Tally()
        took = []
        for number in range(1, 1001 if quick else 10_001):
            start = time.perf_counter_ns()
            assert tally.vote(1) == number
            took.append((time.perf_counter_ns() - start) / 1000)
    took.sort()
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_method",
            claim="a method of a registered class, same host",
            metrics=(
                Metric("p50", "us", "lower", Goal("times", 4), Goal("times", 10)),
                Metric("p99", "us", "lower"),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
        )
    )
