"""One array of 1 GB to 100 tasks: the time of all, and the memory of all processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import harness
import measure
import peers
import tasks
from harness import BASELINE, SUBJECT, Goal, Metric, Values

TASKS = 100
FEW = 4


def turn(peer: str, quick: bool) -> Values:
    size = 100_000_000 if quick else 1_000_000_000
    with peers.opened(peer) as pool:
        before = measure.anonymous_and_memfds()
        start = time.perf_counter()
        handle = make(peer, size)
        made = time.perf_counter() - start
        # The standard library copies the array for each task: a few of them show as much.
        count = TASKS if peer == SUBJECT else FEW
        with Sampler() as sampler:
            start = time.perf_counter()
            check(pool.imap_unordered(touch, repeat(handle, count)), count, size)
            took = (time.perf_counter() - start) * TASKS / count
        return {"time": made + took, "copies": (sampler.most - before) * measure.MB / size}


def make(peer: str, size: int) -> Any:
    """What is handed to the tasks."""
    import numpy as np

    array = np.ones(size // 8)
    if peer != SUBJECT:
        return array
    from garrison.memory import share

    return share(array)


def repeat(handle: Any, count: int) -> Iterable[Any]:
    return (handle for _ in range(count))


def touch(handle: Any) -> float:
    """A task: look at a number of each page."""
    return tasks.touch(handle if hasattr(handle, "sum") else handle.get())


def check(results: Iterable[float], count: int, size: int) -> None:
    expected = float(-(-size // 8 // (4096 // 8)))
    assert list(results) == [expected] * count


class Sampler:
    """The most memory of all processes, looked at again and again."""

    def __init__(self) -> None:
        self.most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while True:
            self.most = max(self.most, measure.anonymous_and_memfds())
            if self._over.wait(0.01):
                return

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="share_tasks",
            claim="one array of 1 GB to 100 tasks",
            metrics=(
                Metric("time", "s", "lower"),
                Metric("copies", "GB", "lower", Goal("at most", 1.05)),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=2,
            note="garrison by `share(array)`, the making of which counts; memory of all processes, "
            f"every shared page once. multiprocessing does {FEW} tasks, of which the time is "
            "scaled up.",
        )
    )
