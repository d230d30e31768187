"""No crash point without a test that kills there."""

from __future__ import annotations

from pathlib import Path

import pytest

from garrison import _core

HERE = Path(__file__).parent
SYNC = HERE.parent / "sync"
POOL = HERE / "pool_cases.py"
KILLED_IN = {
    **dict.fromkeys(("worker", "cell", "args", "task", "heap", "result"), POOL),
    **dict.fromkeys(("supervisor", "requeue", "lost"), POOL),
    **dict.fromkeys(("agent", "lock", "chunk"), HERE / "test_locks.py"),
    "queue": HERE / "queue_cases.py",
    "store": HERE / "test_store.py",
}
"""Test modules that kill at every point of these kinds."""
NAMED_IN = {
    "semaphore": SYNC / "test_semaphores.py",
    "condition": SYNC / "test_conditions.py",
    "event": SYNC / "test_events.py",
    "barrier": SYNC / "test_barriers.py",
    "value": SYNC / "test_values.py",
}
"""Test modules that name each of their points."""


@pytest.mark.parametrize("point", _core.CRASH_POINTS or ["none"])
def test_each_crash_point_has_a_test(point: str) -> None:
    if not _core.CRASH_POINTS:
        pytest.skip("a build with the feature crash-points")
    kind = point.partition(".")[0]
    if kind in KILLED_IN:
        assert kind in KILLED_IN[kind].read_text()
    else:
        assert f'"{point}"' in NAMED_IN[kind].read_text()
