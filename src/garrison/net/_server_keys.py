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

MAX_KEYS = 1024
"""Each is tried on a client's first message: a few microseconds."""


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
        self._named: tuple[NamedKey, ...] = ()
        if file is not None:
            self.reload()

    def __contains__(self, key: NamedKey) -> bool:
        return key == self._own or key in self._named

    def with_psks(self) -> Iterator[tuple[NamedKey, bytes]]:
        """Go through the keys, each with the shared key of its handshake."""
        for key in (self._own, *self._named):
            yield key, derive_psk(bytes(key.key), self.identity.public)

    def reload(self) -> bool:
        """Read the file again if it has changed; return whether it was read.

        Raises
        ------
        OSError, ValueError
            If it cannot be read; the keys are the same as before.
        """
        if self._file is None:
            return False
        file_trust.check_link(self._file)
        with open(self._file, encoding="utf-8") as file:  # noqa: PTH123 - checked once open
            status = os.fstat(file.fileno())
            version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if version == self._status:
                return False
            # Not again before it has changed, even if it is wrong.
            self._status = version
            file_trust.check_status(status, self._file, file.fileno())
            self._named = tuple(self._parse(file))
        return True

    def _parse(self, lines: Iterator[str]) -> Iterator[NamedKey]:
        names = set()
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            found = parse_named_key(line)
            if found is None:
                raise ValueError(
                    f"line {number} of {self._file} is not NAME read|full KEY with a key that "
                    "`garrison key --name NAME` has made"
                )
            if found.name in names:
                raise ValueError(f"{self._file} has two keys of the name {found.name!r}")
            names.add(found.name)
            if len(names) > MAX_KEYS:
                raise ValueError(f"{self._file} has more than {MAX_KEYS} keys")
            yield found
