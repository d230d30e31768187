"""Each test of a face runs on each engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .engines import ENGINES


@pytest.fixture(params=sorted(ENGINES))
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    with ENGINES[request.param]() as opened:
        yield opened
