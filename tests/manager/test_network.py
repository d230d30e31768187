"""A server and two clients on computers of their own, and a network that is cut and healed.

The computers are network namespaces; the server is a router between two cables::

    [client 0] 10.99.0.2 ── 10.99.0.1 [server] 10.99.1.1 ── 10.99.1.2 [client 1]
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from garrison.errors import LeaseLost, ManagerLost
from garrison.net._limits import Limits
from waiting import wait_until

from . import processes
from .processes import RemoteProcess, ServerProcess

IMPATIENT = Limits(
    keepalive_idle_s=1.0, peer_timeout_s=2.0, idle_transaction_s=30.0, reconnect_grace_s=30.0
)
PORT = 5678
CLONE_NEWNET = 0x40000000


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], check=False, capture_output=True, text=True)


class Network:
    """Three namespaces and two cables, which are gone at the end whatever happens."""

    def __init__(self) -> None:
        self._names = [f"garrison-{os.getpid()}-{part}" for part in ("server", "0", "1")]

    def build(self) -> None:
        server, *clients = self._names
        for name in self._names:
            self._do("netns", "add", name)
            self._do("-n", name, "link", "set", "lo", "up")
        for number, client in enumerate(clients):
            here, there = f"to{number}", "cable"
            peer = ["peer", "name", there, "netns", client]
            self._do("-n", server, "link", "add", here, "type", "veth", *peer)
            self._up(server, here, f"10.99.{number}.1/24")
            self._up(client, there, f"10.99.{number}.2/24")

    def _up(self, name: str, link: str, address: str) -> None:
        self._do("-n", name, "addr", "add", address, "dev", link)
        self._do("-n", name, "link", "set", link, "up")

    def _do(self, *words: str) -> None:
        done = ip(*words)
        if done.returncode:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def enter(self, which: str) -> None:
        """Move this process into the namespace of one of them."""
        name = next(each for each in self._names if each.endswith(f"-{which}"))
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{name}", "rb") as namespace:  # noqa: PTH123 - for its descriptor
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def cut(self, number: int) -> None:
        """Pull a client's cable."""
        self._do("-n", self._names[0], "link", "set", f"to{number}", "down")

    def heal(self, number: int) -> None:
        """Put it back."""
        self._do("-n", self._names[0], "link", "set", f"to{number}", "up")

    def remove(self) -> None:
        for name in self._names:
            ip("netns", "del", name)


def why_not() -> str:
    """What is missing for such a network."""
    if shutil.which("ip") is None:
        return "the command ip"
    name = f"garrison-{os.getpid()}-try"
    done = ip("netns", "add", name)
    if done.returncode:
        return f"the right to make network namespaces ({done.stderr.strip()})"
    try:
        added = ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "two")
        return f"veth pairs ({added.stderr.strip()})" if added.returncode else ""
    finally:
        ip("netns", "del", name)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    missing = why_not()
    if missing:
        pytest.skip(f"needs {missing}")
    made = Network()
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.fixture
def server(network: Network, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(
        tmp_path / "store",
        address=("0.0.0.0", PORT),  # noqa: S104 - of its own namespace
        limits=IMPATIENT,
        enter=lambda: network.enter("server"),
    ) as running:
        yield running


@pytest.fixture
def clients(network: Network, server: ServerProcess) -> Iterator[list[RemoteProcess]]:
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(2):
            network.heal(number)
            process = stack.enter_context(RemoteProcess(partial(network.enter, str(number))))
            process.do(processes.connect_fast, (f"10.99.{number}.1", PORT), IMPATIENT)
            started.append(process)
        yield started
    for number in range(2):
        network.heal(number)


def get_both(clients: list[RemoteProcess], kind: str, *args: Any) -> None:
    for each in clients:
        each.do(processes.get, kind, *args)


def set_while(state: Any, path: str) -> int:
    """Set one after the other until told to stop; idempotent, so a break is not seen."""
    number = 0
    while not Path(path).exists():
        state.thing[number] = number
        number += 1
    return number


def test_clients_share_the_servers_containers(clients: list[RemoteProcess]) -> None:
    get_both(clients, "dict", "stock")
    clients[0].do(processes.call, "__setitem__", "tea", 1)
    assert clients[1].do(processes.call, "get", "tea") == 1


@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_operations_continue_after_the_network_heals(
    network: Network, clients: list[RemoteProcess], tmp_path: Path, seconds: float
) -> None:
    get_both(clients, "dict", "stock")
    stop = tmp_path / "stop"
    clients[0].begin(set_while, str(stop))
    wait_until(lambda: clients[1].do(processes.call, "__len__") > 100)
    network.cut(0)
    # A break lasts; shorter or longer than either side waits for the other.
    time.sleep(seconds)
    count = clients[1].do(processes.call, "__len__")
    assert not clients[0].has_answered()
    network.heal(0)
    wait_until(lambda: clients[1].do(processes.call, "__len__") > count + 100)
    stop.touch()
    done = clients[0].result()
    assert clients[1].do(processes.call, "__len__") == done


def append_until_lost(state: Any) -> tuple[int, str]:
    sure = 0
    try:
        while True:
            state.thing.append(sure)
            sure += 1
    except ManagerLost as error:
        return sure, str(error)


def test_interrupted_append_has_an_unknown_outcome(
    network: Network, clients: list[RemoteProcess]
) -> None:
    for each in clients:
        each.do(get_list, "items")
    clients[0].begin(append_until_lost)
    wait_until(lambda: clients[1].do(processes.call, "__len__") > 100)
    network.cut(0)
    sure, text = clients[0].result()
    network.heal(0)
    assert "may or may not have been carried out" in text
    items = clients[1].do(processes.call, "__getitem__", slice(None))
    assert items in [list(range(sure)), list(range(sure + 1))]
    clients[0].do(processes.call, "append", "again")
    assert clients[1].do(processes.call, "pop") == "again"


def get_list(state: Any, name: str) -> None:
    state.thing = state.client.list(name=name)


def test_lease_of_an_unreachable_client_expires(
    network: Network, clients: list[RemoteProcess]
) -> None:
    get_both(clients, "Lock", "door")
    cut_off, other = clients
    assert cut_off.do(processes.call, "acquire")
    network.cut(0)
    # At most as long as the server waits for a silent client, and then some.
    assert other.do(processes.call, "acquire", True, 15.0)
    assert other.do(processes.get_attribute, "fence") > cut_off.do(processes.get_attribute, "fence")
    # Its kernel has noticed too: else the release would be on its way when the server refuses it.
    wait_until(lambda: cut_off.do(processes.is_disconnected))
    network.heal(0)
    with pytest.raises(LeaseLost, match="has expired"):
        cut_off.do(processes.call, "release")
    assert not cut_off.do(processes.call, "acquire", False)
    other.do(processes.call, "release")
    assert cut_off.do(processes.call, "acquire", True, 15.0)


def test_unreachable_waiter_waits_again_after_the_network_heals(
    network: Network, clients: list[RemoteProcess]
) -> None:
    get_both(clients, "Lock", "door")
    holder, waiter = clients
    assert holder.do(processes.call, "acquire")
    waiter.begin(processes.call, "acquire")
    wait_until(lambda: holder.do(waiting) == 1)
    network.cut(1)
    wait_until(lambda: holder.do(waiting) == 0)
    network.heal(1)
    wait_until(lambda: holder.do(waiting) == 1)
    holder.do(processes.call, "release")
    assert waiter.result() is True


def waiting(state: Any) -> int:
    return int(state.thing._ask("waiting")[0])


def begin(state: Any) -> None:
    state.client.store.backend.begin()
    state.thing["n"] = "never"


def go_on(state: Any) -> None:
    state.thing["n"] = "nor this"
    state.client.store.backend.commit()


def test_transaction_of_an_unreachable_client_is_undone(
    network: Network, clients: list[RemoteProcess]
) -> None:
    get_both(clients, "dict", "stock")
    cut_off, other = clients
    cut_off.do(begin)
    other.begin(processes.call, "__setitem__", "n", 1)
    network.cut(0)
    other.result()
    network.heal(0)
    with pytest.raises(ManagerLost, match="nothing of it was done"):
        cut_off.do(go_on)
    assert other.do(processes.call, "get", "n") == 1


def claim(state: Any) -> Any:
    state.claimed = state.thing.claim()
    return state.claimed.__enter__()


def test_claim_of_an_unreachable_client_is_returned(
    network: Network, clients: list[RemoteProcess]
) -> None:
    get_both(clients, "Queue", "jobs")
    cut_off, other = clients
    other.do(processes.call, "put", "job")
    assert cut_off.do(claim) == "job"
    network.cut(0)
    assert other.do(processes.call, "get", True, 15.0) == "job"


def test_server_restarts_while_a_client_is_unreachable(
    network: Network, server: ServerProcess, clients: list[RemoteProcess]
) -> None:
    get_both(clients, "dict", "stock")
    clients[0].do(processes.call, "__setitem__", "n", 1)
    network.cut(0)
    server.restart()
    clients[1].do(processes.call, "__setitem__", "n", 2)
    network.heal(0)
    assert clients[0].do(processes.call, "get", "n") == 2
