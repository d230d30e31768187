"""The sum of a shared array of 10 million integers."""

from __future__ import annotations

import harness
import values
from harness import BASELINE, SUBJECT, Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    import numpy as np

    size = 1_000_000 if quick else 10_000_000
    array = values.library(peer).Array("i", size)
    np.frombuffer(array.get_obj(), "i")[:] = np.arange(size)

    def through_numpy(times: int) -> None:
        for _ in range(times):
            assert int(np.asarray(array).sum()) == size * (size - 1) // 2

    def copied_out(times: int) -> None:
        for _ in range(times):
            assert sum(array[:]) == size * (size - 1) // 2

    work = through_numpy if peer == SUBJECT else copied_out
    return {"sum": values.fastest(work, 3, 3) / 1e6}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="array_numpy",
            claim="sum of a shared array of 10 million integers",
            metrics=(Metric("sum", "ms", "lower", Goal("times", 100)),),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=3,
            note="garrison by `numpy.asarray(array).sum()`, a view; the standard library by "
            "`sum(array[:])`, which copies the elements out.",
        )
    )
