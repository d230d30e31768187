"""Objects of some megabytes: to a worker, and there and back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import harness
import payloads
import peers
import tasks
from harness import BASELINE, SUBJECT, Goal, Metric, Values
from payload_matrix import median

ITEMS = 200
SIZES = {
    "5 MB of bytes": ("bytes", 5_000_000),
    "list of 100,000 strings": ("strings", 17 * 100_000),
    "frame of 200,000 strings": ("frame", 17 * 200_000),
}
ARGUMENT = "5 MB of str, as argument"
BY_IMAP = "50 kB of bytes, each by imap"
THERE_AND_BACK = {f"{name}, there and back": how for name, how in SIZES.items()}


def turn(peer: str, quick: bool) -> Values:
    values: Values = {}
    with peers.opened(peer) as pool:
        for name, (kind, size) in THERE_AND_BACK.items():
            with contextlib.suppress(ImportError):
                values[name] = median(call(pool, tasks.nothing, payloads.made(kind, size)))
        text, items = payloads.made("str", 5_000_000), [payloads.made("bytes", 50_000)] * ITEMS
        values[ARGUMENT] = median(call(pool, payloads.receive, text))
        values[BY_IMAP] = median(lambda: list(pool.imap(tasks.nothing, items))) / ITEMS
    return values


def call(pool: peers.Adapter, task: peers.Task, payload: Any) -> Callable[[], Any]:
    return lambda: pool.apply(task, payload)


if __name__ == "__main__":
    goals = (Goal("times", 1), Goal("times", 3))
    harness.main(
        harness.Benchmark(
            name="large_objects",
            claim="objects of some megabytes through a pool",
            metrics=tuple(
                Metric(name, "ms", "lower", *goals) for name in (*THERE_AND_BACK, ARGUMENT, BY_IMAP)
            ),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            note="The frame is pandas', and left out without it.",
        )
    )
