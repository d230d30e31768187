"""A tensor of 16 MB of torch through a pool and through a queue; nothing without torch."""

from __future__ import annotations

import importlib
from typing import Any

import harness
import payloads
import peers
import tasks
from harness import BASELINE, SUBJECT, Goal, Metric, Values
from payload_matrix import median, through_queue

ELEMENTS = 4_000_000


def turn(peer: str, quick: bool) -> Values:
    # This registers torch's own way to send a tensor, in shared memory, with the standard library.
    torch = importlib.import_module("torch")
    tensor = torch.ones(ELEMENTS)
    library: Any = importlib.import_module(peer)
    with peers.opened(peer) as pool:
        return {
            "pool, argument": median(lambda: pool.apply(payloads.receive, tensor)),
            "pool, there and back": median(lambda: pool.apply(tasks.nothing, tensor)),
            "queue": through_queue(library, tensor),
        }


if __name__ == "__main__":
    goals = (Goal("times", 1), Goal("times", 3))
    harness.main(
        harness.Benchmark(
            name="torch_tensors",
            claim="a tensor of 16 MB",
            metrics=tuple(
                Metric(name, "ms", "lower", *goals)
                for name in ("pool, argument", "pool, there and back", "queue")
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            rounds=3,
        )
    )
