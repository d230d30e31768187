"""A pool on a Dask cluster of two workers on this machine: against Dask's futures, and its bags.

Each turn starts a cluster of its own, of two worker processes, and ends it. The 1 ms tasks say how
long they took, so that what is ideal is known: all of that time, divided by the workers.
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

FUTURES = "dask futures"
BAG = "dask.bag"
TINY = {SUBJECT: 20_000, FUTURES: 1_000, BAG: 1_000}
"""Tiny tasks of a turn: about as many as take a second."""
NAPS = 2_000
ARRAY_BYTES = 100_000_000
READERS = 1_000
_CLUSTER = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": None}

Calls = dict[str, Callable[..., Any]]


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


def turn(peer: str, quick: bool) -> Values:
    part = 10 if quick else 1
    values = {"start": start_to_first_result(peer)}
    with opened(peer) as (calls, array_to_all):
        count = TINY[peer] // part
        for name, call in calls.items():
            call(increment, range(count // 10))
            start = time.perf_counter()
            found = call(increment, range(count))
            values[name] = count / (time.perf_counter() - start)
            assert list(found) == list(range(1, count + 1))
        values["1 ms tasks"] = of_ideal(calls["map, one by one"], NAPS // part)
        if array_to_all is not None:
            values["array"] = seconds_of(array_to_all, READERS // part)
    return values


def start_to_first_result(peer: str) -> float:
    """From nothing to the first result: the cluster included, as each library starts one."""
    start = time.perf_counter()
    if peer == SUBJECT:
        from garrison import Pool

        with Pool(WORKERS, engine="dask") as pool:
            assert pool.apply(increment, (0,)) == 1
            return time.perf_counter() - start
    import distributed

    with distributed.Client(**_CLUSTER) as client:
        assert client.submit(increment, 0).result() == 1
        return time.perf_counter() - start


def of_ideal(call: Callable[..., Any], count: int) -> float:
    call(nap, range(WORKERS * 4))
    start = time.perf_counter()
    took: float = sum(call(nap, range(count)))
    return 100 * took / WORKERS / (time.perf_counter() - start)


def seconds_of(array_to_all: Callable[..., Any], count: int) -> float:
    import numpy as np

    array = np.ones(ARRAY_BYTES // 8)
    start = time.perf_counter()
    found = array_to_all(array, count)
    assert list(found) == [1.0] * count
    return time.perf_counter() - start


# --- The libraries --------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(peer: str) -> Iterator[tuple[Calls, Callable[..., Any] | None]]:
    """Start a cluster; give the ways to run tasks on it, and one to share an array."""
    import distributed

    with distributed.LocalCluster(**_CLUSTER) as cluster:
        if peer == SUBJECT:
            from garrison import Pool

            with Pool(engine=cluster) as pool:
                while pool.apply(increment, (0,)) and pool.statistics().workers < WORKERS:
                    pass
                yield calls_of_pool(pool)
            return
        with distributed.Client(cluster) as client:
            yield calls_of_client(client) if peer == FUTURES else (calls_of_bags(), None)


def calls_of_pool(pool: Any) -> tuple[Calls, Callable[..., Any]]:
    from garrison import share

    calls = calls_of(pool)

    def array_to_all(array: Any, count: int) -> Any:
        return calls["map, one by one"](read_shared, [share(array)] * count)

    return calls, array_to_all


def calls_of_client(client: Any) -> tuple[Calls, Callable[..., Any]]:
    def mapped(function: Any, items: Any) -> Any:
        return client.gather(client.map(function, items, pure=False))

    def imap(function: Any, items: Any) -> Any:
        return [future.result() for future in client.map(function, items, pure=False)]

    def submit(function: Any, items: Any) -> Any:
        futures = [client.submit(function, item, pure=False) for item in items]
        return [future.result() for future in futures]

    def array_to_all(array: Any, count: int) -> Any:
        stored = client.scatter(array, broadcast=True)
        return client.gather([client.submit(read, stored, pure=False) for _ in range(count)])

    calls = {"map": mapped, "map, one by one": mapped, "imap": imap, "apply_async": submit}
    return calls, array_to_all


def calls_of_bags() -> Calls:
    import dask.bag

    def with_defaults(function: Any, items: Any) -> Any:
        return dask.bag.from_sequence(items).map(function).compute()

    def one_by_one(function: Any, items: Any) -> Any:
        return dask.bag.from_sequence(items, partition_size=1).map(function).compute()

    return {"map": with_defaults, "map, one by one": one_by_one}


if __name__ == "__main__":
    alone.enter()
    harness.BASELINE = FUTURES
    harness.main(
        harness.Benchmark(
            name="dask_pool",
            claim=f"a pool of {WORKERS} workers on Dask",
            metrics=METRICS,
            turn=turn,
            peers=(SUBJECT, FUTURES, BAG),
            rounds=3,
            note=f"start: from nothing to the first result, the cluster included; array: "
            f"{ARRAY_BYTES / 1e6:.0f} MB to {READERS} tasks, one by one, by garrison.share and by "
            "scatter(broadcast=True).",
        )
    )
