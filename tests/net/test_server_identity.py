"""The identity of a server: what its clients know of it, and refuse."""

from __future__ import annotations

import os
import re
import stat
import threading
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.errors import UntrustedFile, WrongServer
from garrison.net import _connection
from garrison.net._handshake import SALT, ClientHandshake, ServerHandshake, reject_bytes
from garrison.net._identity import fingerprint_of, kept_identity, new_identity
from garrison.net._key import derive_psk
from garrison.net._known_servers import ServerCheck
from garrison.net._limits import Limits
from garrison.net._server_keys import ServerKeys

from .wire_tools import ECHO, KEY, SHORT_KEY, Service, Serving, serving

OTHER = fingerprint_of(b"another")
LIMITS = Limits()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a user who has none yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "garrison"


@pytest.fixture
def far_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, and every server counts as one on another computer."""
    monkeypatch.setattr(_connection, "is_on_this_machine", lambda _: False)
    return folder


def serve_as(identity: Any, address: Any = ("127.0.0.1", 0), key: bytes = KEY) -> Serving:
    service: Any = Service()
    keys: Any = ServerKeys(key, identity)
    running = Serving(service, address, keys, None)
    running.key = key
    return running


def ask(running: Serving, **options: Any) -> Any:
    with running.connect(**options) as connection:
        return connection.ask(ECHO, "there")


# --- A fingerprint that is given ------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, SHORT_KEY])
def test_the_fingerprint_that_is_given_must_be_the_server_s(key: bytes) -> None:
    identity = new_identity()
    running = serve_as(identity, key=key)
    try:
        assert ask(running, fingerprint=identity.fingerprint) == ["there"]
        with pytest.raises(WrongServer, match=re.escape(identity.fingerprint)) as error:
            ask(running, fingerprint=OTHER)
        assert isinstance(error.value, AuthenticationError)
        assert OTHER in str(error.value)
    finally:
        running.stop()


@pytest.mark.parametrize("wrong", ["", "SHA256:", "SHA1:" + "a" * 45, OTHER + "a"])
def test_what_is_no_fingerprint_is_refused_early(wrong: str) -> None:
    with pytest.raises(ValueError, match="a fingerprint is SHA256: and 43 characters"):
        garrison.connect(("127.0.0.1", 1), KEY, fingerprint=wrong)


def test_a_server_must_prove_its_identity() -> None:
    """A client with the key can show another server's public key, and has not its private one."""
    real = new_identity()
    posing = ServerKeys(KEY, new_identity()._replace(public=real.public))
    client = ClientHandshake(KEY, LIMITS, (), ServerCheck("there", real.fingerprint))
    server = ServerHandshake(posing, LIMITS)
    server.receive(client.take())
    with pytest.raises(WrongServer):
        client.receive(server.take())
    assert not client.established
    assert client.outgoing == b""


def test_a_wrong_server_gets_nothing_to_guess_a_passphrase_with() -> None:
    client = ClientHandshake(SHORT_KEY, LIMITS, (), ServerCheck("there", OTHER))
    server = ServerHandshake(ServerKeys(SHORT_KEY), LIMITS)
    asked = client.take()
    assert asked == reject_bytes(SALT)
    server.receive(asked)
    with pytest.raises(WrongServer):
        client.receive(server.take())
    assert client.outgoing == b""


def test_the_salt_of_a_passphrase_is_the_server_s() -> None:
    one, other = new_identity(), new_identity()
    assert derive_psk(SHORT_KEY, one.public) != derive_psk(SHORT_KEY, other.public)
    assert derive_psk(KEY, one.public) == derive_psk(KEY, other.public)


def test_a_client_may_ask_for_the_salt_once() -> None:
    server = ServerHandshake(ServerKeys(SHORT_KEY), LIMITS)
    server.receive(reject_bytes(SALT))
    with pytest.raises(Exception, match="asks twice for the salt"):
        server.receive(reject_bytes(SALT))


# --- Servers that are known -----------------------------------------------------------------------


def test_a_server_on_another_computer_is_remembered(far_away: Path) -> None:
    first = serve_as(new_identity())
    assert ask(first) == ["there"]
    place = first.address
    first.stop()
    known = (far_away / "known_servers").read_text()
    assert known.split()[1] == first.loop.keys.identity.fingerprint

    again = serve_as(first.loop.keys.identity, place)
    assert ask(again) == ["there"]
    again.stop()
    assert (far_away / "known_servers").read_text() == known

    another = serve_as(new_identity(), place)
    try:
        with pytest.raises(WrongServer, match="remove its line from"):
            ask(another)
        assert ask(another, fingerprint=another.loop.keys.identity.fingerprint) == ["there"]
    finally:
        another.stop()


def test_a_wrong_server_ends_the_attempts_to_reconnect(far_away: Path) -> None:
    first = serve_as(new_identity())
    with first.connect(timeout=60.0) as connection:
        connection.ask(ECHO, "there")
        first.stop()
        another = serve_as(new_identity(), first.address)
        try:
            with pytest.raises(WrongServer):
                connection.ask(ECHO, "again", idempotent=True)
        finally:
            another.stop()


def test_servers_on_this_computer_come_and_go(folder: Path) -> None:
    place: Any = ("127.0.0.1", 0)
    for _ in range(2):
        running = serve_as(new_identity(), place)
        assert ask(running) == ["there"]
        place = running.address
        running.stop()
    assert not folder.exists()


def test_a_server_that_cannot_be_remembered_is_used_and_named(
    far_away: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far_away.parent.write_text("a file is where the folder should be")
    with serving() as running:
        assert ask(running) == ["there"]
        found = running.loop.keys.identity.fingerprint
    assert "cannot be remembered (" in caplog.text
    assert found in caplog.text


def test_a_list_that_others_can_change_is_refused(far_away: Path) -> None:
    with serving() as running:
        ask(running)
        (far_away / "known_servers").chmod(0o666)
        with pytest.raises(UntrustedFile):
            ask(running)


def test_damaged_lines_are_those_of_no_server(far_away: Path) -> None:
    far_away.mkdir(parents=True, mode=0o700)
    (far_away / "known_servers").write_bytes(b"\xff\xfe junk\n\n127.0.0.1:1\nthree words here\n")
    with serving() as running:
        assert ask(running) == ["there"]


# --- The identity that is kept --------------------------------------------------------------------


def test_the_identity_of_a_user_s_servers_is_made_once(folder: Path) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(kept_identity())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    status = (folder / "server_key").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert os.listdir(folder) == ["server_key"]
    assert found[0].private not in repr(found[0]).encode()


@pytest.mark.parametrize("text", [b"", b"junk", b"garrison-server-key AAAA AAAA", b"\xff" * 90])
def test_a_damaged_identity_is_named(folder: Path, text: bytes) -> None:
    kept_identity()
    (folder / "server_key").write_bytes(text)
    with pytest.raises(ValueError, match="server_key is damaged: restore it, or remove it"):
        kept_identity()


def test_an_identity_that_others_can_change_is_refused(folder: Path) -> None:
    kept_identity()
    (folder / "server_key").chmod(0o622)
    with pytest.raises(UntrustedFile):
        kept_identity()
