"""Each test of a container runs on each backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .backends import BACKENDS


@pytest.fixture(params=sorted(BACKENDS))
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    with BACKENDS[request.param]() as opened:
        yield opened
