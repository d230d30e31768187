"""From `Manager()` to the first value that was shared through it, in a fresh process."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Values

SCRIPT = """
import {library} as multiprocessing
manager = multiprocessing.Manager()
shared = manager.dict()
shared["a"] = 1
assert shared["a"] == 1
manager.shutdown()
"""


def turn(peer: str, quick: bool) -> Values:
    library: Any = multiprocessing
    if peer == SUBJECT:
        import garrison

        library = garrison
    took = []
    for _ in range(5 if quick else 30):
        start = time.perf_counter()
        manager = library.Manager()
        shared = manager.dict()
        shared["a"] = 1
        assert shared["a"] == 1
        took.append((time.perf_counter() - start) * 1000)
        manager.shutdown()
    script = SCRIPT.format(library=peer)
    return {
        "first use": statistics.median(took),
        "a script": statistics.median([run(script) for _ in range((5 if quick else 15) + 1)][1:]),
    }


def run(program: str) -> float:
    """The milliseconds of a program in a fresh interpreter, whose modules are compiled once."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_start",
            claim="`Manager()`: from the start to the first use; a whole script with one",
            metrics=(
                Metric("first use", "ms", "lower", Goal("times", 1), Goal("times", 2)),
                Metric("a script", "ms", "lower", Goal("times", 1)),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
        )
    )
