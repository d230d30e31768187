"""`imap` of small objects in chunks of 100, in order and as they come."""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any

import harness
import imap_small
import peers
import tasks
from harness import BASELINE, SUBJECT, Goal, Metric, Values

COUNT = 10_000
CHUNK = 100
INPUTS: dict[str, list[Any]] = {
    **{kind: [make(n) for n in range(COUNT)] for kind, make in imap_small.ITEMS.items()},
    "ints": list(range(COUNT)),
}


def turn(peer: str, quick: bool) -> Values:
    least = 0.05 if quick else 0.3
    with peers.opened(peer) as adapter:
        assert isinstance(adapter, peers.PoolAdapter)
        in_order = functools.partial(adapter.pool.imap, chunksize=CHUNK)
        as_they_come = functools.partial(adapter.pool.imap_unordered, chunksize=CHUNK)
        rates = {f"imap, {kind}": rate(in_order, items, least) for kind, items in INPUTS.items()}
        rates["imap_unordered, dicts"] = rate(as_they_come, INPUTS["dicts"], least)
    return rates


def rate(imap: Any, items: list[Any], least: float) -> float:
    """Thousands of items a second: the median of as many calls as take `least` seconds."""
    assert len(list(imap(tasks.nothing, items))) == COUNT
    took: list[float] = []
    while sum(took) < least:
        start = time.perf_counter()
        results = list(imap(tasks.nothing, items))
        took.append(time.perf_counter() - start)
    assert len(results) == COUNT
    return COUNT / statistics.median(took) / 1000


if __name__ == "__main__":
    goals = (Goal("times", 1), Goal("times", 2))
    names = [*(f"imap, {kind}" for kind in INPUTS), "imap_unordered, dicts"]
    harness.main(
        harness.Benchmark(
            name="imap_chunks",
            claim=f"small items, `chunksize={CHUNK}`",
            metrics=tuple(Metric(name, "k items/s", "higher", *goals) for name in names),
            turn=turn,
            peers=(SUBJECT, BASELINE),
            note=f"{COUNT:,} items a call.",
        )
    )
