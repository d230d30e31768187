r"""Addresses: ``("host", port)``, ``"/path"``, ``"\\0abstract"``, ``"garrison://host:port"``."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from urllib.parse import urlsplit

from garrison._typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.net._limits import Limits

__all__ = ["Address", "connected", "keep_alive", "listening", "parsed", "peer_of", "shown"]

Address: TypeAlias = "tuple[str, int] | str"
SCHEME = "garrison://"
BACKLOG = 4096
PROBES = 4
"""Unanswered questions after which the kernel gives a peer up."""


def parsed(address: Any) -> Address:
    """Return an address as it is used here; ValueError says what is wrong with it."""
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    if isinstance(address, str) and address.startswith(SCHEME):
        return _of_url(address)
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


def _of_url(url: str) -> Address:
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


def shown(address: Address) -> str:
    """Return an address as a line of text."""
    if isinstance(address, str):
        return address.replace("\0", "@", 1)
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listening(address: Address, limits: Limits) -> socket.socket:
    """Return a socket that listens at an address."""
    if isinstance(address, str):
        return _listening_at_path(address)
    family, where = _first_of(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted has these from its listener.
        keep_alive(sock, limits.quiet, limits.dead)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _explained(error, "listen at", address) from None
    sock.setblocking(False)
    return sock


def _first_of(address: tuple[str, int]) -> tuple[int, Any]:
    host, port = address
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, where


def _listening_at_path(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_deserted(path):
                raise
            os.unlink(path)  # noqa: PTH108 - an address
            sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _explained(error, "listen at", path) from None
    sock.setblocking(False)
    return sock


def _is_deserted(path: str) -> bool:
    """Tell whether a server that is gone has left this socket."""
    if path.startswith("\0"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _explained(error: OSError, what: str, address: Address) -> OSError:
    return OSError(error.errno, f"cannot {what} {shown(address)}: {error.strerror or error}")


def connected(address: Address, deadline: float, quiet: float, dead: float) -> socket.socket:
    """Connect to an address before a deadline of the monotonic clock."""
    problem: OSError | None = None
    for family, where in _places(address):
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
        raise TimeoutError(f"{shown(address)} has not answered in time")
    raise _explained(problem, "connect to", address) from None


def _places(address: Address) -> Iterator[tuple[int, Any]]:
    if isinstance(address, str):
        yield socket.AF_UNIX, address
        return
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _explained(error, "connect to", address) from None
    for family, _, _, _, where in found:
        yield family, where


def keep_alive(sock: socket.socket, quiet: float, dead: float) -> None:
    """Have the kernel ask a silent peer's kernel, and give up a peer that does not answer.

    A program that computes for an hour, or is stopped, is still there: its kernel answers.
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


def peer_of(sock: socket.socket, name: Any) -> str:
    """Say who is at the other end of an accepted connection."""
    if sock.family != socket.AF_UNIX:
        return shown((name[0], name[1]))
    with contextlib.suppress(OSError):
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", credentials)
        return f"process {pid} of user {uid}"
    return "a local process"
