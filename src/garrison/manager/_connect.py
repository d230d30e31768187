"""`connect`: find a manager by its address."""

from __future__ import annotations

import errno
import os
import re
import urllib.parse
from multiprocessing import AuthenticationError

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import WrongServer
from garrison.manager._auth_keys import NO_KEY
from garrison.manager._sync_manager import SyncManager
from garrison.manager.valkey._url import is_valkey_url

if TYPE_CHECKING:
    from garrison.net import Limits

__all__ = ["SCHEME", "connect", "is_valkey_url", "parse_address", "place_of", "valkey_manager"]

SCHEME = "garrison://"
_HOST_AND_PORT = re.compile(r"(?:\[[^\[\]/]+\]|[^\[\]/:\0]*):\d+")
_HINTS = {
    errno.ENOENT: "no server's socket is there; the address of a server on a network is host:port",
    errno.ECONNREFUSED: "nothing listens there; start the server (garrison serve --address ...), "
    "or give the address that it has printed",
    errno.ENETUNREACH: "this computer has no way to that network",
    errno.EHOSTUNREACH: "no computer with that address answers",
}
"""What an error of a connection means, and what to do."""


def parse_address(text: str, default_port: int | None = None) -> tuple[str, int] | str:
    """Return host and port of "host:port", "[v6]:port" or "garrison://host:port"; or a path.

    A path is that of a socket: "/path", "./path" or "garrison:///path".

    Raises
    ------
    ValueError
        If there is no port, or it is none.
    """
    path = text.removeprefix(SCHEME)
    if path.startswith(("/", "./", "../")):
        return path
    bare = text if "://" in text else f"{SCHEME}{text}"
    parts = urllib.parse.urlsplit(bare)
    if f"{parts.scheme}://" != SCHEME:
        msg = f"the address of a manager begins with {SCHEME}, not as in {text!r}"
        raise ValueError(msg)
    try:
        port = parts.port if parts.port is not None else default_port
    except ValueError:
        port = None
    if port is None or not (parts.hostname or default_port is not None):
        msg = (
            f"an address is host:port or {SCHEME}host:port, with a port of 0 to 65535, or the path "
            f"of a socket with a slash in it; not {text!r}"
        )
        raise ValueError(msg)
    return parts.hostname or "127.0.0.1", port


def place_of(address: Any) -> Any:
    """Return the address that a text names: of a URL or "host:port", host and port.

    Other texts, and texts for which there is a file, are paths of sockets.
    """
    if not isinstance(address, str):
        return address
    is_network = _HOST_AND_PORT.fullmatch(address) and not os.path.lexists(address)
    return parse_address(address) if is_network or "://" in address else address


def connect(
    address: Any,
    key: bytes | str | os.PathLike[str] | None = None,
    *,
    fingerprint: str | None = None,
    direct: bool = True,
    limits: Limits | None = None,
) -> SyncManager:
    """Connect to a running manager, on this machine or another.

    Parameters
    ----------
    address : str or tuple
        ``"host:port"``, ``"garrison://host:port"``, ``(host, port)``, or the path of a socket; or
        the URL of a Valkey or Redis server, as for `garrison.Manager`.
    key : bytes, str or path-like, optional
        The server's key; a path names a file with the key. By default the key that the processes
        of one program share. For a server without a key: ``garrison.NO_KEY``. Such a server serves
        its own machine only, and keeps plain values only.
    fingerprint : str, optional
        That of the server, as ``garrison serve`` prints it: who has the key could pose as the
        server otherwise. By default a server on another computer must be the one that was at this
        address the first time; ``~/.config/garrison/known_servers`` has them.
    direct : bool
        Whether to reach containers in memory, if the server is on this machine and of this user.
        A server without a key is never reached so.
    limits : Limits, optional
        How long a server may be silent, among others.

    Returns
    -------
    SyncManager
        Its ``dict("name")`` and so on return one container for all that use that name. As a
        context manager it disconnects at the end of the block.

    Raises
    ------
    AuthenticationError
        If the server has another key.
    WrongServer
        If it has another identity.
    OSError
        If there is no server of garrison's at the address.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager(address=("127.0.0.1", 0), key="a long random text") as server:
    ...     server.dict("stock", apples=3)["pears"] = 5
    ...     host, port = server.address
    ...     there = garrison.connect(f"garrison://{host}:{port}", key="a long random text")
    ...     print(there.dict("stock"))
    {'apples': 3, 'pears': 5}
    """
    if is_valkey_url(address):
        return valkey_manager(address, key=key)
    place = place_of(address)
    if key is NO_KEY:
        manager = SyncManager(place, NO_KEY, limits=limits, fingerprint=fingerprint)
    else:
        manager = SyncManager(place, key=key, limits=limits, fingerprint=fingerprint)
    try:
        manager.connect(direct=direct)
    except AuthenticationError as error:
        hint = _key_hint(key)
        if not hint or isinstance(error, WrongServer):
            raise
        raise AuthenticationError(f"{error}; {hint}") from None
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "")
        if not hint:
            raise
        raise OSError(error.errno, f"{error.strerror}: {hint}") from None
    return manager


def _key_hint(key: Any) -> str:
    if key is None:
        return "give it: key=..., or key=garrison.NO_KEY if the server was started without one"
    if isinstance(key, str) and os.path.lexists(key):
        return f"a text is the key itself; for the key in that file give key=Path({key!r})"
    return ""


def valkey_manager(url: str, **options: Any) -> SyncManager:
    """Return a manager that has connected to a Valkey or Redis server; see `ValkeyManager`."""
    # Late: few programs have such a server.
    from garrison.manager.valkey._manager import ValkeyManager

    manager = ValkeyManager(url, **options)
    manager.connect()
    return manager
