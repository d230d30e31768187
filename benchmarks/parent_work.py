"""What the parent does for each result of `imap_unordered`, and how many workers it can serve."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import harness
import peers
from harness import BASELINE, SUBJECT, Goal, Metric, Values

NAP = 0.001
"""Seconds that a task sleeps: workers take next to no processor time."""


def nap(item: Any) -> Any:
    """A task of two small values, there and back."""
    time.sleep(NAP)
    return item


def turn(peer: str, quick: bool) -> Values:
    values = {}
    for workers in (2, 16, 64):
        count = workers * (50 if quick else 200)
        with on_one_processor():
            used, took = parent_of(peer, workers, count)
        values[f"{workers} workers"] = used / count * 1e6
        values[f"{workers} workers, results"] = count / took
    with on_one_processor():
        values["a sleep"] = of_a_sleep(50 if quick else 500)
    return values


def of_a_sleep(count: int) -> float:
    """Microseconds of processor time for a sleep and its wake-up, which no library can avoid.

    With few workers the parent sleeps for most results; with many it finds several when it wakes.
    """
    used = time.process_time()
    for _ in range(count):
        time.sleep(NAP)
    return (time.process_time() - used) / count * 1e6


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """No thread spins while it waits there: the time is that of the work itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def parent_of(peer: str, workers: int, count: int) -> tuple[float, float]:
    """Processor seconds of this process, and seconds, for so many results."""
    items = [(number, "an item") for number in range(count)]
    with peers.opened(peer, workers) as pool:
        for _ in pool.imap_unordered(nap, items[: 4 * workers]):
            pass
        used, start = time.process_time(), time.perf_counter()
        results = sum(1 for _ in pool.imap_unordered(nap, items))
        used, took = time.process_time() - used, time.perf_counter() - start
    assert results == count
    return used, took


if __name__ == "__main__":
    work = tuple(
        Metric(f"{workers} workers", "us", "lower", Goal("at most", 6)) for workers in (2, 16, 64)
    )
    rate = tuple(
        Metric(f"{workers} workers, results", "1/s", "higher", Goal("times", 1))
        for workers in (2, 16, 64)
    )
    harness.main(
        harness.Benchmark(
            name="parent_work",
            claim="imap_unordered: processor time of the parent for a result, and results a second",
            metrics=(*work, *rate, Metric("a sleep", "us", "lower")),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            note="Tasks sleep for 1 ms. All processes share one processor, on which nothing spins.",
        )
    )
