"""Unread results leave the table of tasks, so there may be any number of them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from garrison import Pool, WorkerDied

from . import tasks

MANY = 1 << 16
"""Cells from which on results are moved out: see `native/src/tasks/parent_state.rs`."""


def result_of_a_kind(kind: str) -> Any:
    if kind == "array":
        return np.arange(100_000)
    if kind == "list":
        return list(range(1000))
    if kind == "long":
        return b"x" * 1_000_000
    if kind == "death":
        return tasks.die()
    raise LookupError(kind)


@pytest.mark.watchdog(120)
def test_unfetched_results_of_all_kinds_are_kept() -> None:
    kinds = ["array", "list", "long", "error", "death"]
    with Pool(2) as pool:
        results = {kind: pool.apply_async(result_of_a_kind, (kind,)) for kind in kinds}
        for result in results.values():
            result.wait()
        small = [pool.apply_async(tasks.square, (n,)) for n in range(3 * MANY)]
        small[-1].wait()
        # Fewer than were submitted and not fetched: the others have left the table.
        assert pool.statistics().in_flight < 3 * MANY
        assert all(result.ready() for result in results.values())
        assert [each.get() for each in small] == [n * n for n in range(3 * MANY)]
        assert (results["array"].get() == np.arange(100_000)).all()
        assert results["list"].get() == list(range(1000))
        assert results["long"].get() == b"x" * 1_000_000
        for kind, error in (("error", LookupError), ("death", WorkerDied)):
            with pytest.raises(error):
                results[kind].get()
        del results, small
        pool.apply(tasks.square, (3,))
        assert pool._backend.parent.allocated < 1 << 16


@pytest.mark.watchdog(120)
def test_waiting_threads_get_a_result_moved_to_private_memory() -> None:
    with Pool(2) as pool:
        results = [pool.apply_async(tasks.square, (n,)) for n in range(2 * MANY)]
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.extend(each.get() for each in results[::997]))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        more = [pool.apply_async(tasks.square, (n,)) for n in range(MANY)]
        for thread in threads:
            thread.join()
        assert found.count(997**2) == 3
        assert len(found) == 3 * len(results[::997])
        assert more[-1].get() == (MANY - 1) ** 2
