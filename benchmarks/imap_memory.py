"""A generator of a million elements through `imap`, each result thrown away at once."""

from __future__ import annotations

import time

import harness
import measure
import peers
import tasks
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    count = 50_000 if quick else 1_000_000
    with peers.opened(peer) as pool:
        before = measure.reset_peak()
        start = time.perf_counter()
        seen = sum(1 for _ in pool.imap(tasks.nothing, (x for x in range(count))))
        took = time.perf_counter() - start
        grown = measure.peak() - before
    assert seen == count
    return {"growth": grown, "time": took}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="imap_memory",
            claim="`imap` of a generator of a million elements, parent's memory",
            metrics=(
                Metric("growth", "MB", "lower", Goal("at most", 20)),
                Metric("time", "s", "lower"),
            ),
            turn=turn,
            peers=("garrison", "multiprocessing"),
            rounds=1,
            note="Highest resident memory of the parent, shared memory included, less what it "
            "was before. The other peers take minutes for a million elements.",
        )
    )
