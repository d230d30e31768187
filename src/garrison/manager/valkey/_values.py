"""Keys and values as they are sent, and as they come back.

The server's scripts see through a value only as far as it names other containers. Plain containers
are sent in one piece, in which keys have both their forms: the server cannot make a canonical one.
"""

from __future__ import annotations

import struct
from collections import deque

from garrison import _core
from garrison._typing import Any
from garrison.errors import StoreCorrupt, ValueUnreadable
from garrison.store import Kind

__all__ = ["MAPPINGS", "Values"]

TREE, KEY, STR = 0x12, 0x09, 0x06
LONGEST_KEY = 400
HEAD = struct.Struct("<BBIq")
"""In front of the items of a container that comes as a plain one: kind, count, maxlen."""
MAPPINGS = frozenset((Kind.DICT, Kind.NAMESPACE, Kind.COUNTER))
NUMBERS = frozenset((1, 2, 3, 4, 5))
"""The first bytes of numbers."""
_u32 = struct.Struct("<I")


class Values:
    """Encodes and decodes with the hooks of one store.

    Parameters
    ----------
    hooks : garrison.store.Codec
        What needs Python.
    place : str
        Where the store is, for messages.
    lease_ms : int
        How long a claim is kept for a process that gives no sign of life.
    """

    def __init__(self, hooks: Any, place: str, lease_ms: int) -> None:
        self.hooks, self._place, self.lease_ms = hooks, place, lease_ms

    # -- to the server ----------------------------------------------------------------------------

    def key(self, obj: Any) -> tuple[bytes, bytes]:
        """Return the canonical form of a key, and its original where that does not tell."""
        return _core.encode_key(obj, self.hooks)

    def value(self, obj: Any) -> bytes:
        """Return a value as it is sent."""
        encoded = _core.encode_value(obj, self.hooks)
        return self.sendable(encoded) if encoded[0] == TREE else encoded

    def number(self, obj: Any) -> bytes:
        """Return a number that can be added."""
        encoded = _core.encode_value(obj, self.hooks)
        if encoded[0] not in NUMBERS:
            raise TypeError("only int and float can be added; use a transaction for other types")
        return encoded

    def sendable(self, encoded: bytes) -> bytes:
        """Return an encoded value with both forms of all keys in it."""
        if encoded[0] != TREE:
            return encoded
        kind, count = encoded[1], _u32.unpack_from(encoded, 2)[0]
        at = 6 + 8 * (kind == Kind.DEQUE)
        parts, is_pair = [encoded[:at]], kind == Kind.DICT
        for place in range(count * 2 if is_pair else count):
            (size,) = _u32.unpack_from(encoded, at)
            item = encoded[at + 4 : at + 4 + size]
            at += 4 + size
            is_key = kind == Kind.SET or (is_pair and place % 2 == 0)
            item = self._both_forms(item) if is_key else self.sendable(item)
            parts += (_u32.pack(len(item)), item)
        return b"".join(parts)

    def _both_forms(self, key: bytes) -> bytes:
        if key[0] == KEY:
            return key
        if key[0] == STR and len(key) < LONGEST_KEY:
            canonical, original = b"s" + key[1:], b""
        else:
            canonical, original = self.key(_core.decode_value(key, self.hooks))
        return b"".join((bytes((KEY,)), _u32.pack(len(canonical)), canonical, original))

    # -- from the server --------------------------------------------------------------------------

    def decode(self, reply: Any) -> Any:
        """Return the object of a value, or of a container that comes as a plain one."""
        try:
            if type(reply) is bytes:
                return _core.decode_value(reply, self.hooks)
            return self._plain(reply)
        except ValueUnreadable:
            raise
        except (ValueError, TypeError, LookupError, StopIteration, struct.error) as error:
            raise self.corrupt(f"a value: {error}") from error

    def decode_key(self, canonical: bytes, original: bytes) -> Any:
        """Return the object of a key."""
        try:
            return _core.decode_key(canonical, original, self.hooks)
        except ValueUnreadable:
            raise
        except (ValueError, TypeError, LookupError) as error:
            raise self.corrupt(f"a key: {error}") from error

    def corrupt(self, what: str) -> StoreCorrupt:
        """Return the error for data that no garrison has written."""
        return StoreCorrupt(f"the store at {self._place} is damaged: {what}")

    def _plain(self, tokens: list[Any]) -> Any:
        """Return the plain object of a container and all that is in it, however deep."""
        left = iter(tokens)
        above: list[_Unfinished] = []
        found: Any = None
        for token in left:
            if token[0] == TREE:
                above.append(_Unfinished(token))
                if above[-1].kind == Kind.SET:
                    keys = range(above[-1].missing)
                    above[-1].set([self.decode_key(next(left), next(left)) for _ in keys])
            else:
                above[-1].add(_core.decode_value(token, self.hooks))
            while above and not above[-1].missing:
                found = above.pop().plain()
                if above:
                    above[-1].add(found)
            if above and above[-1].kind in MAPPINGS:
                above[-1].keys.append(self.decode_key(next(left), next(left)))
        if above:
            raise ValueError("a container that ends too soon")
        return found


class _Unfinished:
    """A plain container whose items are still to come."""

    __slots__ = ("_items", "_maxlen", "keys", "kind", "missing")

    def __init__(self, token: bytes) -> None:
        _, self.kind, self.missing, self._maxlen = HEAD.unpack(token)
        self.keys: list[Any] = []
        self._items: list[Any] = []

    def add(self, item: Any) -> None:
        self._items.append(item)
        self.missing -= 1

    def set(self, items: list[Any]) -> None:
        self._items, self.missing = items, 0

    def plain(self) -> Any:
        if self.kind in MAPPINGS:
            return dict(zip(self.keys, self._items, strict=True))
        if self.kind == Kind.SET:
            return set(self._items)
        if self.kind == Kind.DEQUE:
            return deque(self._items, None if self._maxlen < 0 else self._maxlen)
        return self._items
