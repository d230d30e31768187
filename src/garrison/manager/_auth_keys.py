"""Keys of servers, and the addresses that need one."""

from __future__ import annotations

import contextlib
import os

from garrison._os import file_trust
from garrison._typing import TYPE_CHECKING, Any
from garrison.net import generate_key, parse_named_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "KNOWN_FINGERPRINTS",
    "KNOWN_KEYS",
    "NO_KEY",
    "expecting",
    "is_loopback",
    "note_served",
    "note_server",
    "read_key",
    "require_key_for_network",
    "write_key",
]


class _NoKey(bytes):
    """The key of a server that any process of its machine may use: ``connect(place, NO_KEY)``.

    Only this object counts as such: an empty key, as of a variable that was not set, is an error.

    Examples
    --------
    >>> import garrison
    >>> garrison.NO_KEY
    garrison.NO_KEY
    """

    def __repr__(self) -> str:
        return "garrison.NO_KEY"


NO_KEY: bytes = _NoKey()
LEAST_KEY = 8
"""Bytes of the shortest key that other computers may be asked for."""
KNOWN_KEYS: dict[Any, bytes] = {}
"""The key of each server this process has used, by address; some proxies are sent without it."""

KNOWN_FINGERPRINTS: dict[Any, str] = {}
"""The fingerprints that this process was given for servers, by address."""


@contextlib.contextmanager
def expecting(address: Any, key: bytes, fingerprint: str | None) -> Iterator[None]:
    """Know a server as the program has named it; as before if the block fails to reach it.

    Without a fingerprint an older one is forgotten: the next program to listen on a port of this
    computer is often another server.
    """
    before = KNOWN_KEYS.get(address), KNOWN_FINGERPRINTS.get(address)
    _know(address, key, fingerprint)
    try:
        yield
    except BaseException:
        _know(address, *before)
        raise


def note_served(address: Any, key: bytes) -> None:
    """Know a server of this program's own."""
    _know(address, key, None)


def _know(address: Any, key: bytes | None, fingerprint: str | None) -> None:
    known: Any
    for known, value in ((KNOWN_KEYS, key), (KNOWN_FINGERPRINTS, fingerprint)):
        if value is None:
            known.pop(address, None)
        else:
            known[address] = value


def note_server(address: Any, key: bytes | None = None, fingerprint: str | None = None) -> None:
    """Note what another process has sent of a server."""
    if key is not None:
        KNOWN_KEYS[address] = key
    if fingerprint is not None:
        KNOWN_FINGERPRINTS[address] = fingerprint


def read_key(key: bytes | str | os.PathLike[str]) -> bytes:
    """Return a key as bytes: as given, or the contents of a file without white space around it.

    Of a file with one named key, as ``garrison key --name NAME`` makes it, that is the key.

    Raises
    ------
    ValueError
        If it is empty.
    UntrustedFile
        If another user can change the file.
    OSError
        If the file cannot be read.
    """
    if isinstance(key, os.PathLike):
        found = _read_key_file(os.fspath(key)).strip()
        if not found:
            msg = f"the key file {os.fspath(key)!r} is empty; write a long random text into it"
            raise ValueError(msg)
        named = parse_named_key(found.decode(errors="replace"))
        return found if named is None else bytes(named.key)
    plain = key.encode() if isinstance(key, str) else bytes(key)
    if not plain:
        raise ValueError("an empty key protects nothing; give a long random one, or none")
    return plain


def _read_key_file(path: str) -> bytes:
    """Return the contents of a file that no other user can change."""
    try:
        file_trust.check_link(path)
        with open(path, "rb") as file:  # noqa: PTH123 - without pathlib, which few programs with a manager load
            file_trust.check_status(os.fstat(file.fileno()), path, file.fileno())
            return file.read()
    except FileNotFoundError as error:
        text = "there is no such key file; copy the one of the server"
        raise FileNotFoundError(error.errno, text, path) from None


def write_key(path: Path) -> bytes:
    """Make a new key in a file that only this user can read."""
    key = generate_key()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(key + b"\n")
    return key


def require_key_for_network(address: Any, key: bytes | None) -> None:
    """Raise if other computers reach the address, and there is no key, or one that can be guessed.

    Raises
    ------
    ValueError
        If there is none, or a short one.
    """
    if is_loopback(address):
        return
    if key and len(key) < LEAST_KEY:
        msg = (
            f"other computers reach {address!r}, and can guess a key of {len(key)} characters; "
            "make a random one with `garrison key > FILE`, and give both ends key=Path(FILE)"
        )
        raise ValueError(msg)
    if not key:
        msg = (
            f"other computers reach {address!r}: give a key (key=..., or authkey=...), which both "
            "ends must know, or listen on 127.0.0.1"
        )
        raise ValueError(msg)


def is_loopback(address: Any) -> bool:
    """Whether only this machine reaches an address."""
    if not isinstance(address, tuple):
        return True
    host = address[0]
    if host == "localhost":
        return True
    # Late: most servers are this machine's.
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
