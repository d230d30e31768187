"""What is understood as an address, and what is said where there is no server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import AuthenticationError
from pathlib import Path

import pytest

import garrison
from garrison.manager import place_of


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def web_port() -> Iterator[int]:
    """A server of another kind."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with closing(listener.accept()[0]) as connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("localhost:5000", ("localhost", 5000)),
        ("garrison://localhost:5000", ("localhost", 5000)),
        ("[::1]:5000", ("::1", 5000)),
        ("/run/socket", "/run/socket"),
        ("/run/socket:5000", "/run/socket:5000"),
        ("socket", "socket"),
        (("localhost", 5000), ("localhost", 5000)),
        (None, None),
    ],
)
def test_texts_that_are_addresses(given: object, understood: object) -> None:
    assert place_of(given) == understood


def test_a_file_of_that_name_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of("name:5000") == ("name", 5000)
    Path("name:5000").touch()
    assert place_of("name:5000") == "name:5000"


@pytest.mark.parametrize(
    "given", ["localhost:70000", "http://localhost:80", "garrison://localhost"]
)
def test_texts_that_are_none(given: str) -> None:
    with pytest.raises(ValueError, match=f"(address of a manager|an address) .*{given}"):
        garrison.connect(given, key="x")


def test_bare_host_and_port_of_both_ends(free_port: int, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a long random text\n")
    address = f"127.0.0.1:{free_port}"
    with garrison.Manager(address, key=key) as server:
        assert server.address == ("127.0.0.1", free_port)
        server.dict("stock", apples=3)
        with garrison.connect(address, key, direct=False) as client:
            assert client.dict("stock") == {"apples": 3}
        with pytest.raises(
            AuthenticationError, match=r"the server has another key; check the key$"
        ):
            garrison.connect(address, "wrong")
        with pytest.raises(AuthenticationError, match="a text is the key itself; .* give key=Path"):
            garrison.connect(address, str(key))


def test_nothing_listens_there(free_port: int) -> None:
    with pytest.raises(ConnectionRefusedError, match="nothing listens there; start the server"):
        garrison.connect(f"127.0.0.1:{free_port}", "x")


def test_another_kind_of_server_listens_there(web_port: int) -> None:
    with pytest.raises(ConnectionError, match="does not speak garrison's protocol .*HTTP/1.1 400"):
        garrison.connect(f"127.0.0.1:{web_port}", "x")


@pytest.mark.parametrize("address", ["127.0.0.1", "/nowhere/socket"])
def test_no_socket_is_there(address: str) -> None:
    with pytest.raises(
        FileNotFoundError, match="the address of a server on a network is host:port"
    ):
        garrison.connect(address, "x")


def test_no_key_file_is_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such key file; copy the one of the s"):
        garrison.connect("127.0.0.1:1", tmp_path / "key")
