"""A shared dict and list of a Manager: what one process pays for each operation."""

from __future__ import annotations

import harness
import managers
from harness import Goal, Metric, Values


def turn(peer: str, quick: bool) -> Values:
    with managers.opened(peer) as shared:
        return managers.one_process(peer, shared, quick)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_dict",
            claim="a Manager's dict and list, one process",
            metrics=(
                Metric("get", "us", "lower", Goal("times", 20), Goal("times", 60)),
                Metric("set", "us", "lower", Goal("times", 15), Goal("times", 40)),
                Metric("append", "us", "lower", Goal("times", 15), Goal("times", 40)),
                Metric("atomic += 1", "us", "lower", Goal("times", 10), Goal("times", 30)),
            ),
            turn=turn,
            peers=managers.EVERYONE,
            rounds=3,
        )
    )
