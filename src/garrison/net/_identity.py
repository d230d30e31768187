"""The identity of a server: a key pair, whose public half its clients may know.

Every client has the shared key, so with it alone one client could pose as the server to another.
The private key of a user's servers is kept in ``~/.config/garrison/server_key``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import hashlib
import os
import secrets
from typing import NamedTuple

from garrison import _core
from garrison._os import file_trust
from garrison.errors import UntrustedFile

__all__ = ["Identity", "config_folder", "fingerprint_of", "kept_identity", "new_identity"]

_FILE = "server_key"
_MARK = "garrison-server-key"
_LENGTH = 32
_LONGEST_FILE = 256


class Identity(NamedTuple):
    """A key pair of X25519 (RFC 7748): private and public key, 32 bytes each."""

    private: bytes
    public: bytes

    @property
    def fingerprint(self) -> str:
        """The public key as people compare it."""
        return fingerprint_of(self.public)

    def __repr__(self) -> str:
        return f"<Identity {self.fingerprint}>"


def fingerprint_of(public: bytes) -> str:
    """Return ``SHA256:`` and the hash of a public key, as ssh shows it."""
    digest = hashlib.sha256(public).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def new_identity() -> Identity:
    """Return an identity that no other server has had."""
    return Identity(*_core.generate_identity())


def config_folder() -> str:
    """Return the folder of this user's configuration, which may not be there yet."""
    above = os.environ.get("XDG_CONFIG_HOME") or os.path.join(  # noqa: PTH118 - strings, as in _os
        os.path.expanduser("~"),  # noqa: PTH111
        ".config",
    )
    return os.path.join(above, "garrison")  # noqa: PTH118


def kept_identity() -> Identity:
    """Return the identity of this user's servers; it is made when the first of them needs it.

    Raises
    ------
    UntrustedFile
        If another user can change the file or its folder.
    OSError
        If the file cannot be read or made.
    ValueError
        If the file is damaged.
    """
    path = config_folder()
    os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103
    folder = file_trust.open_folder(path)
    try:
        try:
            return _read(folder, path)
        except FileNotFoundError:
            _write(folder, new_identity(), path)
            return _read(folder, path)
    finally:
        os.close(folder)


def _read(folder: int, path: str) -> Identity:
    with os.fdopen(file_trust.open_in(folder, _FILE, os.O_RDONLY, path), "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise UntrustedFile(
                errno.EPERM,
                "others can read it: take that away (chmod 600), or remove it for a new one",
                f"{path}/{_FILE}",
            )
        words = file.read(_LONGEST_FILE).split()
    with contextlib.suppress(binascii.Error, ValueError):
        mark, private, public = words
        found = Identity(base64.b64decode(private), base64.b64decode(public))
        if mark == _MARK.encode() and len(found.private) == len(found.public) == _LENGTH:
            return found
    raise ValueError(
        f"{path}/{_FILE} is damaged: restore it, or remove it for a new one, which clients that "
        "know the old one will refuse"
    )


def _write(folder: int, made: Identity, path: str) -> None:
    """Write the file, unless another server has made one meanwhile."""
    halves = " ".join(base64.b64encode(half).decode() for half in made)
    temporary = f"{_FILE}.{secrets.token_hex(8)}"
    fd = file_trust.open_in(folder, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, path)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(f"{_MARK} {halves}\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, _FILE, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.unlink(temporary, dir_fd=folder)
