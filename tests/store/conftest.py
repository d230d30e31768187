"""A store for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from garrison import _core

from .tools import open_store


@pytest.fixture
def store() -> Iterator[_core.Store]:
    with open_store() as opened:
        yield opened
