"""Add 1 to a shared integer: alone, and two processes to the same one."""

from __future__ import annotations

import harness
import values
from harness import BASELINE, SUBJECT, Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    value = values.library(peer).Value("i", 0)

    def add(times: int) -> None:
        for _ in range(times):
            value.add(1)

    def add_under_lock(times: int) -> None:
        for _ in range(times):
            with value.get_lock():
                value.value += 1

    work = add if peer == SUBJECT else add_under_lock
    times = 20_000 if quick else 200_000
    alone = values.fastest(work, times)
    before = value.value
    together = values.both(work, times)
    assert value.value == before + 2 * times
    result = {"alone": alone, "two at once": together / 1e6}
    if peer == SUBJECT:
        result["alone, under the lock"] = values.fastest(add_under_lock, times)
    return result


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="value_add",
            claim="add 1 to a shared integer",
            metrics=(
                Metric("alone", "ns", "lower", Goal("times", 6), Goal("times", 10)),
                Metric("two at once", "M/s", "higher", Goal("times", 5), Goal("times", 20)),
                Metric("alone, under the lock", "ns", "lower"),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            note="garrison by `value.add(1)`, which is atomic; the standard library by "
            "`with value.get_lock(): value.value += 1`, as its documentation has it.",
        )
    )
