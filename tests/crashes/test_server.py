"""A server is killed at each named point of a change that a remote client requests.

The change is there as a whole or not at all. Local clients find the lock free at once, remote
clients as soon as the server is restarted.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from garrison import _core
from garrison.errors import ManagerLost
from manager.processes import ServerProcess
from sync.forked import arm

POINTS = [point for point in _core.CRASH_POINTS if point.startswith("store.")]
UNDONE = {"store.locked", "store.begun", "store.written"}
"""Who dies there has done nothing."""
IN_MEMORY_ALONE = {"store.reserved"}

if not POINTS:
    pytest.skip("a build with the feature crash-points", allow_module_level=True)


class Trap:
    """A point at which a server dies once the trap is set; until then it is as good as any."""

    def __init__(self, folder: Path, point: str) -> None:
        self.point = point
        self._sprung = folder / "sprung"
        self._sprung.touch()

    def enter(self) -> None:
        """Walk into it, in a process that is to die."""
        arm(self.point, self._sprung)

    def set(self) -> None:
        """Let the next one who comes there die."""
        self._sprung.unlink()


@pytest.fixture
def trap(tmp_path: Path, request: pytest.FixtureRequest) -> Trap:
    return Trap(tmp_path, request.param)


@pytest.fixture
def server(tmp_path: Path, trap: Trap) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "store", enter=trap.enter) as server:
        yield server


class Containers:
    """Three that are changed together, by what is never asked twice."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        self.all = (
            manager.dict("accounts", a=10),
            manager.list(name="log"),
            manager.Queue("orders"),
        )

    def transaction(self) -> None:
        with self.manager.transaction():
            self._change(*self.all)

    def pipeline(self) -> None:
        with self.manager.pipeline() as later:
            self._change(*map(later, self.all))

    @staticmethod
    def _change(accounts: Any, log: Any, orders: Any) -> None:
        accounts.add("a", -7)
        log.append(7)
        orders.put("an order")

    def do(self, deed: str) -> bool:
        """Do it; return whether the answer came."""
        try:
            getattr(self, deed)()
        except ManagerLost:
            return False
        return True

    def everything(self) -> list[Any]:
        accounts, log, orders = self.all
        return [dict(accounts), list(log), orders.qsize()]


BEFORE, AFTER = [{"a": 10}, [], 0], [{"a": 3}, [7], 1]
IN_BETWEEN = [[{"a": 3}, [], 0], [{"a": 3}, [7], 0]]
"""What a pipeline may leave, which is not one step."""


EVERYWHERE = pytest.mark.parametrize("trap", sorted(set(POINTS) - IN_MEMORY_ALONE), indirect=True)


@EVERYWHERE
@pytest.mark.parametrize("deed", ["transaction", "pipeline"])
def test_remote_change_is_all_or_nothing(server: ServerProcess, trap: Trap, deed: str) -> None:
    local, remote = Containers(server.connect(direct=True)), Containers(server.connect())
    assert remote.everything() == BEFORE
    trap.set()
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(remote.do, deed)
        server.wait()
        found: Any = local.everything()
        assert found in [BEFORE, AFTER, *(IN_BETWEEN if deed == "pipeline" else [])]
        if trap.point in UNDONE:
            assert found == BEFORE
        accounts, log, _ = local.all
        with local.manager.transaction(timeout=10):
            accounts["b"] = 1
        server.start()
        if done.result():  # it had not been begun, and was asked once more
            assert found == BEFORE
            found = AFTER
    assert remote.everything() == [{**found[0], "b": 1}, *found[1:]]
    with remote.manager.transaction(timeout=10):
        remote.all[1].append("later")
    assert list(log) == [*found[1], "later"]


@EVERYWHERE
def test_item_claimed_from_a_dying_server_is_not_lost(server: ServerProcess, trap: Trap) -> None:
    local, remote = server.connect(direct=True), server.connect()
    orders = local.Queue("orders")
    orders.put_many(["first", "second"])
    theirs = remote.Queue("orders")
    trap.set()
    with pytest.raises(ManagerLost), theirs.claim():
        pass
    server.wait()
    server.start()
    assert {orders.get(timeout=20) for _ in range(2)} == {"first", "second"}
    assert orders.empty()


def check_and_set(trap: Trap, order: str) -> None:
    assert order == "first"
    trap.set()


@pytest.mark.parametrize("trap", ["store.committed"], indirect=True)
def test_remote_acknowledgement_survives_the_death_of_the_server(
    server: ServerProcess, trap: Trap
) -> None:
    local, remote = server.connect(direct=True), server.connect()
    orders = local.Queue("orders")
    orders.put_many(["first", "second"])
    with pytest.raises(ManagerLost), remote.Queue("orders").claim() as order:
        check_and_set(trap, order)
    server.wait()
    server.start()
    assert orders.get(timeout=20) == "second"
    assert orders.empty()
