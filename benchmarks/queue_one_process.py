"""A small item into a queue and out again, in one process."""

from __future__ import annotations

import time

import channels
import harness
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    repeat = 2_000 if quick else 20_000
    queue = channels.opened(peer)
    put, get = queue.put, queue.get
    for number in range(100):
        put(number)
        assert get() == number
    start = time.perf_counter_ns()
    for number in range(repeat):
        put(number)
        get()
    return {"put and get": (time.perf_counter_ns() - start) / 1000 / repeat}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="queue_one_process",
            claim="`Queue`: put and get in one process",
            metrics=(Metric("put and get", "us", "lower", Goal("times", 40), Goal("times", 100)),),
            turn=turn,
            peers=channels.EVERYONE,
            note="Goals against faster-fifo: 4 times, aim 10 times.",
        )
    )
