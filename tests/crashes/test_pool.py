"""Each crash point of the test build, under each start method."""

from __future__ import annotations

import pytest

from failures.registry import METHODS
from failures.together import Together, chosen

from . import pool_cases

POINTS = pool_cases.points() or (
    pytest.param("", marks=pytest.mark.skip("a build with the feature crash-points")),
)


@pytest.fixture(scope="module")
def together(request: pytest.FixtureRequest) -> Together:
    params = chosen(request, "test_pool_survives_a_death_at_each_point")
    return Together((f"crash_point[{param['point']}]", param["method"]) for param in params)


@pytest.mark.watchdog(pool_cases.LIMIT + 15.0)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("point", POINTS)
def test_pool_survives_a_death_at_each_point(together: Together, point: str, method: str) -> None:
    outcome = together.outcome(pool_cases.rows()[f"crash_point[{point}]"], method)
    assert outcome.kind == "ok", f"{outcome}\n{outcome.stderr}"
