"""A manager that serves over a network, and its clients in this process and in another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import garrison
from garrison.net._limits import Limits

from . import processes
from .processes import KEY, RemoteProcess

FAST = Limits(idle_transaction_s=0.5, reconnect_grace_s=0.3)


@pytest.fixture
def local_manager() -> Iterator[Any]:
    with garrison.Manager(("127.0.0.1", 0), key=KEY, limits=FAST) as manager:
        yield manager
    vars(manager).clear()  # pytest keeps it for a while


@pytest.fixture
def client(local_manager: Any) -> Iterator[Any]:
    with garrison.connect(local_manager.address, KEY, direct=False) as connected:
        yield connected


@pytest.fixture
def other(local_manager: Any) -> Iterator[RemoteProcess]:
    with RemoteProcess() as process:
        process.do(processes.connect, local_manager.address)
        yield process
