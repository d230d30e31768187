"""A dict of a million keys: as fast for each as one of a thousand, within a factor of two."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import harness
from harness import SUBJECT, Goal, Metric, Values

NAMES = ("get all", "set all", "iterate all", "get at random", "set at random")


def turn(peer: str, quick: bool) -> Values:
    import garrison

    many = 100_000 if quick else 1_000_000
    with garrison.Manager() as manager:
        small, large = measured(manager, 1000), measured(manager, many)
    return {name: large[name] / small[name] for name in small}


def measured(manager: Any, count: int) -> dict[str, float]:
    """Microseconds for one get, set, and step of an iteration."""
    names = [f"key-{number}" for number in range(count)]
    shared = manager.dict(dict.fromkeys(names, 0))
    in_order = names * max(1, 100_000 // count)
    at_random = random.Random(7).choices(names, k=50_000)

    def get(keys: list[str]) -> None:
        for name in keys:
            shared[name]

    def put(keys: list[str]) -> None:
        for name in keys:
            shared[name] = 1

    def iterate() -> int:
        return sum(1 for _ in shared.items())

    walks = max(1, 100_000 // count)
    return {
        "get all": best(lambda: get(in_order), 1) / len(in_order),
        "set all": best(lambda: put(in_order), 1) / len(in_order),
        "iterate all": best(iterate, walks) / (walks * count),
        "get at random": best(lambda: get(at_random), 1) / len(at_random),
        "set at random": best(lambda: put(at_random), 1) / len(at_random),
    }


def best(work: Callable[[], Any], times: int) -> float:
    """Microseconds of the best of three turns."""
    took = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(times):
            work()
        took.append(time.perf_counter() - start)
    return min(took) * 1e6


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_million",
            claim="a Manager's dict of a million keys, in times of what one of a thousand takes",
            metrics=tuple(Metric(name, "times", "lower", Goal("at most", 2.0)) for name in NAMES),
            turn=turn,
            peers=(SUBJECT,),
            rounds=3,
            note="At random each key is a miss of the caches: a plain dict of a million keys takes "
            "about twenty times as long for each as one of a thousand.",
        )
    )
