"""A lock that nobody else wants: taken and released."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import harness
import locks
from harness import Goal, Metric, Values

REPEATS = 7


def turn(peer: str, quick: bool) -> Values:
    lock, count = locks.module_of(peer).Lock(), 20_000 if quick else 200_000
    return {
        "with": best(lambda: with_it(lock, count)) / count,
        "acquire, release": best(lambda: by_calls(lock, count)) / count,
    }


def best(run: Callable[[], None]) -> float:
    """Nanoseconds of the fastest of some runs: what disturbs can only slow it down."""
    took = []
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        run()
        took.append(time.perf_counter_ns() - start)
    return float(min(took))


def with_it(lock: Any, count: int) -> None:
    for _ in range(count):
        with lock:
            pass


def by_calls(lock: Any, count: int) -> None:
    acquire, release = lock.acquire, lock.release
    for _ in range(count):
        acquire()
        release()


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="lock_uncontended",
            claim="`Lock` taken and released, nobody else wants it",
            metrics=(
                Metric("with", "ns", "lower", Goal("times", 2.5), Goal("times", 4)),
                Metric("acquire, release", "ns", "lower"),
            ),
            turn=turn,
            peers=locks.PEERS,
            note="(the loop is included in both)",
        )
    )
