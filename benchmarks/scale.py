"""All that depends on the number of workers, for 1, 2, 4 ... as many as the machine has cores.

    python benchmarks/scale.py [--workers 1,2,4] [--quick]     measures, as each benchmark does
    python benchmarks/scale.py --draw benchmarks/results/scale.json --out docs/pictures

The second draws what the first has measured (`curves.py`) and prints it as a table in Markdown. On
16 cores the first takes about seven minutes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import apply_async_many
import curves
import harness
import imap_small
import map_small
import packing
import parent_work
import peers
import pool_cycle
from harness import BASELINE, SUBJECT, Goal, Metric, Values
from lock_two_processes import contest

SHORT = 0.000_1
"""Seconds that a short task computes."""

FAST = (Goal("times", 12), Goal("times", 20))
METRICS = (
    Metric("imap_unordered, integers", "k tasks/s", "higher", *FAST),
    Metric("imap_unordered, tuples", "k tasks/s", "higher", *FAST),
    Metric("imap, dicts", "k tasks/s", "higher", *FAST),
    Metric("imap, strings", "k tasks/s", "higher", *FAST),
    Metric("apply_async, then get", "k tasks/s", "higher", Goal("times", 15), Goal("times", 25)),
    Metric("map", "M tasks/s", "higher", Goal("times", 1.1), Goal("times", 1.5)),
    Metric("tasks of 0.1 ms", "x ideal", "lower", Goal("at most", 1.15), Goal("at most", 1.05)),
    Metric("heavy tail", "x ideal", "lower", Goal("at most", 1.08), Goal("at most", 1.03)),
    Metric("parent's work a result", "us", "lower", Goal("at most", 6)),
    Metric("Lock, all at once", "k/s", "higher", Goal("times", 1)),
    Metric("Lock, slowest", "of the fastest", "higher", Goal("at least", 0.6)),
    Metric("Pool cycle, fork", "ms", "lower", *pool_cycle.METHODS["fork"]),
    Metric("Pool cycle, spawn", "ms", "lower", *pool_cycle.METHODS["spawn"]),
)
"""What is measured for each number of workers."""


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workers", type=numbers, default=up_to(cores()))
    parser.add_argument("--draw", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    options, others = parser.parse_known_args()
    if options.draw:
        print(*curves.draw(options.draw, options.out), sep="\n")
    else:
        harness.main(benchmark(options.workers), others)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def up_to(most: int) -> list[int]:
    """The powers of two below the most, and that."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def benchmark(counts: list[int]) -> harness.Benchmark:
    def turn(peer: str, quick: bool) -> Values:
        values: Values = {}
        for workers in counts:
            measured = of_pool(peer, workers, quick) | of_others(peer, workers, quick)
            values |= {curves.row(name, workers): value for name, value in measured.items()}
        return values

    return harness.Benchmark(
        name="scale",
        claim="by the number of workers W",
        metrics=tuple(of_workers(metric, workers) for metric in METRICS for workers in counts),
        turn=turn,
        peers=(SUBJECT, BASELINE),
        note="x ideal: wall time, where each core has one worker that is never idle. The parent's "
        f"work: processor time. Cores: {cores()}.",
        arguments=("--workers", ",".join(map(str, counts))),
    )


def of_workers(metric: Metric, workers: int) -> Metric:
    name = curves.row(metric.name, workers)
    return Metric(name, metric.unit, metric.better, metric.reach, metric.aim)


def of_pool(peer: str, workers: int, quick: bool) -> Values:
    least, busy = (0.05, 0.1) if quick else (0.3, 0.5)
    at_once = min(workers, cores())
    short, tail = [SHORT] * int(busy * at_once / SHORT), packing.mixed(busy * at_once)
    with peers.opened(peer, workers) as pool:
        ordered, unordered, items = pool.imap, pool.imap_unordered, imap_small.items_of
        return {
            "imap_unordered, integers": imap_small.rate(unordered, least),
            "imap_unordered, tuples": imap_small.rate(unordered, least, items("tuples")),
            "imap, dicts": imap_small.rate(ordered, least, items("dicts")),
            "imap, strings": imap_small.rate(ordered, least, items("strings")),
            "apply_async, then get": apply_async_many.rate(pool, 2_000 if quick else 20_000),
            "map": map_small.rate(pool, 20_000 if quick else 200_000),
            "tasks of 0.1 ms": packing.against_ideal(unordered, short, at_once),
            "heavy tail": packing.against_ideal(unordered, tail, at_once),
        }


def of_others(peer: str, workers: int, quick: bool) -> Values:
    """What has no pool, or one of its own."""
    count, cycles = workers * (50 if quick else 200), 1 if quick else 5
    with parent_work.on_one_processor():
        used, _ = parent_work.parent_of(peer, workers, count)
    rates = contest(peer, workers, 0.3 if quick else 2.0)
    return {
        "parent's work a result": used / count * 1e6,
        "Lock, all at once": sum(rates),
        "Lock, slowest": min(rates) / max(rates),
        "Pool cycle, fork": pool_cycle.median(peer, "fork", workers, cycles),
        "Pool cycle, spawn": pool_cycle.in_program(peer, "spawn", workers, "", min(cycles, 2)),
    }


if __name__ == "__main__":
    main()
