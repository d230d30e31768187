"""Read and write one element of a shared array."""

from __future__ import annotations

import harness
import values
from harness import BASELINE, SUBJECT, Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    array = values.library(peer).Array("i", 1000)

    def read(times: int) -> None:
        for _ in range(times):
            array[5]

    def write(times: int) -> None:
        for number in range(times):
            array[5] = number

    times = 20_000 if quick else 200_000
    took = {"read": values.fastest(read, times), "write": values.fastest(write, times)}
    assert array[5] == times - 1
    return took


if __name__ == "__main__":
    goal = Goal("times", 3)
    harness.main(
        harness.Benchmark(
            name="array_items",
            claim="one element of a shared array, under its lock",
            metrics=(Metric("read", "ns", "lower", goal), Metric("write", "ns", "lower", goal)),
            turn=turn,
            peers=(SUBJECT, BASELINE),
        )
    )
