"""A shared dict of a Manager: what four processes do together."""

from __future__ import annotations

import harness
import managers
from harness import BASELINE, SUBJECT, Goal, Metric, Values

NAMES = managers.NAMES


def turn(peer: str, quick: bool) -> Values:
    times = {SUBJECT: 50_000, BASELINE: 1_500}.get(peer, 3_000) // (10 if quick else 1)
    with managers.opened(peer) as shared:
        for key in NAMES:
            shared.set(key, 0)

        def mixed(count: int) -> None:
            for number in range(count):
                key = NAMES[number % 1000]
                shared.get(key)
                shared.set(key, number)
                shared.increment(NAMES[number % 10])

        return {"operations": 3 * managers.together(4, mixed, times)}


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="manager_four",
            claim="a Manager's dict, four processes: get, set and atomic += 1",
            metrics=(Metric("operations", "1/s", "higher", Goal("times", 20), Goal("times", 60)),),
            turn=turn,
            peers=managers.EVERYONE,
            rounds=3,
        )
    )
