"""A 32 MB numpy array through a queue to another process."""

from __future__ import annotations

import time
from typing import Any

import channels
import harness
from harness import Goal, Metric, Values

SIZE = 32_000_000
REPEAT = 6


def turn(peer: str, quick: bool) -> Values:
    import numpy as np

    there, back = channels.opened(peer), channels.opened(peer)
    process = channels.child(touch, there, back)
    array = np.ones(SIZE // 8)
    took = []
    for number in range(2 + (2 if quick else REPEAT)):
        array[0] = number
        start = time.perf_counter_ns()
        there.put(array)
        total = back.get()
        took.append(time.perf_counter_ns() - start)
        assert total == len(array[:: 4096 // 8]) - 1 + number
    there.put(None)
    channels.join(process)
    return {"array": SIZE / min(took[2:])}


def touch(there: Any, back: Any) -> None:
    """Read one number of each page."""
    while (array := there.get()) is not None:
        back.put(float(array[:: 4096 // 8].sum()))


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="queue_array",
            claim="a 32 MB numpy array through a `Queue`",
            metrics=(Metric("array", "GB/s", "higher", Goal("times", 10), Goal("times", 25)),),
            turn=turn,
            peers=channels.EVERYONE,
            note=f"Whoever receives the array reads one number of each page and answers. Best of "
            f"{REPEAT} in each round.",
        )
    )
