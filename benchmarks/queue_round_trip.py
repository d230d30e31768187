"""A small item to another process and its answer back, through two queues."""

from __future__ import annotations

import time
from typing import Any

import channels
import harness
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    there, back = channels.opened(peer), channels.opened(peer)
    process = channels.child(answer, there, back)
    took = sorted(round_trip(there, back, n) for n in range(500 if quick else 10_000))
    there.put(None)
    channels.join(process)
    return {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def round_trip(there: Any, back: Any, number: int) -> float:
    start = time.perf_counter_ns()
    there.put(number)
    assert back.get() == number
    return (time.perf_counter_ns() - start) / 1000


def answer(there: Any, back: Any) -> None:
    while (item := there.get()) is not None:
        back.put(item)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="queue_round_trip",
            claim="`Queue` there and back between two processes",
            metrics=(
                Metric("p50", "us", "lower", Goal("times", 8), Goal("times", 20)),
                Metric("p99", "us", "lower"),
            ),
            turn=turn,
            peers=channels.EVERYONE,
        )
    )
