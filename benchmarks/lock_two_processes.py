"""Two processes that want one lock all the time."""

from __future__ import annotations

import time
from typing import Any

import harness
import locks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    rates = contest(peer, 2, 0.3 if quick else 1.5)
    return {"total": sum(rates), "fairness": min(rates) / (sum(rates) / 2)}


def contest(peer: str, processes: int, seconds: float) -> list[float]:
    """Thousands of times a second that each of them had the lock."""
    context = locks.module_of(peer).get_context("fork")
    lock = context.Lock()
    # Pipes and processes are those of the standard library in both.
    receive, send = context.Pipe(duplex=False)
    begin = time.monotonic() + 0.1 + 0.01 * processes
    end = begin + seconds
    workers = [
        context.Process(target=hammer, args=(lock, begin, end, send)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    counts = [receive.recv() for _ in workers]
    for worker in workers:
        worker.join()
    took = max(finished for _, finished in counts) - begin
    return [count / took / 1000 for count, _ in counts]


def hammer(lock: Any, begin: float, end: float, send: Any) -> None:
    """Take and release it from begin to end; how often, and when the last one was over."""
    time.sleep(max(0.0, begin - time.monotonic()))
    count = 0
    while time.monotonic() < end:
        for _ in range(100):
            with lock:
                count += 1
    finished = time.monotonic()
    with lock:
        send.send((count, finished))


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
