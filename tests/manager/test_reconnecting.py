"""Servers that are killed, stopped and started again, and what their clients find."""

from __future__ import annotations

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

from . import afar
from .afar import KEY, Actor, Served, thread, until


def test_a_server_is_restarted_on_its_path(tmp_path: Path, caplog: Any) -> None:
    with Served(tmp_path) as served, served.connect() as client:
        stock, nameless = client.dict("stock", tea=1), client.list([1])
        inner = client.dict("nested", a={"b": 1})["a"]
        served.restart()
        assert stock == {"tea": 1}
        assert "reconnected to 127.0.0.1" in caplog.text
        stock["milk"] = 2
        inner["b"] += 1
        assert nameless == [1]
        served.restart(signal.SIGTERM)
        assert (stock, inner) == ({"tea": 1, "milk": 2}, {"b": 2})


def test_what_a_client_holds_outlives_the_server(tmp_path: Path) -> None:
    with (
        Served(tmp_path, limits=Limits(reconnect_grace_s=0.2)) as served,
        served.connect() as client,
    ):
        nameless = client.list([1])
        served.restart()
        assert nameless == [1]
        with pytest.raises(Exception):  # noqa: B017, PT011
            client.Queue("wait").get(timeout=3)
        assert nameless == [1]


def test_a_server_that_keeps_nothing(caplog: Any) -> None:
    with Served() as served, served.connect() as client:
        stock = client.dict("stock", tea=1)
        nameless = client.list([1])
        served.restart()
        for face in (stock, nameless):
            with pytest.raises(ContainerGone, match=r"was started anew.*again"):
                len(face)
        assert client.dict("stock") == {}
        with pytest.raises(ContainerGone):
            stock["a"] = 1
        assert client.list([2]) == [2]


def test_what_may_have_been_done_is_not_repeated(tmp_path: Path) -> None:
    """The server has the request, and is killed before it replies."""
    with Served(tmp_path) as served, served.connect() as client:
        items = client.list(name="items")
        os.kill(served.pid, signal.SIGSTOP)
        errors: list[BaseException] = []

        def append() -> None:
            try:
                items.append(1)
            except ManagerLost as error:
                errors.append(error)

        with thread(append):
            until(lambda: bytes_unread(served.address[1]))
            served.end(signal.SIGKILL)
            served.start()
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


def test_nobody_comes_back(caplog: Any) -> None:
    with Served() as served, served.connect() as client:
        stock = client.dict("stock")
        client._lock_client.connection.timeout = 0.3
        served.end()
        with pytest.raises(ManagerLost, match=r"no connection could be made for 0\.\d s"):
            stock["a"] = 1
        with pytest.raises(ManagerLost), client.transaction():
            pytest.fail("there is no server")


def test_many_go_on_through_many_restarts(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        actors = [Actor() for _ in range(3)]
        try:
            for number, actor in enumerate(actors):
                actor.do(afar.connect, served.address)
                actor.do(afar.get, "dict", f"stock {number}")
                actor.begin(set_many, 600)
            for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                with served.connect() as client:
                    seen = len(client.dict("stock 0"))
                    until(lambda: len(client.dict("stock 0")) > seen + 20)
                served.restart(how)
            for number, actor in enumerate(actors):
                assert actor.result() == 600
                with served.connect() as client:
                    assert client.dict(f"stock {number}") == {n: n for n in range(600)}
        finally:
            for actor in actors:
                actor.close()


def set_many(kept: Any, times: int) -> int:
    for number in range(times):
        kept.thing[number] = number
        assert kept.thing[number] == number
    return len(kept.thing)


def add_many(kept: Any, ready: str, times: int) -> tuple[int, int]:
    """Add where nobody knows after a break whether it was done; count what is sure and what not."""
    sure = unsure = 0
    for number in range(times):
        if number == 5:
            Path(ready).touch()
        try:
            with kept.client.transaction():
                kept.thing["n"] = kept.thing.get("n", 0) + 1
                kept.thing["twice"] = kept.thing.get("twice", 0) + 2
            sure += 1
        except ManagerLost as error:
            unsure += "may or may not" in str(error)
    return sure, unsure


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_transactions_through_a_restart(tmp_path: Path, how: signal.Signals) -> None:
    ready = tmp_path / "ready"
    with Served(tmp_path / "store") as served, Actor() as actor:
        actor.do(afar.connect, served.address)
        actor.do(afar.get, "dict", "stock")
        actor.begin(add_many, str(ready), 200)
        until(ready.exists)
        served.restart(how)
        sure, unsure = actor.result()
        with served.connect() as client:
            stock = client.dict("stock")
            assert sure <= stock["n"] <= sure + unsure
            assert stock["twice"] == 2 * stock["n"]


def test_sigterm_while_requests_are_under_way(tmp_path: Path) -> None:
    with Served(tmp_path) as served, served.connect() as client:
        jobs, door = client.Queue("jobs"), client.Lock("door")
        door.acquire()
        with thread(lambda: jobs.get(timeout=20)), thread(lambda: client.Event("e").wait()):
            until(lambda: client.store.backend.ask("waiter_count")[0] == 1)
            until(lambda: client.Event("e")._ask("waiting")[0] == 1)
            os.kill(served.pid, signal.SIGTERM)
            assert served.wait() == 0
            served.start()
            client.Event("e").set()
            jobs.put(1)


def test_a_server_that_ends_for_good() -> None:
    with Actor() as actor:
        with garrison.Manager(("127.0.0.1", 0), key=KEY) as manager:
            actor.do(afar.connect, manager.address)
            actor.do(afar.get, "dict", "stock")
        with pytest.raises(ManagerLost, match="stopped"):
            actor.do(afar.call, "__setitem__", "a", 1)
        vars(manager).clear()


# -- keys -----------------------------------------------------------------------------------------


def test_keys() -> None:
    with Served() as served:
        for wrong in ("another key", KEY + b"x", b"short"):
            with pytest.raises(AuthenticationError, match="check the key"):
                garrison.connect(served.address, wrong)
        with pytest.raises(AuthenticationError, match="key=") as caught:
            garrison.connect(served.address)
        assert "key" in str(caught.value)
        for empty in ("", b""):
            with pytest.raises(ValueError, match="an empty key protects nothing"):
                garrison.connect(served.address, empty)
        with served.connect() as client:
            assert client.dict() == {}


def test_a_short_key(tmp_path: Path) -> None:
    with Served(key=b"abc") as served, served.connect() as client:
        assert client.list([1]) == [1]
        file = tmp_path / "key"
        file.write_text("abc\n")
        with garrison.connect(served.address, file, direct=False) as again:
            assert again.list([1]) == [1]
        file.write_text(" \n")
        with pytest.raises(ValueError, match="key' is empty"):
            garrison.connect(served.address, file)
        with pytest.raises(FileNotFoundError):
            garrison.connect(served.address, tmp_path / "no such file")


def test_addresses() -> None:
    with Served() as served:
        host, port = served.address
        with garrison.connect(f"garrison://{host}:{port}", KEY, direct=False) as client:
            assert client.dict() == {}
        with pytest.raises(OSError, match="refused"):
            garrison.connect(("127.0.0.1", 1), KEY)
        for wrong in ("http://x:1", "garrison://x", "garrison://x:notaport"):
            with pytest.raises(ValueError, match="garrison://"):
                garrison.connect(wrong, KEY)


def test_threads_of_a_client_share_a_broken_connection(tmp_path: Path) -> None:
    with Served(tmp_path) as served, served.connect() as client:
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
        served.restart()
        for each in threads:
            each.join()
        assert len(stock) == 400
        assert client._lock_client.connection.generation <= 3
