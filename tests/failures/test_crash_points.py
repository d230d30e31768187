"""Each crash point of the test build, under each start method."""

from __future__ import annotations

import pytest

from . import crash_points, harness
from .registry import METHODS

POINTS = crash_points.points() or (
    pytest.param("", marks=pytest.mark.skip("a build with the feature crash-points")),
)


@pytest.mark.watchdog(crash_points.LIMIT + 15.0)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("point", POINTS)
def test_crash_point(point: str, method: str) -> None:
    row = crash_points.rows()[f"crash_point[{point}]"]
    outcome = harness.run(row, "garrison", method)
    assert outcome.kind == "ok", f"{outcome}\n{outcome.stderr}"
