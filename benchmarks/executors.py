"""Executors: one call there and back, many submits, and maps without chunks.

The standard library's is `concurrent.futures.ProcessPoolExecutor`; it stands in the place of
`multiprocessing`.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import time
from collections.abc import Callable
from typing import Any

import harness
import tasks
from harness import WORKERS, Goal, Metric, Values

ROUND_TRIPS = 1_000
CALLS = 10_000
ARGUMENTS: dict[str, Callable[[int], Any]] = {
    "tuple": lambda n: (n, f"n{n}", n / 2),
    "bytes": lambda n: b"x" * 1000 + bytes([n % 256]),
    "str": lambda n: "text" * 25 + str(n),
}
"""What calls get, beside a number."""


def opened(peer: str) -> Any:
    """An executor of one library, with its defaults."""
    if peer == "garrison":
        return importlib.import_module("garrison").Executor(WORKERS)
    if peer == "loky":
        return importlib.import_module("loky").ProcessPoolExecutor(WORKERS)
    return concurrent.futures.ProcessPoolExecutor(WORKERS)


def turn(peer: str, quick: bool) -> Values:
    part = 10 if quick else 1
    calls = range(CALLS // part)
    with opened(peer) as executor:
        # All workers are up before anything is timed.
        list(executor.map(tasks.pause, [0.02] * WORKERS * 4))
        values = {"round trip": round_trip(executor, range(ROUND_TRIPS // part))}
        for kind, make in ARGUMENTS.items():
            arguments = list(map(make, range(ROUND_TRIPS // part)))
            values[f"round trip, {kind}"] = round_trip(executor, arguments)
        for name, run in RATES.items():
            values[name] = rate(run, executor, list(calls))
    return values


def round_trip(executor: Any, arguments: Any) -> float:
    """Microseconds of a call, in the middle."""
    took = []
    for argument in arguments:
        start = time.perf_counter_ns()
        result = executor.submit(tasks.nothing, argument).result()
        took.append(time.perf_counter_ns() - start)
        assert result == argument
    return sorted(took)[len(took) // 2] / 1000


def rate(run: Callable[[Any, list[int]], list[int]], executor: Any, arguments: list[int]) -> float:
    """Thousands of calls a second."""
    start = time.perf_counter()
    results = run(executor, arguments)
    took = time.perf_counter() - start
    assert sorted(results) == arguments
    return len(arguments) / took / 1000


def submits(executor: Any, arguments: list[int]) -> list[int]:
    futures = [executor.submit(tasks.nothing, argument) for argument in arguments]
    return [future.result() for future in futures]


def as_completed(executor: Any, arguments: list[int]) -> list[int]:
    futures = [executor.submit(tasks.nothing, argument) for argument in arguments]
    return [future.result() for future in concurrent.futures.as_completed(futures)]


def callbacks(executor: Any, arguments: list[int]) -> list[int]:
    results: list[int] = []
    futures = [executor.submit(tasks.nothing, argument) for argument in arguments]
    for future in futures:
        future.add_done_callback(lambda ended: results.append(ended.result()))
    concurrent.futures.wait(futures)
    while len(results) < len(arguments):  # the last callback comes after the wait's end
        time.sleep(0)
    return results


def mapped(executor: Any, arguments: list[int]) -> list[int]:
    return list(executor.map(tasks.nothing, arguments, chunksize=1))


def mapped_in_chunks(executor: Any, arguments: list[int]) -> list[int]:
    return list(executor.map(tasks.nothing, arguments, chunksize=100))


RATES = {
    "10,000 submits": submits,
    "map(chunksize=1)": mapped,
    "map(chunksize=100)": mapped_in_chunks,
    "as_completed": as_completed,
    "callbacks": callbacks,
}

if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="executors",
            claim="`Executor` against `ProcessPoolExecutor` (as multiprocessing) and loky",
            metrics=(
                Metric("round trip", "us", "lower", Goal("times", 15), Goal("times", 30)),
                *(Metric(f"round trip, {kind}", "us", "lower") for kind in ARGUMENTS),
                Metric("10,000 submits", "k/s", "higher", Goal("times", 10)),
                Metric("map(chunksize=1)", "k/s", "higher", Goal("times", 15), Goal("times", 30)),
                *(Metric(name, "k/s", "higher") for name in list(RATES)[2:]),
            ),
            turn=turn,
            peers=("garrison", "multiprocessing", "loky"),
        )
    )
