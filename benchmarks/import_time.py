"""What a program pays before its first task: imports, and a short script with one pool."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Values

IMPORTS = {
    SUBJECT: {"import": "import garrison", "pool": "import garrison; garrison.Pool"},
    BASELINE: {
        "import": "import multiprocessing",
        "pool": "import multiprocessing, multiprocessing.pool",
    },
}
SCRIPT = """
import {library} as multiprocessing
if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        assert pool.map(abs, range(-9, 0))
        pool.close()
        pool.join()
"""


def turn(peer: str, quick: bool) -> Values:
    programs = {
        "bare": "pass",
        **IMPORTS[peer],
        **{
            f"script, {method}": SCRIPT.format(library=peer, method=method)
            for method in ("fork", "spawn", "forkserver")
        },
    }
    medians = alternately(programs, 5 if quick else 15)
    bare = medians.pop("bare")
    return {name: value - (bare if name in IMPORTS[peer] else 0) for name, value in medians.items()}


def alternately(programs: dict[str, str], times: int) -> Values:
    """The median milliseconds of each program in a fresh interpreter; the first is not counted."""
    # Modules are compiled at most once, as in every installation.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    took: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(times + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, env=environment)
            took[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(values[1:]) for name, values in took.items()}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="import_time",
            claim="imports, above a bare interpreter; a whole script with one pool of 2 workers",
            metrics=(
                Metric("import", "ms", "lower", Goal("times", 0.8), Goal("times", 1)),
                Metric("pool", "ms", "lower", Goal("times", 0.8), Goal("times", 1)),
                Metric("script, fork", "ms", "lower", Goal("times", 1)),
                Metric("script, spawn", "ms", "lower", Goal("times", 1), Goal("times", 2)),
                Metric("script, forkserver", "ms", "lower", Goal("times", 1), Goal("times", 1.5)),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            note="pool: the package and its class Pool (multiprocessing.pool).",
        )
    )
