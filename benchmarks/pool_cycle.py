"""The whole life of a small pool: start method, workers, and what the main module imports."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import peers
from harness import BASELINE, HERE, SUBJECT, Goal, Metric, Values

METHODS = {
    "fork": (Goal("times", 1), Goal("times", 1.2)),
    "spawn": (Goal("times", 1), Goal("times", 2)),
    "forkserver": (Goal("times", 1), Goal("times", 1.5)),
}
MAINS = {"": "", ", numpy": "import numpy\n"}
"""First lines of a main module; by the name of the row."""
WORKERS = (1, 2, 16)
PROGRAM = """
if __name__ == "__main__":
    import sys
    sys.path.insert(0, {here!r})
    import pool_cycle
    pool_cycle.measure({peer!r}, {method!r}, {workers}, {times})
"""


def rows() -> dict[str, tuple[str, int, str]]:
    """The method, the number of workers and the main module, by the row's name."""
    return {
        f"{method}, {workers}{name}": (method, workers, main)
        for method in METHODS
        for name, main in MAINS.items()
        for workers in WORKERS
    }


def turn(peer: str, quick: bool) -> Values:
    if peer not in {SUBJECT, BASELINE}:
        return {f"fork, {harness.WORKERS}": median(peer, None, harness.WORKERS, times(quick, 2))}
    return {
        name: in_program(peer, method, workers, main, times(quick, workers))
        for name, (method, workers, main) in rows().items()
        if not main or importlib.util.find_spec("numpy") is not None
    }


def times(quick: bool, workers: int) -> int:
    """How many cycles are measured."""
    return (2 if quick else 5) if workers > harness.WORKERS else (4 if quick else 15)


def in_program(peer: str, method: str, workers: int, main: str, count: int) -> float:
    """Run the cycles in a program of its own, whose main module the workers may import."""
    text = main + PROGRAM.format(
        here=str(HERE), peer=peer, method=method, workers=workers, times=count
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.py"
        file.write_text(text, encoding="utf-8")
        out = subprocess.run([sys.executable, file], check=True, capture_output=True).stdout
    value: float = json.loads(out)
    return value


def measure(peer: str, method: str, workers: int, count: int) -> None:
    """Run in that program: print the median."""
    print(median(peer, method, workers, count))


def median(peer: str, method: str | None, workers: int, count: int) -> float:
    """The median of so many cycles. The first, which imports and starts servers, is not counted."""
    return statistics.median([cycle(peer, method, workers) for _ in range(count + 1)][1:])


def cycle(peer: str, method: str | None, workers: int) -> float:
    start = time.perf_counter()
    pool = peers.create(peer, workers, method)
    assert pool.apply(abs, -1) == 1
    pool.close()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="pool_cycle",
            claim="create a Pool, first result, close, join: start method, workers, main module",
            metrics=tuple(
                Metric(name, "ms", "lower", *METHODS[method])
                for name, (method, _, _) in rows().items()
            ),
            turn=turn,
            peers=tuple(peer for peer in harness.EVERYONE if peer != "joblib"),
            note="loky has no fork and starts its workers afresh; its figure stands under fork.",
        )
    )
