"""What a key allows: to read, to change things, to stop the server."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import garrison
from garrison.manager import SyncManager
from garrison.manager._auth_keys import note_server
from garrison.manager._store_operations import OPERATIONS
from garrison.manager.client._client import get_client
from garrison.manager.server._store_service import FOR_READERS
from garrison.net import RemoteFailure, Verb, generate_key

from .processes import KEY, ServerProcess, connection_to
from .test_serve import Program

FULL, READ = generate_key().decode(), generate_key().decode()


class Served(NamedTuple):
    """A server with two named keys, and what the tests do with it."""

    server: ServerProcess

    def connect(self, key: str) -> SyncManager:
        return garrison.connect(self.server.address, key)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"writer full {FULL}\nreader read {READ}\n")
    return file


@pytest.fixture
def served(keys: Path) -> Iterator[Served]:
    with ServerProcess(keys=keys) as server:
        with garrison.connect(server.address, KEY) as own:
            own.dict("stock", apples=3, box=own.list([1, 2]))
            own.list(name="lines").extend(["a", "b", "c"])
            own.set(name="seen").add("x")
            own.Queue("jobs").put("job")
        yield Served(server)


def test_a_key_that_reads_reads_everything(served: Served) -> None:
    with served.connect(READ) as there:
        stock = there.dict("stock")
        assert stock["apples"] == 3
        assert "pears" not in stock
        assert stock.get("pears", 7) == 7
        assert list(stock["box"]) == [1, 2]
        assert sorted(stock) == ["apples", "box"]
        assert [name for name, _ in stock.items()] == list(stock)
        assert stock.copy() == {"apples": 3, "box": [1, 2]}
        lines = there.list(name="lines")
        assert (lines[0], lines[-1], lines[1:], len(lines)) == ("a", "c", ["b", "c"], 3)
        assert "x" in there.set(name="seen")
        assert there.Queue("jobs").qsize() == 1


def test_only_the_own_key_is_given_the_memory_itself(served: Served) -> None:
    """From there no key could be revoked, and no client kept from writing."""
    for key in (READ, FULL):
        with served.connect(key) as there:
            assert not there.store.is_local
    with garrison.connect(served.server.address, KEY) as own:
        assert own.store.is_local


def _in_a_pipeline(manager: SyncManager) -> None:
    stock = manager.dict("stock")
    with manager.pipeline():
        stock["apples"] = 5


CHANGES: dict[str, Callable[[SyncManager], object]] = {
    "set": lambda m: m.dict("stock").__setitem__("apples", 4),
    "delete": lambda m: m.dict("stock").__delitem__("apples"),
    "update": lambda m: m.dict("stock").update(pears=1),
    "clear": lambda m: m.dict("stock").clear(),
    "setdefault": lambda m: m.dict("stock").setdefault("apples", 9),
    "append": lambda m: m.list(name="lines").append("d"),
    "sort": lambda m: m.list(name="lines").sort(),
    "add": lambda m: m.set(name="seen").add("y"),
    "get": lambda m: m.Queue("jobs").get(timeout=5),
    "put": lambda m: m.Queue("jobs").put("more"),
    "new": lambda m: m.dict("new"),
    "anonymous": lambda m: m.dict(),
    "transaction": lambda m: m.transaction().__enter__(),
    "pipeline": _in_a_pipeline,
    "Lock": lambda m: m.Lock(),
    "Semaphore": lambda m: m.Semaphore(2),
    "Event": lambda m: m.Event(),
    "Namespace": lambda m: m.Namespace(),
    "Pool": lambda m: m.Pool(1),
    "debug": lambda m: m._debug_info(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_key_that_reads_changes_nothing(served: Served, change: str) -> None:
    with served.connect(READ) as there:
        with pytest.raises(PermissionError, match="of this client"):
            CHANGES[change](there)
        assert there.dict("stock").copy() == {"apples": 3, "box": [1, 2]}
        assert there.list(name="lines").copy() == ["a", "b", "c"]
        assert sorted(name for name, *_ in there.store.backend.names()) == [
            *("jobs", "lines", "seen", "stock")
        ]


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in OPERATIONS if name not in FOR_READERS),
        *("begin", "commit", "abort", "release_transfer", "nonsense"),
    ],
)
def test_each_writing_operation_is_refused(served: Served, name: str) -> None:
    with served.connect(READ):
        connection = connection_to(served.server.address, READ.encode())
        with pytest.raises(RemoteFailure) as error:
            connection.ask(Verb.STORE, name)
        assert error.value.kind == "PermissionError"


def test_readers_may_only_take_references_of_their_own() -> None:
    allowed = {name for name, each in OPERATIONS.items() if each.writes and each.is_for_readers}
    assert allowed == {"acquire_ref", "release_ref"}


@pytest.mark.parametrize("verb", [v for v in Verb if v not in {Verb.HELLO, Verb.STORE}])
def test_all_other_requests_of_readers_are_refused(served: Served, verb: Verb) -> None:
    with served.connect(READ):
        connection = connection_to(served.server.address, READ.encode())
        with pytest.raises(RemoteFailure) as error:
            connection.ask(verb)
        assert error.value.kind == "PermissionError"


def test_a_full_key_changes_things_and_does_not_stop_the_server(served: Served) -> None:
    with served.connect(FULL) as there:
        there.dict("stock")["apples"] = 4
        with there.Lock(name="gate"):
            pass
        assert there.Namespace() is not None
        with pytest.raises(RemoteFailure) as error:
            connection_to(served.server.address, FULL.encode()).ask(Verb.SHUTDOWN)
        assert error.value.kind == "PermissionError"
        get_client(served.server.address, FULL.encode(), local=False).shutdown()
        assert there.dict("stock")["apples"] == 4


def test_the_own_key_stops_the_server_unless_that_is_not_allowed(tmp_path: Path) -> None:
    with ServerProcess() as server, garrison.connect(server.address, KEY):
        connection_to(server.address).ask(Verb.SHUTDOWN)
        assert os.waitpid(server.pid, 0)[1] == 0
        server.pid = 0
    with ServerProcess(allow_shutdown=False) as server:
        with garrison.connect(server.address, KEY), pytest.raises(RemoteFailure):
            connection_to(server.address).ask(Verb.SHUTDOWN)


def test_named_keys_need_a_key_of_the_server_s_own(keys: Path) -> None:
    with pytest.raises(ValueError, match="a server without a key is open to all"):
        garrison.Manager(address=("127.0.0.1", 0), authkey=garrison.NO_KEY, keys=keys)


# --- The commands ---------------------------------------------------------------------------------


def garrison_key(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "garrison", "key", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_serve_takes_the_keys_that_the_command_has_printed(tmp_path: Path) -> None:
    alice, board = tmp_path / "alice.key", tmp_path / "board.key"
    alice.write_text(garrison_key("--name", "alice").stdout)
    board.write_text(garrison_key("--name", "board", "--read-only").stdout)
    everyone = tmp_path / "keys"
    everyone.write_text(alice.read_text() + board.read_text())
    with Program("--keys", everyone) as program:
        with garrison.connect(program.address, alice) as there:
            there.dict("stock")["tea"] = 1
        with garrison.connect(program.address, board) as there:
            assert there.dict("stock") == {"tea": 1}
            with pytest.raises(PermissionError):
                there.dict("stock")["tea"] = 2
        with pytest.raises(AuthenticationError):
            garrison.connect(program.address, generate_key())
        assert program.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("wrong", [["--read-only"], ["--name", "two words"], ["--name", ""]])
def test_a_name_is_one_word(wrong: list[str]) -> None:
    run = garrison_key(*wrong)
    assert run.returncode == 2
    assert run.stdout == ""
    assert "one word" in run.stderr


def test_a_wrong_file_of_keys_is_told_to_the_caller(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("alice full hunter2\n")
    for make in (SyncManager.start, SyncManager.get_server):
        manager = SyncManager(("127.0.0.1", 0), KEY, keys=tmp_path / "keys")
        with pytest.raises(ValueError, match="line 1 of .* is not NAME"):
            make(manager)
        manager = SyncManager(("127.0.0.1", 0), KEY, keys=tmp_path / "none")
        with pytest.raises(FileNotFoundError):
            make(manager)


def test_a_damaged_identity_is_told_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "garrison").mkdir(mode=0o700)
    file = tmp_path / "garrison" / "server_key"
    file.touch(0o600)
    file.write_text("junk")
    with pytest.raises(ValueError, match="server_key is damaged"):
        SyncManager(("0.0.0.0", 0), KEY).start()  # noqa: S104 - that is what is tried


def test_a_server_that_others_reach_keeps_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    shown = set()
    for _ in range(2):
        with Program("--address", "0.0.0.0:0", "--key-file", tmp_path / "key") as program:
            found = re.search(r'fingerprint="(SHA256:[^"]{43})"', program.said)
            assert found is not None
            shown.add(found[1])
            url = program.said.partition('"')[2].partition('"')[0]
            place = url.replace("THIS-HOST", "127.0.0.1")
            with garrison.connect(place, tmp_path / "key", fingerprint=found[1], direct=False) as c:
                c.dict("stock", tea=1)
            with pytest.raises(garrison.errors.WrongServer):
                garrison.connect(place, tmp_path / "key", fingerprint=f"SHA256:{'A' * 43}")
    assert len(shown) == 1
    assert sorted(os.listdir(tmp_path / "garrison")) == ["server_key"]


# --- What clients of a server can do to each other ------------------------------------------------


def test_what_a_pickle_says_of_its_sender_is_not_the_sender_s_name(served: Served) -> None:
    with served.connect(FULL) as there:
        there.dict("stock")["proxy"] = there.Namespace()
        client = get_client(served.server.address, FULL.encode(), local=False)
        connection = connection_to(served.server.address, FULL.encode())
        number = there.dict("stock")._container_id
        (seen,) = connection.ask(Verb.STORE, "snapshot", number)
        assert client.client_id not in bytes(seen)


@pytest.mark.parametrize("name", [b"", b"x" * 15, b"x" * 17, b"x" * (1 << 20)])
def test_a_client_has_one_name_of_16_bytes(served: Served, name: bytes) -> None:
    with served.connect(READ):
        connection = connection_to(served.server.address, READ.encode())
        for wrong in (name, b"y" * 16):  # the second: it has another already
            with pytest.raises(RemoteFailure, match="a client has one name, of 16 bytes"):
                connection.ask(Verb.HELLO, wrong, 1, "host")


def test_a_reader_cannot_make_what_is_removed_while_it_waits(served: Served) -> None:
    with served.connect(READ) as there, garrison.connect(served.server.address, KEY) as own:
        connection = connection_to(served.server.address, READ.encode())
        there.dict("stock")
        with own.transaction():
            own.store.backend.remove_name("stock")
            waiting = threading.Thread(target=_ask_quietly, args=(connection, "stock"))
            waiting.start()
        waiting.join()
        _ask_quietly(connection, "stock")
        assert "stock" not in [name for name, *_ in own.store.backend.names()]


def _ask_quietly(connection: Any, name: str) -> None:
    with contextlib.suppress(RemoteFailure):
        connection.ask(Verb.STORE, "named", name, 1, -1, b"")


def test_a_time_that_is_no_number_is_refused(served: Served) -> None:
    """In the order of the timers it would stop all of them."""
    nan = float("nan")
    with served.connect(FULL) as there:
        connection = connection_to(served.server.address, FULL.encode())
        number = there.dict("stock")._container_id
        for verb, fields in [
            (Verb.STORE, ("wait_for_change", number, 0, nan)),
            (Verb.STORE, ("begin", b"x" * 16, nan)),
            (Verb.LEASE, ("acquire", "gate", 1, 1, nan)),
        ]:
            with pytest.raises(RemoteFailure, match="not NaN"):
                connection.ask(verb, *fields)


def test_a_wait_is_for_a_container_that_is_there(served: Served) -> None:
    with served.connect(READ):
        connection = connection_to(served.server.address, READ.encode())
        with pytest.raises(RemoteFailure) as error:
            connection.ask(Verb.STORE, "wait_for_change", 12345, 0, 0.0)
        assert error.value.kind == "ContainerGone"


def test_the_waits_of_a_client_are_bounded(served: Served) -> None:
    with served.connect(READ) as there:
        connection = connection_to(served.server.address, READ.encode())
        number = there.dict("stock")._container_id
        (seen,) = connection.ask(Verb.STORE, "change_count", number)
        with connection.batch() as batch:
            waits = [
                batch.ask(Verb.STORE, "wait_for_change", number, seen, 0.5) for _ in range(1025)
            ]
        with pytest.raises(RemoteFailure, match="1024 requests of this client wait"):
            for wait in waits:
                wait.get()


def test_the_iterations_of_a_key_that_reads_are_bounded(served: Served) -> None:
    with garrison.connect(served.server.address, KEY) as own:
        own.list(range(100), name="many")
    with served.connect(READ) as there:
        number = there.list(name="many")._container_id
        client = get_client(served.server.address, READ.encode(), local=False)
        extra = [client.open_extra_connection() for _ in range(2)]
        for turn in range(64):
            extra[turn % 2].ask(Verb.STORE, "scan", number, "values", False, 10)
        with pytest.raises(RemoteFailure, match="64 iterations with the key 'reader' are open"):
            extra[0].ask(Verb.STORE, "scan", number, "values", False, 10)
        for each in extra:
            each.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_processes_of_a_reader_read_too(served: Served, method: str) -> None:
    context = garrison.get_context(method)
    with served.connect(READ) as there:
        reader, writer = context.Pipe(duplex=False)
        child = context.Process(target=_send_copy, args=(there.dict("stock"), writer))
        child.start()
        writer.close()
        assert reader.recv() == {"apples": 3, "box": [1, 2]}
        child.join()
        reader.close()


def _send_copy(stock: Any, writer: Any) -> None:
    writer.send(stock.copy())
    writer.close()


def test_the_fingerprint_goes_along_with_what_is_sent(tmp_path: Path) -> None:
    with Program("--address", "0.0.0.0:0", "--key-file", tmp_path / "key") as program:
        found = re.search(r'fingerprint="(SHA256:[^"]{43})"', program.said)
        port = re.search(r":(\d+)\"", program.said)
        assert found is not None
        assert port is not None
        place = ("127.0.0.1", int(port[1]))
        key = tmp_path / "key"
        with garrison.connect(place, key, fingerprint=found[1], direct=False) as there:
            made: Any = there.store.__reduce__()
            assert made[1] == (place, None, found[1])


def test_the_next_server_at_a_place_is_another_one() -> None:
    with ServerProcess() as server:
        # As a proxy notes it that came from another process, for a server that has ended since.
        note_server(server.address, KEY, f"SHA256:{'A' * 43}")
        with garrison.connect(server.address, KEY, direct=False) as there:
            there.dict("stock")["apples"] = 3
            again = pickle.loads(bytes(ForkingPickler.dumps(there.dict("stock"))))
            assert again["apples"] == 3


def test_a_wrong_fingerprint_is_forgotten() -> None:
    with ServerProcess() as server:
        with pytest.raises(garrison.errors.WrongServer):
            garrison.connect(server.address, KEY, fingerprint=f"SHA256:{'A' * 43}", direct=False)
        with garrison.connect(server.address, KEY, direct=False) as there:
            assert there.dict("new") == {}
