"""No crash point without a test that kills there."""

from __future__ import annotations

from pathlib import Path

import pytest

from garrison import _core

TESTS = Path(__file__).parent
POOL = TESTS / "failures" / "crash_points.py"
SYNC = TESTS / "sync"
KILLED_IN = {
    **dict.fromkeys(("worker", "cell", "args", "task", "heap", "result"), POOL),
    **dict.fromkeys(("supervisor", "requeue", "lost"), POOL),
    **dict.fromkeys(("agent", "lock", "chunk"), SYNC / "test_lock_crashes.py"),
    "queue": SYNC / "queue_crashes.py",
    "store": TESTS / "store" / "test_crashes.py",
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
def test_every_point_is_killed_at(point: str) -> None:
    if not _core.CRASH_POINTS:
        pytest.skip("a build with the feature crash-points")
    kind = point.partition(".")[0]
    if kind in KILLED_IN:
        assert kind in KILLED_IN[kind].read_text()
    else:
        assert f'"{point}"' in NAMED_IN[kind].read_text()
