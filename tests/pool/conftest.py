"""Each start method in turn. Pools are made in the tests: pytest would keep a fixture's alive."""

from __future__ import annotations

from typing import Any

import pytest

import garrison

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def context(method: str) -> Any:
    return garrison.get_context(method)
