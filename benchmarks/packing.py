"""Tasks that compute: how close the wall time comes to two workers that are never idle."""

from __future__ import annotations

import random
import time

import harness
import peers
import tasks
from harness import WORKERS, Goal, Metric, Values

SEED = 20
LONGEST, SHORTEST = 0.050, 0.000_010


def turn(peer: str, quick: bool) -> Values:
    size = 0.2 if quick else 1.0
    with peers.opened(peer) as pool:
        return {
            "1 ms, map": against_ideal(pool.map, [0.001] * int(600 * size)),
            "100 ms, map": against_ideal(pool.map, [0.100] * int(10 * size)),
            "mixed, map": against_ideal(pool.map, mixed(2 * size)),
            "mixed, imap_unordered": against_ideal(pool.imap_unordered, mixed(2 * size)),
        }


def mixed(seconds: float) -> list[float]:
    """Lengths from 10 us to 50 ms with a heavy tail, the same in each run, of that sum."""
    source = random.Random(SEED)
    lengths, total = list[float](), 0.0
    while total < seconds:
        lengths.append(min(LONGEST, SHORTEST * source.paretovariate(0.6)))
        total += lengths[-1]
    return lengths


def ideal(lengths: list[float], workers: int) -> float:
    """The least wall time in which so many workers, each on a core, can do them all."""
    return max(sum(lengths) / workers, *lengths)


def against_ideal(
    run: peers.Map | peers.Imap, lengths: list[float], workers: int = WORKERS
) -> float:
    start = time.perf_counter()
    results = list(run(tasks.spin, lengths))
    took = time.perf_counter() - start
    assert len(results) == len(lengths)
    return took / ideal(lengths, workers)


if __name__ == "__main__":
    goals = (Goal("best peer"), Goal("at most", 1.03))
    harness.main(
        harness.Benchmark(
            name="packing",
            claim="tasks that compute, wall time against ideal packing",
            metrics=tuple(
                Metric(name, "x ideal", "lower", *goals)
                for name in ("1 ms, map", "100 ms, map", "mixed, map", "mixed, imap_unordered")
            ),
            turn=turn,
            note="A task spins on the processor clock of its own thread. Mixed: 10 us to 50 ms, "
            f"Pareto tail, seed {SEED}. Ideal: half the sum, which tasks taken in turn reach.",
        )
    )
