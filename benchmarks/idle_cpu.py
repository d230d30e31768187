"""A pool with nothing to do."""

from __future__ import annotations

import time

import harness
import measure
import peers
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    seconds = 1.0 if quick else 10.0
    with peers.opened(peer, workers=8):
        time.sleep(0.5)  # what follows the last result is not idleness yet
        before = measure.processor_seconds()
        time.sleep(seconds)
        used = measure.processor_seconds() - before
    return {"used": used * 10 / seconds}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="idle_cpu",
            claim="processor time of an idle pool of 8 over 10 s, all its processes",
            metrics=(Metric("used", "s", "lower", Goal("at most", 0.05)),),
            turn=turn,
            peers=tuple(peer for peer in harness.EVERYONE if peer != "joblib"),
            rounds=1,
        )
    )
