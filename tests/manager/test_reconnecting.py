"""Servers that are killed, stopped and started again, and what their clients find."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.errors import ContainerGone, ManagerLost
from garrison.net._limits import Limits
from waiting import wait_until

from . import processes
from .processes import KEY, RemoteProcess, ServerProcess, connection_to, thread


def test_client_goes_on_with_a_server_restarted_on_its_path(tmp_path: Path, caplog: Any) -> None:
    with ServerProcess(tmp_path) as server, server.connect() as client:
        stock, nameless = client.dict("stock", tea=1), client.list([1])
        inner = client.dict("nested", a={"b": 1})["a"]
        server.restart()
        assert stock == {"tea": 1}
        assert "reconnected to 127.0.0.1" in caplog.text
        stock["milk"] = 2
        inner["b"] += 1
        assert nameless == [1]
        server.restart(signal.SIGTERM)
        assert stock == {"tea": 1, "milk": 2}
        assert inner == {"b": 2}


def test_containers_in_use_outlive_a_restart(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, limits=Limits(reconnect_grace_s=0.2)) as server,
        server.connect() as client,
    ):
        nameless = client.list([1])
        server.restart()
        assert nameless == [1]
        with pytest.raises(Exception):  # noqa: B017, PT011
            client.Queue("wait").get(timeout=3)
        assert nameless == [1]


def test_restart_without_a_path_loses_the_containers(caplog: Any) -> None:
    with ServerProcess() as server, server.connect() as client:
        stock = client.dict("stock", tea=1)
        nameless = client.list([1])
        server.restart()
        for face in (stock, nameless):
            with pytest.raises(ContainerGone, match=r"was restarted.*again"):
                len(face)
        assert client.dict("stock") == {}
        with pytest.raises(ContainerGone):
            stock["a"] = 1
        assert client.list([2]) == [2]


def test_append_of_unknown_outcome_is_not_repeated(tmp_path: Path) -> None:
    """The server has the request, and is killed before it replies."""
    with ServerProcess(tmp_path) as server, server.connect() as client:
        items = client.list(name="items")
        os.kill(server.pid, signal.SIGSTOP)
        errors: list[BaseException] = []

        def append() -> None:
            try:
                items.append(1)
            except ManagerLost as error:
                errors.append(error)

        with thread(append):
            wait_until(lambda: bytes_unread(server.address[1]))
            server.end(signal.SIGKILL)
            server.start()
        assert "may or may not have been carried out" in str(errors[0])
        assert items == []
        items.append(2)
        assert items == [2]


def bytes_unread(port: int) -> int:
    """How many bytes a server on this machine has not read yet."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    entries = [line.split() for line in lines]
    here = [entry for entry in entries if entry[1].endswith(f":{port:04X}")]
    return sum(int(entry[4].split(":")[1], 16) for entry in here if entry[3] == "01")


def test_server_that_never_returns_raises_manager_lost(caplog: Any) -> None:
    with ServerProcess() as server, server.connect() as client:
        stock = client.dict("stock")
        connection_to(client.address).timeout = 0.3
        server.end()
        with pytest.raises(ManagerLost, match=r"no connection could be made for 0\.\d s"):
            stock["a"] = 1
        with pytest.raises(ManagerLost), client.transaction():
            pytest.fail("there is no server")


def test_threads_go_on_through_restarts(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        actors = [RemoteProcess() for _ in range(3)]
        try:
            for number, process in enumerate(actors):
                process.do(processes.connect, server.address)
                process.do(processes.get, "dict", f"stock {number}")
                process.begin(set_until, str(tmp_path / "enough"))
            for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                with server.connect() as client:
                    seen = len(client.dict("stock 0"))
                    wait_until(lambda: len(client.dict("stock 0")) > seen + 20)
                server.restart(how)
            (tmp_path / "enough").touch()
            for number, process in enumerate(actors):
                count = process.result()
                with server.connect() as client:
                    assert client.dict(f"stock {number}") == {n: n for n in range(count)}
        finally:
            for process in actors:
                process.close()


def set_until(state: Any, enough: str) -> int:
    for number in itertools.count():
        if Path(enough).exists():
            return number
        state.thing[number] = number
        assert state.thing[number] == number
    raise AssertionError


def add_many(state: Any, ready: str, times: int) -> tuple[int, int]:
    """Add where nobody knows after a break whether it was done; count what is sure and what not."""
    sure = unsure = 0
    for number in range(times):
        if number == 5:
            Path(ready).touch()
        try:
            with state.client.transaction():
                state.thing["n"] = state.thing.get("n", 0) + 1
                state.thing["twice"] = state.thing.get("twice", 0) + 2
            sure += 1
        except ManagerLost as error:
            unsure += "may or may not" in str(error)
    return sure, unsure


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_transactions_in_a_restart_are_all_or_nothing(tmp_path: Path, how: signal.Signals) -> None:
    ready = tmp_path / "ready"
    with ServerProcess(tmp_path / "store") as server, RemoteProcess() as process:
        process.do(processes.connect, server.address)
        process.do(processes.get, "dict", "stock")
        process.begin(add_many, str(ready), 200)
        wait_until(ready.exists)
        server.restart(how)
        sure, unsure = process.result()
        with server.connect() as client:
            stock = client.dict("stock")
            assert sure <= stock["n"] <= sure + unsure
            assert stock["twice"] == 2 * stock["n"]


def test_sigterm_finishes_accepted_requests(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.connect() as client:
        jobs, door = client.Queue("jobs"), client.Lock("door")
        door.acquire()
        with thread(lambda: jobs.get(timeout=20)), thread(lambda: client.Event("e").wait()):
            wait_until(lambda: client.store.backend.ask("waiter_count")[0] == 1)
            event: Any = client.Event("e")
            wait_until(lambda: event._ask("waiting")[0] == 1)
            os.kill(server.pid, signal.SIGTERM)
            assert server.wait() == 0
            server.start()
            client.Event("e").set()
            jobs.put(1)


def test_shutdown_server_raises_manager_lost_at_once() -> None:
    with RemoteProcess() as process:
        with garrison.Manager(("127.0.0.1", 0), key=KEY) as manager:
            process.do(processes.connect, manager.address)
            process.do(processes.get, "dict", "stock")
        with pytest.raises(ManagerLost, match="stopped"):
            process.do(processes.call, "__setitem__", "a", 1)
        vars(manager).clear()


# -- keys -----------------------------------------------------------------------------------------


def test_wrong_and_empty_keys_are_refused() -> None:
    with ServerProcess() as server:
        for wrong in ("another key", KEY + b"x", b"short"):
            with pytest.raises(AuthenticationError, match="check the key"):
                garrison.connect(server.address, wrong)
        with pytest.raises(AuthenticationError, match="key=") as caught:
            garrison.connect(server.address)
        assert "key" in str(caught.value)
        for empty in ("", b""):
            with pytest.raises(ValueError, match="an empty key protects nothing"):
                garrison.connect(server.address, empty)
        with server.connect() as client:
            assert client.dict() == {}


def test_short_key_is_refused(tmp_path: Path) -> None:
    with ServerProcess(key=b"abc") as server, server.connect() as client:
        assert client.list([1]) == [1]
        file = tmp_path / "key"
        file.write_text("abc\n")
        with garrison.connect(server.address, file, direct=False) as again:
            assert again.list([1]) == [1]
        file.write_text(" \n")
        with pytest.raises(ValueError, match="key' is empty"):
            garrison.connect(server.address, file)
        with pytest.raises(FileNotFoundError):
            garrison.connect(server.address, tmp_path / "no such file")


def test_urls_are_addresses_and_bad_ones_are_refused() -> None:
    with ServerProcess() as server:
        host, port = server.address
        with garrison.connect(f"garrison://{host}:{port}", KEY, direct=False) as client:
            assert client.dict() == {}
        with pytest.raises(OSError, match="refused"):
            garrison.connect(("127.0.0.1", 1), KEY)
        for wrong in ("http://x:1", "garrison://x", "garrison://x:notaport"):
            with pytest.raises(ValueError, match="garrison://"):
                garrison.connect(wrong, KEY)


def test_threads_of_a_client_share_a_broken_connection(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.connect() as client:
        stock = client.dict("stock")
        start = threading.Barrier(9)

        def work(number: int) -> None:
            start.wait()
            for turn in range(50):
                stock[number, turn] = turn

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for each in threads:
            each.start()
        start.wait()
        server.restart()
        for each in threads:
            each.join()
        assert len(stock) == 400
        assert connection_to(client.address).generation <= 3
