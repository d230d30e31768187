"""A server for the tests of a module, empty for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from valkey_server import ValkeyServer

from .lock_servers import LockServer


@pytest.fixture(scope="module")
def running() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey(running: ValkeyServer) -> ValkeyServer:
    running.command("FLUSHALL")
    return running


@pytest.fixture
def server(valkey: ValkeyServer) -> LockServer:
    return LockServer(valkey)


@pytest.fixture
def client(server: LockServer) -> Iterator[Any]:
    with server.connect() as connected:
        yield connected
    vars(connected).clear()  # pytest keeps it for a while


@pytest.fixture
def manager(client: Any) -> Any:
    return client
