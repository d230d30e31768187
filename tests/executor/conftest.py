"""Each start method in turn, and an executor of two workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison import Executor

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return garrison.get_context(str(request.param))


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(2) as made:
        yield made
