"""``garrison serve`` as a program; and directories, which one server at a time may serve."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.errors import ItemUnpicklable, StoreBusy
from garrison.manager import RemoteError, SyncManager
from garrison.net import Verb

from . import registered
from .processes import KEY, ServerProcess

METHODS = ["fork", "spawn", "forkserver"]


class Program:
    """``garrison serve`` with some arguments; `said` is what it has printed about connecting."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "garrison", "serve", "--address", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        found = re.search(r"garrison://([\d.]+):(\d+)", self.said)
        self.address = (found[1], int(found[2])) if found else None

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; return its status, and what it has written to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        _, written = self.process.communicate(timeout=20)
        return self.process.returncode, written

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "the.key"


def test_serve_prints_how_to_connect(key_file: Path) -> None:
    with Program("--key-file", key_file) as program:
        assert f'key=Path("{key_file}")' in program.said
        with eval(program.said, {"garrison": garrison, "Path": Path}) as client:  # noqa: S307
            client.dict("stock", tea=1)
        with garrison.connect(program.address, key_file, direct=False) as client:
            assert client.dict("stock") == {"tea": 1}
        with pytest.raises(AuthenticationError):
            garrison.connect(program.address, b"wrong")


def test_serve_listens_at_the_path_of_a_socket(tmp_path: Path, key_file: Path) -> None:
    path = tmp_path / "socket"
    with Program("--address", path, "--key-file", key_file) as program:
        assert f'garrison.connect("{path}"' in program.said
        with eval(program.said, {"garrison": garrison, "Path": Path}) as client:  # noqa: S307
            assert client.dict("stock", tea=1) == {"tea": 1}
        assert program.end()[0] == 0
    assert not path.exists()


def test_serve_removes_no_file_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("the only copy")
    with Program("--address", path) as program:
        status, written = program.end()
    assert status == 2
    assert f"cannot listen at {path}: there is a file, which is kept: remove it" in written
    assert path.read_text() == "the only copy"


def test_serve_refuses_a_folder_that_all_may_write_to(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o777)
    with Program("--path", tmp_path / "store") as program:
        status, written = program.end()
    assert status == 2
    assert "chmod go-w" in written
    assert os.listdir(tmp_path / "store") == []


def test_generated_key_file_is_private(key_file: Path) -> None:
    with Program("--key-file", key_file) as program:
        status, written = program.end()
    assert (status, stat.S_IMODE(key_file.stat().st_mode)) == (0, 0o600)
    assert f"made a new key in {key_file}" in written
    before = key_file.read_bytes()
    assert len(before) >= 32
    with Program("--key-file", key_file) as program:
        assert "made a new key" not in program.end()[1]
    assert key_file.read_bytes() == before
    key_file.write_text("\n")
    with Program("--key-file", key_file) as program:
        status, written = program.end()
    assert status == 2
    assert f"the key file '{key_file}' is empty" in written


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_in_order(tmp_path: Path, how: signal.Signals) -> None:
    program = Program("--path", tmp_path / "store")
    with program, garrison.connect(program.address, garrison.NO_KEY) as client:
        client.dict("stock", tea=1)
        assert program.end(how)[0] == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_containers_in_a_directory_outlive_the_server(
    tmp_path: Path, key_file: Path, how: signal.Signals
) -> None:
    for turn in range(3):
        with Program("--path", tmp_path / "store", "--key-file", key_file, "--sync") as program:
            with garrison.connect(program.address, key_file, direct=bool(turn % 2)) as client:
                stock = client.dict("stock")
                assert stock == dict.fromkeys(range(turn))
                stock[turn] = None
            program.end(how)


def test_keyless_server_serves_this_machine_only(tmp_path: Path) -> None:
    with Program() as program:
        assert "key=garrison.NO_KEY" in program.said
        with eval(program.said, {"garrison": garrison}) as client:  # noqa: S307
            client.dict("stock", tea=1)
            with client.Lock("door"):
                assert client.dict("stock") == {"tea": 1}
            with pytest.raises(RemoteError, match="does not know the request"):
                client._lock_client.ask(Verb.CREATE, "Pool", b"", 1)
    for address in ("0.0.0.0:0", "[::]:0"):
        with Program("--address", address) as program:
            status, written = program.end()
            assert status == 2
            assert "--key-file" in written


def test_pickles_cross_the_server_only_if_it_was_told_so(key_file: Path) -> None:
    for options, allowed in (((), False), (("--allow-pickle",), True)):
        with (
            Program("--key-file", key_file, *options) as program,
            garrison.connect(program.address, key_file, direct=False) as client,
        ):
            stock = client.dict("stock", tea=(1, 2))
            assert stock["tea"] == (1, 2)
            with contextlib.nullcontext() if allowed else pytest.raises(ItemUnpicklable):
                stock["path"] = key_file
                assert stock["path"] == key_file
    with Program("--allow-pickle") as program:
        status, written = program.end()
    assert status == 2
    assert "give a --key-file" in written


def test_bad_address_is_an_error_of_the_command(tmp_path: Path) -> None:
    with ServerProcess() as server:
        taken = f"127.0.0.1:{server.address[1]}"
        for address, text in ((taken, "in use"), ("nonsense:x", "garrison://host:port")):
            with Program("--address", address) as program:
                status, written = program.end()
            assert status == 2
            assert text in written


# -- one server for a folder ----------------------------------------------------------------------


def test_second_server_is_told_which_process_serves_the_directory(tmp_path: Path) -> None:
    with Program("--path", tmp_path) as first:
        with Program("--path", tmp_path) as second:
            status, written = second.end()
        assert status == 2
        assert f"{tmp_path} is served by process {first.process.pid} at 127.0.0.1:" in written
        with pytest.raises(StoreBusy, match=f"process {first.process.pid} at"):
            garrison.Manager(path=tmp_path)
        first.end(signal.SIGKILL)
        with Program("--path", tmp_path) as third:
            assert third.address is not None


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return garrison.get_context(request.param)


def test_directory_has_one_manager(tmp_path: Path, context: Any) -> None:
    with context.Manager(path=tmp_path) as manager:
        manager.dict("stock", tea=1)
        manager.Lock("door")  # the server answers, so it has said who it is
        with pytest.raises(StoreBusy, match=rf"served by process {manager._process.pid} at"):
            context.Manager(path=tmp_path)
        with pytest.raises(StoreBusy), Program("--path", tmp_path) as program:
            raise StoreBusy(program.end()[1])
        assert manager.dict("stock") == {"tea": 1}
    with context.Manager(path=tmp_path) as manager:
        assert manager.dict("stock") == {"tea": 1}
        os.kill(manager._process.pid, signal.SIGKILL)
        manager._process.join()
        with context.Manager(path=tmp_path) as again:
            assert again.dict("stock") == {"tea": 1}
        vars(again).clear()
    vars(manager).clear()


def test_manager_that_cannot_start_releases_the_directory(tmp_path: Path) -> None:
    with ServerProcess() as server, pytest.raises(OSError, match="in use"):
        garrison.Manager(server.address, key=KEY, path=tmp_path)
    with garrison.Manager(path=tmp_path) as manager:
        assert manager.list([1]) == [1]
    vars(manager).clear()


def test_server_in_this_process_claims_the_directory(tmp_path: Path) -> None:
    server = SyncManager(("127.0.0.1", 0), KEY, path=tmp_path).get_server()
    with pytest.raises(StoreBusy, match=f"served by process {os.getpid()}"):
        SyncManager(("127.0.0.1", 0), KEY, path=tmp_path).get_server()
    server.listener.close()
    del server
    with ServerProcess(tmp_path) as running, running.connect() as client:
        assert client.dict() == {}


# -- registered classes ---------------------------------------------------------------------------


class Registered(SyncManager):
    Tally: Any


Registered.register("Tally", registered.Tally)


@pytest.fixture
def local_manager() -> Iterator[Any]:
    with Registered(("127.0.0.1", 0), KEY) as manager:
        yield manager
    vars(manager).clear()


def test_registered_classes_next_to_containers(local_manager: Any) -> None:
    client = Registered(local_manager.address, KEY)
    client.connect(direct=False)
    tally, stock = client.Tally(5), client.dict("stock")
    stock["n"] = tally.add(2)
    assert local_manager.dict("stock") == {"n": 7}
    del tally
    client.close()
