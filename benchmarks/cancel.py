"""Stop, cancel, and the first failure: how soon a pool is free again, and what is run in vain."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from pathlib import Path

import harness
import peers
import tasks
from harness import SUBJECT, Goal, Metric, Unsupported, Values

LONG_S = 1.0
"""Seconds that each of the tasks takes that are stopped."""
STOP_AFTER_S = 0.2
ITEMS = 400


def turn(peer: str, quick: bool) -> Values:
    found = {"stop": stop(peer), "in vain": run_in_vain(peer)}
    with contextlib.suppress(Unsupported):
        found |= cancelled(peer, 20 if quick else 200)
    return found


def stop(peer: str) -> float:
    """Milliseconds from a notebook's Stop in the middle of a `map` to the next answer."""
    with peers.opened(peer) as pool:
        pool.map(tasks.nothing, [1, 2])
        stopped_at: list[float] = []

        def interrupt() -> None:
            stopped_at.append(time.perf_counter())
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        timer = threading.Timer(STOP_AFTER_S, interrupt)
        timer.start()
        with contextlib.suppress(KeyboardInterrupt):
            pool.map(tasks.pause, [LONG_S] * 8)
        assert pool.map(tasks.nothing, [1, 2]) == [1, 2]
        return (time.perf_counter() - stopped_at[0]) * 1000


def cancelled(peer: str, times: int) -> Values:
    """Milliseconds from the cancel of a running task to the answer of the worker in its place."""
    if peer != SUBJECT:
        raise Unsupported("it cannot cancel a running task and go on")
    from garrison import Pool

    found: Values = {}
    with Pool(1) as pool, tempfile.TemporaryDirectory() as folder:
        for name, task, grace in (
            ("interrupt", tasks.note_and_pause, 60),
            ("replace", tasks.note_and_ignore, 0),
        ):
            took = []
            for number in range(times):
                path = Path(folder) / f"{name}-{number}"
                result = pool.apply_async(task, (str(path),))
                while not path.exists():
                    time.sleep(0.001)
                start = time.perf_counter()
                assert result.cancel(grace=grace)
                assert pool.apply(tasks.nothing, (1,)) == 1
                took.append((time.perf_counter() - start) * 1000)
            took.sort()
            found |= {f"{name} p50": took[times // 2], f"{name} p99": took[times * 99 // 100]}
    return found


def run_in_vain(peer: str) -> float:
    """Tasks of a `map` that begin although the first one has failed."""
    with peers.opened(peer) as pool, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "begun"
        try:
            pool.map(tasks.note_or_fail, [f"{path}:{number}" for number in range(ITEMS)])
        except LookupError:
            pass
        else:
            raise AssertionError("the failure is missing")
        pool.map(tasks.nothing, [1, 2])  # what goes on before that counts
        return float(len(path.read_bytes()) - 1)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="cancel",
            claim="how soon a pool is free after Stop, a cancel, a failure",
            metrics=(
                Metric("stop", "ms", "lower", Goal("at most", 500), Goal("at most", 200)),
                Metric("interrupt p50", "ms", "lower"),
                Metric("interrupt p99", "ms", "lower", Goal("at most", 100), Goal("at most", 20)),
                Metric("replace p50", "ms", "lower"),
                Metric("replace p99", "ms", "lower", Goal("at most", 100), Goal("at most", 20)),
                Metric("in vain", "tasks", "lower", Goal("times", 4)),
            ),
            turn=turn,
            rounds=3,
            note="stop: of 8 tasks that take a second each, 0.2 s after the call. In vain: of 400 "
            "tasks that take 2 ms each, chunks as the library chooses.",
        )
    )
