"""joblib on garrison's workers and on its own: tiny tasks, a large array, scikit-learn if there.

What counts is a call in a program that has made one before: the workers are there. Their start is a
figure of its own. Of 10,000 tiny tasks joblib's own loops take 16 ms, with any backend.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import harness
from harness import SUBJECT, WORKERS, Goal, Metric, Values

TINY = 10_000
ARRAY_TASKS = 100
LOKY = "loky"


def increment(n: int) -> int:
    return n + 1


def first(array: Any) -> float:
    return float(array[0])


def turn(peer: str, quick: bool) -> Values:
    joblib: Any = importlib.import_module("joblib")
    numpy: Any = importlib.import_module("numpy")
    if peer == SUBJECT:
        importlib.import_module("garrison.joblib")
    array = numpy.ones((20 if quick else 200) * 125_000)

    def call(task: Any, argument: Any, count: int, **settings: Any) -> Callable[[], Any]:
        delayed = joblib.delayed(task)

        def run() -> Any:
            # Anew for each call, as programs do: with loky a second call of the same one does not
            # find the file of an array that both have.
            parallel = joblib.Parallel(n_jobs=WORKERS, backend=peer, **settings)
            return parallel(delayed(argument) for _ in range(count))

        return run

    values = {"start": once(call(increment, 1, 2))}
    values["two tasks"] = median(call(increment, 1, 2), 21)
    values["tiny tasks"] = median(call(increment, 1, TINY))
    few = TINY // 10
    values["tiny tasks, batch_size=1"] = 10 * median(call(increment, 1, few, batch_size=1), 3)
    values["one task with an array"] = median(call(first, array, 1))
    values["tasks on one array"] = median(call(first, array, ARRAY_TASKS))
    if importlib.util.find_spec("sklearn") is not None:
        values |= scikit_learn(joblib, peer, quick=quick)
    return {name: seconds * 1000 for name, seconds in values.items()}


def scikit_learn(joblib: Any, peer: str, *, quick: bool) -> Values:
    datasets: Any = importlib.import_module("sklearn.datasets")
    ensemble: Any = importlib.import_module("sklearn.ensemble")
    selection: Any = importlib.import_module("sklearn.model_selection")
    x, y = datasets.make_classification(500 if quick else 5000, 40, random_state=0)
    forest = ensemble.RandomForestClassifier(10 if quick else 50, random_state=0, n_jobs=WORKERS)
    alone = ensemble.RandomForestClassifier(10, random_state=0)
    with joblib.parallel_config(backend=peer, n_jobs=WORKERS):
        return {
            "RandomForest": median(lambda: forest.fit(x, y), 3),
            "cross_val_score": median(lambda: selection.cross_val_score(alone, x, y), 3),
        }


def once(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median(call: Callable[[], Any], rounds: int = 5) -> float:
    call()
    return statistics.median(once(call) for _ in range(rounds))


def times(reach: float, aim: float) -> tuple[Goal, Goal]:
    return Goal("times", reach, LOKY), Goal("times", aim, LOKY)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="joblib_backend",
            claim="joblib",
            metrics=(
                Metric("start", "ms", "lower"),
                Metric("two tasks", "ms", "lower", *times(3, 10)),
                Metric("tiny tasks", "ms", "lower", *times(3, 10)),
                Metric("tiny tasks, batch_size=1", "ms", "lower", *times(3, 10)),
                Metric("one task with an array", "ms", "lower", *times(5, 10)),
                Metric("tasks on one array", "ms", "lower"),
                Metric("RandomForest", "ms", "lower"),
                Metric("cross_val_score", "ms", "lower"),
            ),
            turn=turn,
            peers=(SUBJECT, LOKY),
            baseline=LOKY,
            rounds=3,
            note=f"{TINY:,} tiny tasks; an array of 200 MB (20 MB with --quick), to one task and "
            f"to {ARRAY_TASKS}. loky is joblib's default backend.",
        )
    )
