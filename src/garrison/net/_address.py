r"""Addresses: ``("host", port)``, ``"/path"``, ``"\\0abstract"``, ``"garrison://host:port"``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import time

from garrison._os.file_trust import file_kind
from garrison._typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.net._limits import Limits

__all__ = [
    "Address",
    "SocketFile",
    "connect",
    "describe_peer",
    "format_address",
    "is_on_this_machine",
    "keep_alive",
    "listen",
    "other_user",
    "parse_address",
]

Address: TypeAlias = "tuple[str, int] | str"
SCHEME = "garrison://"
BACKLOG = 4096
PROBES = 4
"""Unanswered keep-alive probes after which the kernel closes a connection."""


def parse_address(address: Any) -> Address:
    """Return an address in the form that sockets take; raise ValueError if it is none."""
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    if isinstance(address, str) and address.startswith(SCHEME):
        return _parse_url(address)
    if isinstance(address, str) and address:
        return address
    if isinstance(address, (tuple, list)) and len(address) >= 2:  # noqa: PLR2004 - host and port
        host, port = address[0], address[1]
        if isinstance(host, str) and isinstance(port, int) and 0 <= port < 1 << 16:
            return host, port
    msg = (
        f"an address is (host, port), a path, or 'garrison://host:port' with a port of 0 to 65535, "
        f"not {address!r}"
    )
    raise ValueError(msg)


def _parse_url(url: str) -> Address:
    # Late: few addresses are URLs.
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if not parts.hostname and parts.path:
        return parts.path
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise ValueError(f"{url!r} names no host and port; write garrison://host:port")
    return parts.hostname, port


def format_address(address: Address) -> str:
    """Return an address as text, for messages."""
    if isinstance(address, str):
        return address.replace("\0", "@", 1)
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(address: Address, limits: Limits) -> socket.socket:
    """Return a socket that listens at an address."""
    if isinstance(address, str):
        return _listen_at_path(address)
    family, where = _first_address(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these options.
        keep_alive(sock, limits.keepalive_idle_s, limits.peer_timeout_s)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _with_address(error, "listen at", address) from None
    sock.setblocking(False)
    return sock


def _first_address(address: tuple[str, int]) -> tuple[int, Any]:
    host, port = address
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, where


def _listen_at_path(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_dead_socket(path)
            sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _with_address(error, "listen at", path) from None
    sock.setblocking(False)
    return sock


def _remove_dead_socket(path: str) -> None:
    """Remove a socket of this user at which no server listens.

    Raises
    ------
    OSError
        If there is anything else; nothing is removed.
    """
    if path.startswith("\0"):
        raise _in_use("a server listens there; stop it, or give another address")
    status = os.lstat(path)
    if not stat.S_ISSOCK(status.st_mode):
        kind = file_kind(status.st_mode)
        raise _in_use(f"there is {kind}, which is kept: remove it yourself, or give another path")
    if status.st_uid != os.geteuid():
        raise _in_use(
            f"there is a socket of user {status.st_uid}, which is kept: give another path"
        )
    if not _is_dead_socket(path):
        raise _in_use("a server listens there; stop it, or give another path")
    os.unlink(path)  # noqa: PTH108 - an address


def _in_use(text: str) -> OSError:
    return OSError(errno.EADDRINUSE, text)


def _is_dead_socket(path: str) -> bool:
    """Whether no server listens at this socket any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server with a full backlog would be waited for
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


class SocketFile:
    """The file of a socket that this process has bound, so that no other one is removed.

    Parameters
    ----------
    path : str
        The path at which it was bound.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
        self._id = self._identify()

    def _identify(self) -> tuple[int, int, bool]:
        status = os.lstat(self._path)
        return status.st_dev, status.st_ino, stat.S_ISSOCK(status.st_mode)

    def unlink(self) -> None:
        """Remove it, unless something else has its path by now."""
        with contextlib.suppress(OSError):
            if self._identify() == self._id:
                os.unlink(self._path)  # noqa: PTH108 - an address


def _with_address(error: OSError, what: str, address: Address) -> OSError:
    return OSError(
        error.errno, f"cannot {what} {format_address(address)}: {error.strerror or error}"
    )


def connect(address: Address, deadline: float, quiet: float, dead: float) -> socket.socket:
    """Connect to an address before a deadline of the monotonic clock."""
    problem: OSError | None = None
    for family, where in _resolve(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            sock.connect(where)
            if family != socket.AF_UNIX:
                keep_alive(sock, quiet, dead)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            problem = error
        else:
            return sock
    assert problem is not None  # noqa: S101 - there is at least one place
    if isinstance(problem, TimeoutError):
        raise TimeoutError(f"{format_address(address)} has not answered in time")
    raise _with_address(problem, "connect to", address) from None


def _resolve(address: Address) -> Iterator[tuple[int, Any]]:
    if isinstance(address, str):
        yield socket.AF_UNIX, address
        return
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _with_address(error, "connect to", address) from None
    for family, _, _, _, where in found:
        yield family, where


def keep_alive(sock: socket.socket, quiet: float, dead: float) -> None:
    """Let the kernel probe a silent peer, and close the connection if no answer comes.

    The peer's kernel answers, so a program that computes for an hour, or is stopped, stays.

    Parameters
    ----------
    sock : socket.socket
        A TCP socket.
    quiet : float
        Seconds of silence before the first probe.
    dead : float
        Seconds without an answer before the connection is closed.
    """
    tcp = socket.IPPROTO_TCP
    first = max(1, round(quiet))
    between = max(1, round((dead - quiet) / PROBES))
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, first)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, between)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, PROBES)
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, int(dead * 1000))


def is_on_this_machine(sock: socket.socket) -> bool:
    """Whether the other end of a connected socket is certainly on this computer."""
    if sock.family == socket.AF_UNIX:
        return True
    host: str = sock.getpeername()[0]
    return host == "::1" or host.removeprefix("::ffff:").startswith("127.")


def describe_peer(sock: socket.socket, name: Any) -> str:
    """Describe the other end of an accepted connection, for messages."""
    if sock.family != socket.AF_UNIX:
        return format_address((name[0], name[1]))
    with contextlib.suppress(OSError):
        pid, uid = peer_process(sock)
        return f"process {pid} of user {uid}"
    return "a local process"


def peer_process(sock: socket.socket) -> tuple[int, int]:
    """Return process and user at the other end of a Unix socket, when it connected or listened."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def other_user(sock: socket.socket) -> int | None:
    """Return the user at the other end, if that is neither this process's own nor root.

    A key proves more. Without one this is all that is known of the other end.
    """
    if sock.family != socket.AF_UNIX:
        return None
    _, uid = peer_process(sock)
    return None if uid in {os.geteuid(), 0} else uid
