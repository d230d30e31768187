"""Two processes that want one lock all the time."""

from __future__ import annotations

import time
from typing import Any

import harness
import locks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    context = locks.module_of(peer).get_context("fork")
    lock, seconds = context.Lock(), 0.3 if quick else 1.5
    # Pipes and processes are those of the standard library in both.
    receive, send = context.Pipe(duplex=False)
    end = time.monotonic() + 0.1 + seconds
    workers = [context.Process(target=hammer, args=(lock, end, send)) for _ in range(2)]
    for worker in workers:
        worker.start()
    counts = [receive.recv() for _ in workers]
    for worker in workers:
        worker.join()
    total = sum(count for count, _ in counts)
    took = max(span for _, span in counts)
    return {"total": total / took / 1000, "fairness": min(counts)[0] / (total / 2)}


def hammer(lock: Any, end: float, send: Any) -> None:
    """Take and release it until the end; how often, and in how many seconds."""
    count, start = 0, time.monotonic()
    while time.monotonic() < end:
        for _ in range(100):
            with lock:
                count += 1
    with lock:
        send.send((count, time.monotonic() - start))


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="lock_two_processes",
            claim="two processes hammering one `Lock`, total",
            metrics=(
                Metric("total", "thousands/s", "higher", Goal("times", 1.5), Goal("times", 3)),
                Metric("fairness", "of its half", "higher"),
            ),
            turn=turn,
            peers=locks.PEERS,
            note="(fairness: what the less lucky one got of an even share)",
        )
    )
