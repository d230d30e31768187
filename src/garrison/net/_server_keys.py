"""The keys that a server takes: its own, and named ones of a file, each with what it may do.

::

    alice full garrison-...        a line for each: name, access, key as `garrison key` makes it
    board read garrison-...        (a line that begins with # is none)

Without a line its key is revoked: the connections made with it end, and no other key is touched.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import NamedTuple

from garrison._os import file_trust
from garrison._typing import TYPE_CHECKING
from garrison.net._identity import Identity, new_identity
from garrison.net._key import Key, derive_psk, is_generated

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Access", "NamedKey", "ServerKeys", "parse_named_key"]

MAX_KEYS = 64
"""Each is tried on a client's first message, which takes up to 0.1 ms a key."""
MAX_FILE = 1 << 20


class Access(IntEnum):
    """What a client may do with its key; each includes the ones before."""

    READ = 1
    """Read containers."""
    FULL = 2
    """Change them too, use locks, and call what the server has registered."""
    OWNER = 3
    """Stop the server too."""


class NamedKey(NamedTuple):
    """A key that a server takes."""

    name: str
    access: Access
    key: Key


def parse_named_key(line: str) -> NamedKey | None:
    """Return name, access and key of a line; None if it is not such a line."""
    words = line.split()
    if len(words) != 3 or words[1] not in {"read", "full"}:  # noqa: PLR2004 - as above
        return None
    name, access, key = words
    if not is_generated(key.encode()):
        return None
    return NamedKey(name, Access[access.upper()], Key(key.encode()))


class ServerKeys:
    """The keys that a server takes, and its identity.

    Parameters
    ----------
    own : bytes
        The server's own key; empty if any process of the machine may connect.
    identity : Identity, optional
        By default one for this run.
    access : Access
        What the own key allows.
    file : str, optional
        A file of named keys.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read.
    """

    def __init__(
        self,
        own: bytes,
        identity: Identity | None = None,
        *,
        access: Access = Access.OWNER,
        file: str | None = None,
    ) -> None:
        self.identity: Identity = identity or new_identity()
        self.is_open: bool = not own
        """Whether there is no key."""
        self._own = NamedKey("", access, Key(own))
        self._file = file
        self._status: tuple[int, ...] = ()
        self._psks: dict[NamedKey, bytes] = {}
        self._named: tuple[NamedKey, ...] = ()
        if file is not None:
            self.reload(strict=True)

    @property
    def has_file(self) -> bool:
        """Whether there is a file of named keys, which may change."""
        return self._file is not None

    def __contains__(self, key: NamedKey) -> bool:
        return key == self._own or key in self._named

    def with_psks(self) -> Iterator[tuple[NamedKey, bytes]]:
        """Go through the keys, each with the shared key of its handshake."""
        for key in (self._own, *self._named):
            psk = self._psks.get(key)
            if psk is None:
                psk = self._psks[key] = derive_psk(bytes(key.key), self.identity.public)
            yield key, psk

    def reload(self, *, strict: bool = False) -> list[str] | None:
        """Read the file again if it has changed; return what is wrong in it, None if it has not.

        A line that is wrong is nobody's key, and without the file there is none: what cannot be
        read allows nothing.

        Raises
        ------
        OSError, ValueError
            If `strict`, and something is wrong.
        UntrustedFile
            If another user can change the file; the keys are the same as before.
        """
        if self._file is None:
            return None
        try:
            status, data = _read_file(self._file, self._status)
        except FileNotFoundError:
            if strict:
                raise
            status, data = (), b""
        if status == self._status or data is None:
            return None
        named, wrong = self._parse(data)
        if wrong and strict:
            raise ValueError(wrong[0])
        self._status, self._named, self._psks = status, named, {}
        return wrong if status else [f"there is no {self._file}"]

    def _parse(self, data: bytes) -> tuple[tuple[NamedKey, ...], list[str]]:
        """Return the keys of a file, and what is wrong in it."""
        keys: dict[str, NamedKey] = {}
        wrong = []
        lines = data.decode("utf-8-sig", "replace").splitlines()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = parse_named_key(line)
            where = f"line {number} of {self._file}"
            if found is None:
                wrong.append(
                    f"{where} is not NAME read|full KEY with a key that `garrison key --name NAME` "
                    "has made"
                )
            elif found.name in keys:
                wrong.append(f"{where} is a second key of the name {found.name!r}")
            elif any(found.key == other.key for other in keys.values()):
                wrong.append(f"{where} has the key of another line, which could not be revoked")
            elif len(keys) == MAX_KEYS:
                wrong.append(f"{where} is one more than the {MAX_KEYS} keys that a server takes")
            else:
                keys[found.name] = found
        return tuple(keys.values()), wrong


def _read_file(path: str, known: tuple[int, ...]) -> tuple[tuple[int, ...], bytes | None]:
    """Return version and contents of a file; no contents if it has the known version."""
    file_trust.check_link(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        version = (
            *(status.st_dev, status.st_ino, status.st_size),
            *(status.st_mtime_ns, status.st_ctime_ns),
        )
        if version == known:
            return version, None
        file_trust.check_plain_file(status, path, fd)
        if status.st_size > MAX_FILE:
            raise ValueError(f"{path} has {status.st_size} bytes; {MAX_FILE} are the limit")
        return version, file.read(MAX_FILE)
