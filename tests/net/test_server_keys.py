"""Named keys of a server: parsed, told apart, and revoked one by one."""

from __future__ import annotations

import hashlib
import itertools
import os
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any

import pytest

from garrison.errors import ManagerLost, UntrustedFile
from garrison.net import Access, Connection, ServerKeys, generate_key, parse_named_key
from garrison.net._key import derive_psk
from garrison.net._key_watch import watch_keys
from waiting import wait_until

from .wire_tools import ECHO, KEY, Service, Serving

MANY = "".join(f"n{n} full {generate_key().decode()}\n" for n in range(65))
ALICE, BOB = generate_key().decode(), generate_key().decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# who may come\n\nalice full {ALICE}\n  bob   read {BOB}\n")
    return path


def test_a_line_is_a_name_an_access_and_a_generated_key() -> None:
    found = parse_named_key(f"bob read {BOB}")
    assert found is not None
    assert (found.name, found.access, bytes(found.key)) == ("bob", Access.READ, BOB.encode())
    assert BOB not in repr(found)
    for line in ("", "correct horse battery", f"bob write {BOB}", f"bob read {BOB[:-1]}", BOB):
        assert parse_named_key(line) is None


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (f"alice full {ALICE}\nbob read hunter2\n", "line 2 of .* is not NAME read|full KEY"),
        (f"alice full {ALICE}\nalice read {BOB}\n", "line 2 of .* second key of the name 'alice'"),
        (f"alice full {ALICE}\nbob read {ALICE}\n", "line 2 of .* has the key of another line"),
        ("\0\xff" * 9, "line 1 of .* is not NAME"),
        (MANY, "line 65 .* 64 keys"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(file: Path, lines: str, problem: str) -> None:
    file.write_text(lines)
    with pytest.raises(ValueError, match=problem) as error:
        ServerKeys(KEY, file=str(file))
    assert "hunter2" not in str(error.value)


def test_a_file_that_others_can_change_is_refused(file: Path) -> None:
    file.chmod(0o666)
    with pytest.raises(UntrustedFile):
        ServerKeys(KEY, file=str(file))


class Guarded:
    """A loop with the keys of a file, which is watched."""

    def __init__(self, file: Path) -> None:
        keys: Any = ServerKeys(KEY, file=str(file))
        self.serving = Serving(Service(), ("127.0.0.1", 0), keys, None)
        self.serving.call(watch_keys, self.serving.loop)

    def connect(self, key: str) -> Connection:
        made = Connection(self.serving.address, key.encode())
        made.timeout = 0.0  # to reconnect is tried once
        return made

    @property
    def names(self) -> list[str]:
        loop = self.serving.loop
        found: list[str] = self.serving.call(lambda: sorted(s.key.name for s in loop.sessions))
        return found

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        self.serving.stop()


def test_each_key_is_known_by_its_name(file: Path) -> None:
    with Guarded(file) as server, server.connect(ALICE), server.connect(BOB):
        with Connection(server.serving.address, KEY) as own:
            own.ask(ECHO, 1)
            assert server.names == ["", "alice", "bob"]
        with pytest.raises(AuthenticationError):
            server.connect(generate_key().decode())


def test_a_key_without_its_line_is_revoked_alone(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Guarded(file) as server, server.connect(ALICE) as alice, server.connect(BOB) as bob:
        assert alice.ask(ECHO, 1) == bob.ask(ECHO, 1) == [1]
        file.write_text(f"alice full {ALICE}\n")
        wait_until(lambda: server.names == ["alice"])
        assert alice.ask(ECHO, 2) == [2]
        assert alice.generation == 1
        with pytest.raises((ManagerLost, AuthenticationError)):
            bob.ask(ECHO, 2)
        with pytest.raises(AuthenticationError):
            server.connect(BOB)
        assert "the key 'bob' was revoked" in caplog.text


def test_a_changed_access_ends_the_connections_with_the_old_one(file: Path) -> None:
    with Guarded(file) as server, server.connect(ALICE) as alice:
        alice.ask(ECHO, 1)
        file.write_text(f"alice read {ALICE}\nbob read {BOB}\n")
        wait_until(lambda: server.names == [])


def test_a_wrong_line_allows_nothing_and_no_file_neither(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Guarded(file) as server, server.connect(ALICE) as alice, server.connect(BOB) as bob:
        assert alice.ask(ECHO, 1) == bob.ask(ECHO, 1) == [1]
        file.write_text(f"nonsense\nalice full {ALICE}\n")
        wait_until(lambda: "line 1 of" in caplog.text)
        wait_until(lambda: server.names == ["alice"])
        assert alice.ask(ECHO, 2) == [2]
        file.unlink()
        wait_until(lambda: server.names == [])
        file.write_text(f"bob read {BOB}\n")
        wait_until(lambda: _lets_in(server, BOB))


def _lets_in(server: Guarded, key: str) -> bool:
    try:
        server.connect(key).close()
    except AuthenticationError:
        return False
    return True


def test_a_file_that_others_can_change_is_read_again_once_they_cannot(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Guarded(file) as server, server.connect(BOB) as bob:
        bob.ask(ECHO, 1)
        file.chmod(0o666)
        file.write_text(f"alice full {ALICE}\n")
        wait_until(lambda: "the keys stay as they were" in caplog.text)
        assert bob.ask(ECHO, 2) == [2]
        file.chmod(0o600)
        wait_until(lambda: server.names == [])


def test_a_change_of_the_same_size_and_time_is_seen(file: Path) -> None:
    with Guarded(file) as server, server.connect(BOB) as bob:
        bob.ask(ECHO, 1)
        status = file.stat()
        file.write_text(file.read_text().replace(BOB, generate_key().decode()))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        wait_until(lambda: server.names == [])


def test_a_pipe_in_the_place_of_the_file_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys", 0o600)
    with pytest.raises(UntrustedFile, match="is a FIFO"):
        ServerKeys(KEY, file=str(tmp_path / "keys"))


def test_a_key_is_stretched_once_in_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    count, plain = itertools.count(), hashlib.scrypt

    def scrypt(*args: Any, **options: Any) -> bytes:
        next(count)
        return plain(*args, **options)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    keys = ServerKeys(b"a passphrase")
    for _ in range(3):
        derive_psk.cache_clear()
        list(keys.with_psks())
    assert next(count) == 1
