"""From the death of a lock's holder until the one that waits for the lock has it."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import harness
from harness import BASELINE, SUBJECT, Goal, Metric, Unsupported, Values


def turn(peer: str, quick: bool) -> Values:
    if peer != SUBJECT:
        # It never happens there; nobody wants to wait for that.
        message = "the lock stays held for ever"
        raise Unsupported(message)
    import garrison

    warnings.simplefilter("ignore", garrison.AbandonedLock)
    lock, deaths = garrison.Lock(), 10 if quick else 60
    with garrison.Pool(1) as pool:
        watched = sorted(one_death(lock, lambda: in_worker(pool, lock)) for _ in range(deaths))
    alone = sorted(one_death(lock, lambda: in_process(garrison, lock)) for _ in range(deaths))
    last = deaths * 99 // 100
    return {
        "a supervisor watches, p99": watched[last] * 1e3,
        "nobody watches, p99": alone[last] * 1e3,
    }


def in_worker(pool: Any, lock: Any) -> Callable[[], object]:
    """Have a worker hold the lock; what to do about it afterwards."""
    result = pool.apply_async(hold, (lock,))
    return result.wait  # type: ignore[no-any-return]


def in_process(garrison: Any, lock: Any) -> Callable[[], object]:
    """Have a process that nobody waits for hold the lock."""
    process = garrison.Process(target=hold, args=(lock,))
    process.start()
    return process.join  # type: ignore[no-any-return]


def hold(lock: Any) -> None:
    lock.acquire()
    signal.pause()


def one_death(lock: Any, begin: Callable[[], Callable[[], object]]) -> float:
    """Seconds from the kill until we have the lock; we have waited for it for a while."""
    end = begin()
    while not lock.locked():
        time.sleep(0.001)
    pid = lock._semlock.holder[0]
    killed = 0.0

    def kill() -> None:
        nonlocal killed
        time.sleep(random.uniform(0.01, 0.11))
        killed = time.perf_counter()
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    lock.acquire()
    had = time.perf_counter()
    lock.release()
    thread.join()
    end()
    return had - killed


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="lock_death",
            claim="a lock whose holder is killed: time until a waiter has it",
            metrics=(
                Metric("a supervisor watches, p99", "ms", "lower", Goal("at most", 5.0)),
                Metric("nobody watches, p99", "ms", "lower", Goal("at most", 110.0)),
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=3,
        )
    )
