"""Small items from one process to another, as fast as they go."""

from __future__ import annotations

import time
from typing import Any

import channels
import harness
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    count = 10_000 if quick else 200_000
    return {
        "integers": throughput(peer, count, 12345),
        "tuples": throughput(peer, count // 2, (12345, "name", 1.5)),
    }


def throughput(peer: str, count: int, item: object) -> float:
    """Items a second, from the first that arrives to the last."""
    queue = channels.opened(peer)
    process = channels.child(send, queue, count + 1, item)
    get = queue.get
    assert get() == item
    start = time.perf_counter()
    for _ in range(count):
        get()
    took = time.perf_counter() - start
    channels.join(process)
    return count / took / 1000


def send(queue: Any, count: int, item: object) -> None:
    put = queue.put
    for _ in range(count):
        put(item)


if __name__ == "__main__":
    goals = (Goal("times", 4), Goal("times", 8))
    harness.main(
        harness.Benchmark(
            name="queue_between",
            claim="`Queue` from one process to another, small items",
            metrics=(
                Metric("integers", "k/s", "higher", *goals),
                Metric("tuples", "k/s", "higher"),
            ),
            turn=turn,
            peers=channels.EVERYONE,
            note="One `put` and one `get` for each. Goals against faster-fifo: 3 times, aim 6.",
        )
    )
