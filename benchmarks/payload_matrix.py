"""Payloads of each type and size: as argument, result, item of a queue, value of a manager."""

from __future__ import annotations

import contextlib
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Values
from payloads import MAKERS, consume, made, receive

SIZES = {"1 kB": 10**3, "10 kB": 10**4, "100 kB": 10**5, "1 MB": 10**6, "10 MB": 10**7}
LARGEST = {"100 MB": 10**8}
COMPACT = ("bytes", "str", "array")
"""Types that fit into memory several times with `LARGEST`."""
REPEAT = 15
SECONDS_FOR_A_CELL = 0.2


WAYS = ("argument", "result", "queue", "manager value")


def turn(peer: str, quick: bool) -> Values:
    library: Any = importlib.import_module(peer)
    values: Values = {}
    with library.Pool(1) as pool, library.Manager() as manager:
        for kind in MAKERS:
            for name, size in sizes(kind, quick=quick).items():
                with contextlib.suppress(ImportError):
                    for way in WAYS:
                        subject = manager if way == "manager value" else pool
                        values[f"{kind}, {name}, {way}"] = milliseconds(
                            library, subject, way, (kind, size)
                        )
    return values


def sizes(kind: str, *, quick: bool) -> dict[str, int]:
    if quick:
        return {name: size for name, size in SIZES.items() if size <= 10**6}
    return SIZES | LARGEST if kind in COMPACT else SIZES


def milliseconds(library: Any, subject: Any, way: str, payload: tuple[str, int]) -> float:
    """The median of some journeys of a payload, through a pool or by way of a manager."""
    if way == "result":
        return median(lambda: subject.apply(made, payload))
    value = made(*payload)
    if way == "argument":
        return median(lambda: subject.apply(receive, (value,)))
    if way == "manager value":
        shared = subject.Value("O", None)
        return median(lambda: set_and_get(shared, value))
    return through_queue(library, value)


def set_and_get(shared: Any, value: Any) -> None:
    shared.value = value
    shared.value  # noqa: B018 - it is fetched


def through_queue(library: Any, value: Any) -> float:
    """The median for a process that answers each item."""
    items, answers = library.Queue(), library.SimpleQueue()
    consumer = library.Process(target=consume, args=(items, answers))
    consumer.start()

    def send() -> None:
        items.put(value)
        answers.get()

    took = median(send)
    items.put(None)
    consumer.join()
    return took


def median(journey: Callable[[], Any]) -> float:
    journey()
    took: list[float] = []
    while not took or (len(took) < REPEAT and sum(took) < SECONDS_FOR_A_CELL):
        start = time.perf_counter()
        journey()
        took.append(time.perf_counter() - start)
    return statistics.median(took) * 1000


def metrics() -> tuple[Metric, ...]:
    goals = (Goal("times", 1), Goal("times", 3))
    return tuple(
        Metric(f"{kind}, {name}, {way}", "ms", "lower", *goals)
        for kind in MAKERS
        for name in sizes(kind, quick=False)
        for way in WAYS
    )


def summary(ratios: dict[str, float]) -> str:
    """Say which cells are below the standard library."""
    if not ratios:
        return "no cell was measured with both"
    below = [f"  {name}: {ratio:.2f}" for name, ratio in sorted(ratios.items()) if ratio < 1]
    smallest, mean = min(ratios.values()), statistics.geometric_mean(ratios.values())
    head = (
        f"{len(ratios)} cells, {len(below)} below 1.0; smallest {smallest:.2f}x, mean {mean:.2f}x"
    )
    return "\n".join([head, *below])


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="payload_matrix",
            claim="payloads of each type and size",
            metrics=metrics(),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=3,
            summary=summary,
            note="A queue's items go to another process, which answers each. "
            "A manager's value is set and read.",
        )
    )
