"""Each start method in turn."""

from __future__ import annotations

from typing import Any

import pytest

import garrison

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return garrison.get_context(str(request.param))
