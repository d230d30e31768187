"""Keys: what both ends of a connection must know, and what the handshake makes of it."""

from __future__ import annotations

import functools
import hashlib
import secrets

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    AuthenticationString = bytes
else:
    from multiprocessing.process import AuthenticationString

__all__ = ["Key", "derive_psk", "generate_key", "is_generated", "needs_salt"]

_GENERATED = b"garrison-"
_RANDOM_BYTES = 32
_GENERATED_LENGTH = len(_GENERATED) + len(secrets.token_urlsafe(_RANDOM_BYTES))


class Key(AuthenticationString):
    """A key that no message and no traceback shows."""

    def __repr__(self) -> str:
        return "<key>"

    __str__ = __repr__


def generate_key() -> bytes:
    """Return a new random key, as text."""
    return _GENERATED + secrets.token_urlsafe(_RANDOM_BYTES).encode()


@functools.lru_cache(maxsize=64)
def derive_psk(key: bytes, salt: bytes) -> bytes:
    """Derive the 32-byte shared key of the handshake.

    Whatever a person may have chosen, of any length, is stretched: to guess it takes as long as the
    function (RFC 7914) takes for each attempt, and for each server anew: the salt is its public
    key.
    """
    if not needs_salt(key):
        return hashlib.blake2b(key, digest_size=32, person=b"garrison psk").digest()
    # A hash first: the function itself takes zero bytes at the end for none.
    return hashlib.scrypt(hashlib.blake2b(key).digest(), salt=salt, n=1 << 14, r=8, p=1, dklen=32)


def needs_salt(key: bytes) -> bool:
    """Whether a person may have chosen this key."""
    return bool(key) and not _is_random(key)


def is_generated(key: bytes) -> bool:
    """Whether `generate_key` has made this key."""
    return key.startswith(_GENERATED) and len(key) == _GENERATED_LENGTH


def _is_random(key: bytes) -> bool:
    """Whether it was generated: by `generate_key`, or as the key of a program's processes."""
    if key.startswith(_GENERATED):
        return is_generated(key)
    try:
        key.decode()
    except UnicodeDecodeError:
        return len(key) >= _RANDOM_BYTES
    return False
