"""Each crash point of the test build, under each start method."""

from __future__ import annotations

import pytest

from . import crash_points
from .registry import METHODS
from .together import Together, chosen

POINTS = crash_points.points() or (
    pytest.param("", marks=pytest.mark.skip("a build with the feature crash-points")),
)


@pytest.fixture(scope="module")
def together(request: pytest.FixtureRequest) -> Together:
    params = chosen(request, "test_crash_point")
    return Together((f"crash_point[{param['point']}]", param["method"]) for param in params)


@pytest.mark.watchdog(crash_points.LIMIT + 15.0)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("point", POINTS)
def test_crash_point(together: Together, point: str, method: str) -> None:
    outcome = together.outcome(crash_points.rows()[f"crash_point[{point}]"], method)
    assert outcome.kind == "ok", f"{outcome}\n{outcome.stderr}"
