"""A Valkey or Redis server of a test's own: on a free port of this machine, kept nowhere.

`valkey-server` is taken if it is installed, else `redis-server`; a test that has neither, or no
client library, is skipped by name.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from waiting import wait_until

SERVERS = ("valkey-server", "redis-server")
CLIENTS = ("valkey", "redis")
HOST = "127.0.0.1"
READY = b"eady to accept connections"
TRIES = 5
SLOTS = 16384
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def server_program() -> str | None:
    """Return the path of the server's program."""
    return next(filter(None, map(shutil.which, SERVERS)), None)


def require_server() -> str:
    """Return the server's program; skip the test if it, or the client library, is missing."""
    program = server_program()
    if program is None:
        pytest.skip(f"no {' or '.join(SERVERS)} is installed: apt-get install redis-server")
    if not any(importlib.util.find_spec(each) for each in CLIENTS):
        pytest.skip('no client library is installed: pip install "garrison[valkey]"')
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class ValkeyServer:
    """A server process, to be killed, stopped and started again at its address.

    Parameters
    ----------
    *options
        As on the command line, without the dashes: ``("maxmemory", "3mb")``.
    program
        Instead of the one that is found.
    is_unix
        Whether it listens on a socket in its folder, and on no port.
    """

    def __init__(
        self, *options: tuple[Any, ...], program: str | None = None, is_unix: bool = False
    ) -> None:
        self._program = program or require_server()
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="garrison-valkey-"))
        self.path = self.folder / "server.sock" if is_unix else None
        self.port = 0
        self.login: tuple[str, ...] = ()
        """The arguments of AUTH for `command`."""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    # -- starting and ending ----------------------------------------------------------------------

    def start(self) -> None:
        """Start it, at the same address as before; return once it answers."""
        for _ in range(TRIES):
            port = self.port or (0 if self.path else free_port())
            said = self._launch(port)
            if READY in said:
                self.port = port
                return
            self.kill()
            if b"in use" not in said:
                break
        raise RuntimeError(f"{self._program} does not start:\n{said.decode(errors='replace')}")

    def _launch(self, port: int) -> bytes:
        settings: list[tuple[Any, ...]] = [
            ("port", port),
            ("bind", HOST),
            ("dir", self.folder),
            ("save", ""),
            ("appendonly", "no"),
            ("daemonize", "no"),
            ("enable-debug-command", "yes"),
            ("repl-diskless-sync-delay", 0),
        ]
        if self.path:
            settings.append(("unixsocket", self.path))
        by_name = {str(name): values for name, *values in (*settings, *self._options)}
        arguments = [
            word for name, values in by_name.items() for word in (f"--{name}", *map(str, values))
        ]
        self._process = subprocess.Popen(
            [self._program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,
        )
        return self._read_log()

    def _read_log(self) -> bytes:
        """Return what it says until it is ready, or ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        said = b""
        with self._process.stdout as log:  # nobody reads it later
            for line in log:
                said += line
                if READY in line:
                    break
        return said

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it answer nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again, empty."""
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> ValkeyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- using it ---------------------------------------------------------------------------------

    @property
    def place(self) -> str:
        """Host and port, as in a URL."""
        return f"{HOST}:{self.port}"

    def url(self, options: str = "", *, scheme: str = "valkey", login: str = "") -> str:
        """Return its URL: with ``prefix=a&wait=1``, and with ``user:password``."""
        before = f"{login}@" if login else ""
        after = f"?{options}" if options else ""
        if self.path:
            return f"valkey+unix://{before}{self.path}{after}"
        return f"{scheme}://{before}{self.place}/0{after}"

    def command(self, *words: object) -> Any:
        """Send a command without a client library; return its reply, or raise what it refuses."""
        with self._socket() as sock, sock.makefile("rb") as replies:
            for each in [("AUTH", *self.login)] if self.login else []:
                sock.sendall(_packed(each))
                _reply(replies)
            sock.sendall(_packed(words))
            return _reply(replies)

    def _socket(self) -> socket.socket:
        if not self.path:
            return socket.create_connection((HOST, self.port))
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.path))
        return sock

    @property
    def version(self) -> tuple[int, ...]:
        """The version whose protocol it speaks."""
        return tuple(map(int, self.info("server")["redis_version"].split(".")))

    def info(self, section: str) -> dict[str, str]:
        """Return the facts of a section of INFO."""
        lines = self.command("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


def _end_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _packed(words: tuple[object, ...]) -> bytes:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def _reply(replies: Any) -> Any:
    kind, rest = (line := replies.readline())[:1], line[1:-2]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else replies.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [_reply(replies) for _ in range(int(rest))]
    return rest.decode()


# -- variants -------------------------------------------------------------------------------------


@contextlib.contextmanager
def server_with_password(password: str) -> Iterator[ValkeyServer]:
    """A server that asks for a password."""
    with ValkeyServer(("requirepass", password)) as server:
        server.login = (password,)
        yield server


@contextlib.contextmanager
def server_with_tls() -> Iterator[tuple[ValkeyServer, dict[str, Path]]]:
    """A server that speaks TLS only, and asks for a certificate; with the paths of all files."""
    program = require_server()
    with tempfile.TemporaryDirectory(prefix="garrison-tls-") as name:
        files = make_certificates(Path(name))
        port = free_port()
        options = (
            ("tls-port", port),
            ("tls-ca-cert-file", files["ca"]),
            ("tls-cert-file", files["cert"]),
            ("tls-key-file", files["key"]),
        )
        with ValkeyServer(*options, program=program, is_unix=True) as server:
            server.port, server.path = port, None
            yield server, files


def make_certificates(folder: Path) -> dict[str, Path]:
    """Make an authority, and a certificate of it for this machine's loopback addresses."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    names = {name: folder / f"{name}.pem" for name in ("ca", "ca_key", "cert", "key", "request")}
    extension = folder / "names.txt"
    extension.write_text(f"subjectAltName=IP:{HOST},DNS:localhost\n")
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(*new, "-x509", "-subj", "/CN=ca", "-keyout", names["ca_key"], "-out", names["ca"])
    _openssl(*new, "-subj", "/CN=a", "-keyout", names["key"], "-out", names["request"])
    _openssl(
        *("x509", "-req", "-in", names["request"], "-out", names["cert"]),
        *("-CA", names["ca"], "-CAkey", names["ca_key"], "-extfile", extension),
    )
    return names


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@contextlib.contextmanager
def primary_with_replica() -> Iterator[tuple[ValkeyServer, ValkeyServer]]:
    """Two servers, of which the second follows the first."""
    with ValkeyServer() as primary, ValkeyServer() as replica:
        replica.command("REPLICAOF", HOST, primary.port)
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up")
        primary.command("SET", "following", 1)
        wait_until(lambda: replica.command("GET", "following"))
        primary.command("DEL", "following")
        yield primary, replica


@contextlib.contextmanager
def cluster(count: int = 3) -> Iterator[list[ValkeyServer]]:
    """A cluster of so many primaries, which have the slots in equal parts."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(_cluster_node()) for _ in range(count)]
        each = SLOTS // count
        for i, node in enumerate(nodes):
            last = SLOTS - 1 if i == count - 1 else (i + 1) * each - 1
            node.command("CLUSTER", "ADDSLOTSRANGE", i * each, last)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in nodes[1:]:
            nodes[0].command("CLUSTER", "MEET", HOST, node.port, node.bus_port)  # type: ignore[attr-defined]
        for node in nodes:
            wait_until(lambda node=node: _is_whole(node, count))  # type: ignore[misc]
        yield nodes


def _cluster_node() -> ValkeyServer:
    bus = free_port()
    node = ValkeyServer(
        ("cluster-enabled", "yes"), ("cluster-port", bus), ("cluster-node-timeout", 2000)
    )
    node.bus_port = bus  # type: ignore[attr-defined]
    return node


def _is_whole(node: ValkeyServer, count: int) -> bool:
    lines = node.command("CLUSTER", "INFO").decode().splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    return (facts["cluster_state"], facts["cluster_known_nodes"]) == ("ok", str(count))
