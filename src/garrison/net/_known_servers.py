"""The servers that a client has been connected to, by address: trust on first use, as with ssh.

``~/.config/garrison/known_servers`` has a line for each: address and fingerprint. The first
connection to an address adds one; a server that shows another public key later is refused.
"""

from __future__ import annotations

import fcntl
import os

from garrison._os import file_trust
from garrison._typing import TYPE_CHECKING
from garrison.errors import UntrustedFile, WrongServer
from garrison.net._identity import config_folder, fingerprint_of
from garrison.net._rate_limited_log import server_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

__all__ = ["ServerCheck", "check_fingerprint", "check_of"]


_FILE = "known_servers"
_FINGERPRINT_LENGTH = len(fingerprint_of(b""))


def check_fingerprint(text: str) -> str:
    """Return a fingerprint; raise ValueError if it is none."""
    if not (str(text).startswith("SHA256:") and len(text) == _FINGERPRINT_LENGTH):
        raise ValueError(
            "a fingerprint is SHA256: and 43 characters, as `garrison serve` prints it, not "
            f"{text!r}"
        )
    return text


def check_of(where: str, fingerprint: str | None, *, local: bool) -> ServerCheck:
    """Return the check of a server.

    Parameters
    ----------
    where : str
        The address as the program gave it.
    fingerprint : str, optional
        That of the server. Without one a server that another computer may be has to be the known
        one, and any is good on this computer, where programs come and go.
    local : bool
        Whether it is on this computer.
    """
    return (ServerCheck if local else KnownServerCheck)(where, fingerprint)


class ServerCheck:
    """What a client expects of a server: a fingerprint, or nothing."""

    def __init__(self, where: str, expected: str | None = None) -> None:
        self.where, self.expected = where, expected

    def check(self, public: bytes) -> None:
        """Raise `WrongServer` if the server with this public key is not the right one."""
        shown = fingerprint_of(public)
        if self.expected is not None and shown != self.expected:
            self.refuse(shown)

    def refuse(self, shown: str) -> NoReturn:
        """Raise `WrongServer`: the server has shown another fingerprint."""
        raise WrongServer(
            f"{self.where} is another server: it has {shown}, not {self.expected}, and was "
            f"asked nothing. {self._remedy()}"
        )

    def accept(self, public: bytes) -> None:
        """The same, for a server that has proved to have the private key."""
        self.check(public)

    def _remedy(self) -> str:
        return "Another program may pose as it; if not, give its own fingerprint"


class KnownServerCheck(ServerCheck):
    """Expects a server with this fingerprint, or the one that was there the first time."""

    def __init__(self, where: str, fingerprint: str | None = None) -> None:
        # With a fingerprint the list is not needed, and may be out of date.
        known = None if fingerprint else _known_at(where)
        self._is_given = fingerprint is not None
        self._is_new = known is None
        super().__init__(where, fingerprint or known)

    def accept(self, public: bytes) -> None:
        """Remember a server at its first connection, for other processes as well."""
        self.check(public)
        if self._is_new:
            _remember(self, fingerprint_of(public), needed=not self._is_given)

    def _remedy(self) -> str:
        return (
            "Another program may pose as it; if it was set up anew, remove its line from "
            f"{config_folder()}/{_FILE}, or give its fingerprint"
        )


def _known_at(where: str) -> str | None:
    try:
        folder = file_trust.open_folder(config_folder())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        if isinstance(error, UntrustedFile):
            raise
        raise PermissionError(
            f"{error}: give fingerprint=..., or set XDG_CONFIG_HOME to a folder of your own"
        ) from None
    try:
        fd = file_trust.open_in(folder, _FILE, os.O_RDONLY, config_folder())
    except FileNotFoundError:
        return None
    finally:
        os.close(folder)
    with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
        return _find(file, where)


def _find(lines: Iterator[str], where: str) -> str | None:
    """Return the fingerprint of an address; a damaged line is that of no address."""
    for line in lines:
        words = line.split()
        if len(words) == 2 and words[0] == where:  # noqa: PLR2004 - address and fingerprint
            return words[1]
    return None


def _remember(check: ServerCheck, fingerprint: str, *, needed: bool) -> None:
    """Add a line, unless there is one; raise if another process has just added another server."""
    where = check.where
    path = config_folder()
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103
        folder = file_trust.open_folder(path)
        try:
            fd = file_trust.open_in(folder, _FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, path)
        finally:
            os.close(folder)
        with os.fdopen(fd, "r+", encoding="utf-8", errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = _find(file, where)
            if known is None:
                file.write(f"{where} {fingerprint}\n")
        if needed and known not in {None, fingerprint}:
            check.expected = known
            check.refuse(fingerprint)
    except OSError as error:
        if not needed:
            return
        server_log().warning(
            "%s is connected to for the first time, and cannot be remembered (%s): give its "
            "fingerprint, %s",
            *(where, error, fingerprint),
        )
    else:
        server_log().info("%s has the fingerprint %s, which is remembered", where, fingerprint)
