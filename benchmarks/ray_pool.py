"""A pool on a Ray cluster of two processors on this machine: against Ray's own Pool, and its tasks.

Each turn starts a cluster of its own, and ends it. The 1 ms tasks say how long they took, so that
what is ideal is known: all of that time, divided by the workers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import alone
import harness
from clusters import METRICS, calls_of
from harness import SUBJECT, WORKERS, Values

RAY_POOL = "ray.util.multiprocessing"
RAY_TASKS = "ray tasks"
TINY = {SUBJECT: 20_000, RAY_POOL: 1_000, RAY_TASKS: 1_000}
"""Tiny tasks of a turn: about as many as take a second."""
NAPS = 2_000
ARRAY_BYTES = 100_000_000
READERS = 1_000


def increment(number: int) -> int:
    return number + 1


def nap(_number: int) -> float:
    """Take a millisecond, and say how long that was."""
    start = time.perf_counter()
    time.sleep(0.001)
    return time.perf_counter() - start


def read(array: Any) -> float:
    """Look at one number of an array."""
    return float(array[-1])


def read_shared(shared: Any) -> float:
    return read(shared.get())


def read_stored(references: list[Any]) -> float:
    import ray

    return read(ray.get(references[0]))


def turn(peer: str, quick: bool) -> Values:
    part = 10 if quick else 1
    with opened(peer) as (calls, values):
        count = TINY[peer] // part
        for name, call in calls.items():
            call(increment, range(count // 10))
            start = time.perf_counter()
            found = call(increment, range(count))
            values[name] = count / (time.perf_counter() - start)
            assert list(found) == list(range(1, count + 1))
        values["1 ms tasks"] = of_ideal(calls["map, one by one"], NAPS // part)
        values["array"] = array_to_all(peer, calls["map, one by one"], READERS // part)
    return values


def of_ideal(call: Callable[..., Any], count: int) -> float:
    call(nap, range(WORKERS * 4))
    start = time.perf_counter()
    took: float = sum(call(nap, range(count)))
    return 100 * took / WORKERS / (time.perf_counter() - start)


def array_to_all(peer: str, call: Callable[..., Any], count: int) -> float:
    import numpy as np
    import ray

    from garrison import share

    array = np.ones(ARRAY_BYTES // 8)
    start = time.perf_counter()
    if peer == SUBJECT:
        shared = share(array)
        found = call(read_shared, [shared] * count)
    elif peer == RAY_POOL:
        found = call(read_stored, [[ray.put(array)]] * count)
    else:
        found = call(read, [ray.put(array)] * count)
    assert list(found) == [1.0] * count
    return time.perf_counter() - start


# --- The libraries --------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(peer: str) -> Iterator[tuple[dict[str, Callable[..., Any]], Values]]:
    """Start a cluster: the ways to run tasks on it, and how long the first result has taken."""
    start = time.perf_counter()
    if peer == RAY_TASKS:
        import ray

        ray.init(address="local", num_cpus=WORKERS, include_dashboard=False)
        calls = {"map, one by one": ray_tasks}
        ray_tasks(increment, [0])
        values = {"start": time.perf_counter() - start}
        yield calls, values
        ray.shutdown()
        return
    with pool_of(peer) as pool:
        assert pool.map(increment, [0]) == [1]
        values = {"start": time.perf_counter() - start}
        yield calls_of(pool), values


@contextlib.contextmanager
def pool_of(peer: str) -> Iterator[Any]:
    if peer == SUBJECT:
        from garrison import Pool

        with Pool(WORKERS, engine="ray") as pool:
            yield pool
        return
    import ray
    from ray.util.multiprocessing import Pool as RayPool

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False)
    pool = RayPool(WORKERS)
    yield pool
    pool.terminate()
    pool.join()
    ray.shutdown()


def ray_tasks(function: Any, items: Any) -> Any:
    import ray

    remote = ray.remote(num_cpus=1)(function)
    return ray.get([remote.remote(item) for item in items])


if __name__ == "__main__":
    alone.enter()
    harness.BASELINE = RAY_POOL
    harness.main(
        harness.Benchmark(
            name="ray_pool",
            claim=f"a pool of {WORKERS} workers on Ray",
            metrics=METRICS,
            turn=turn,
            peers=(SUBJECT, RAY_POOL, RAY_TASKS),
            rounds=3,
            note=f"start: from nothing to the first result, Ray's cluster included; array: "
            f"{ARRAY_BYTES / 1e6:.0f} MB to {READERS} tasks, one by one, by garrison.share and "
            "by ray.put.",
        )
    )
