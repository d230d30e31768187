"""A thousand rounds of 32 MB there and back: what is left of them in memory."""

from __future__ import annotations

import harness
import measure
import peers
import tasks
from harness import BASELINE, WORKERS, Goal, Metric, Values

SIZE = 32_000_000
SETTLED = 20


def turn(peer: str, quick: bool) -> Values:
    # The standard library needs 0.2 s a round: a part of them shows as much.
    rounds = 50 if quick else 60 if peer == BASELINE else 1000
    with peers.opened(peer) as pool:
        occupy_all(pool)
        before = high_water(pool, SETTLED)
        for _ in range(rounds - 2 * SETTLED):
            there_and_back(pool)
        after = high_water(pool, SETTLED)
        return {"growth": after - before, "in all": after}


def high_water(pool: peers.Adapter, rounds: int) -> float:
    """The most memory after any of these rounds: when a block comes back is a matter of luck."""
    most = 0.0
    for _ in range(rounds):
        there_and_back(pool)
        most = max(most, measure.memory())
    return most


def occupy_all(pool: peers.Adapter) -> None:
    """Have every worker hold an array once: what it keeps for the next one is no growth."""
    import numpy as np

    handles = [pool.submit(tasks.hold, np.ones(SIZE // 8)) for _ in range(2 * WORKERS)]
    for handle in handles:
        pool.result(handle)


def there_and_back(pool: peers.Adapter) -> None:
    import numpy as np

    array = np.empty(SIZE // 8)
    array[:: 4096 // 8] = 1.0
    assert tasks.touch(pool.apply(tasks.nothing, array)) == tasks.touch(array)


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="memory_flat",
            claim="1,000 rounds of 32 MB there and back, all memory",
            metrics=(
                Metric("growth", "MB", "lower", Goal("at most", 32)),
                Metric("in all", "MB", "lower"),
            ),
            turn=turn,
            peers=("garrison", "multiprocessing"),
            rounds=1,
            note=f"The last {SETTLED} rounds against the first {SETTLED}: all processes, every "
            "shared page once. multiprocessing does 60 rounds, for time.",
        )
    )
