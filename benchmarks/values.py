"""Shared values of the library in question, and two processes that work on one at once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

from harness import SUBJECT


def library(peer: str) -> Any:
    """The module that has its `Value` and `Array`."""
    if peer == SUBJECT:
        from garrison import sync

        return sync
    return multiprocessing


def fastest(work: Callable[[int], None], times: int, turns: int = 5) -> float:
    """Nanoseconds for one of so many, in the best turn."""
    took = []
    for _ in range(turns):
        start = time.perf_counter_ns()
        work(times)
        took.append(time.perf_counter_ns() - start)
    return min(took) / times


def both(work: Callable[[int], None], times: int) -> float:
    """Operations a second of two processes together, from the first start to the last end."""
    context = multiprocessing.get_context("fork")
    times_of_both = context.SimpleQueue()
    ready, go = context.Semaphore(0), context.Event()

    def run() -> None:
        ready.release()
        go.wait()
        start = time.perf_counter()
        work(times)
        times_of_both.put((start, time.perf_counter()))

    processes = [context.Process(target=run) for _ in range(2)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    starts, ends = zip(*(times_of_both.get() for _ in processes), strict=True)
    for process in processes:
        process.join()
    return float(2 * times / (max(ends) - min(starts)))
