"""A server for each test, and two clients of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from valkey_server import ValkeyServer

from .store_audit import new_store


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as started:
        yield started


@pytest.fixture
def stores(server: ValkeyServer) -> Iterator[list[Any]]:
    """Two clients of one store; their leases last for 10 s."""
    made = [new_store(server), new_store(server)]
    yield made
    for each in made:
        with contextlib.suppress(Exception):
            each.link.close()
    made.clear()
