"""A 32 MB numpy array to a worker, and back from one."""

from __future__ import annotations

import time

import harness
import peers
import tasks
from harness import Goal, Metric, Values

SIZE = 32_000_000
REPEAT = 4


def turn(peer: str, quick: bool) -> Values:
    repeat = 2 if quick else REPEAT
    with peers.opened(peer) as pool:
        return {
            "argument": SIZE / argument(pool, repeat),
            "result": SIZE / result(pool, tasks.give, repeat),
            "new result": SIZE / result(pool, tasks.make, repeat),
        }


def argument(pool: peers.Adapter, repeat: int) -> float:
    """Nanoseconds until a worker has the array and has touched each page of it."""
    import numpy as np

    array = np.ones(SIZE // 8)
    pages = len(array[:: 4096 // 8])
    took = []
    for turn in range(repeat + 1):
        array[0] = turn
        start = time.perf_counter_ns()
        total = pool.apply(tasks.touch, array)
        took.append(time.perf_counter_ns() - start)
        assert total == pages - 1 + turn
    return min(took[1:])


def result(pool: peers.Adapter, task: peers.Task, repeat: int) -> float:
    """Nanoseconds until the caller has a worker's array and has touched each page of it."""
    took = []
    for _ in range(repeat + 2):  # each of two workers makes its array once
        start = time.perf_counter_ns()
        total = tasks.touch(pool.apply(task, SIZE))
        took.append(time.perf_counter_ns() - start)
        assert total > 0
    return min(took[2:])


if __name__ == "__main__":
    goals = (Goal("times", 10), Goal("times", 25))
    harness.main(
        harness.Benchmark(
            name="arrays",
            claim="a 32 MB numpy array as argument, and as result",
            metrics=(
                Metric("argument", "GB/s", "higher", *goals),
                Metric("result", "GB/s", "higher", *goals),
                Metric("new result", "GB/s", "higher", Goal("times", 6), Goal("times", 10)),
            ),
            turn=turn,
            note=f"Whoever receives the array reads one number of each page. Best of {REPEAT} "
            "calls in each round. A new result is made by its task, which counts.",
        )
    )
