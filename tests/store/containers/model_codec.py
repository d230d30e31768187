"""How the backend writes values and keys down, in plain Python."""

from __future__ import annotations

import struct
from collections import deque
from typing import Any

NONE, FALSE, TRUE, INT, BIG, FLOAT, STR, BYTES, PICKLE = range(9)
CHILD, REF, TREE = 0x10, 0x11, 0x12
DICT, LIST, SET, DEQUE = 1, 2, 3, 4
DEEPEST = 100
TREES: dict[type, int] = {dict: DICT, list: LIST, set: SET, deque: DEQUE}


def encode_value(obj: Any, hooks: Any) -> bytes:
    return _encode(obj, hooks, ())


def _encode(obj: Any, hooks: Any, above: tuple[int, ...]) -> bytes:
    scalar = _scalar(obj)
    if scalar is not None:
        return scalar
    if hasattr(type(obj), "__garrison_container__"):
        uuid, kind, c = obj.__garrison_container__()
        if uuid == hooks.uuid:
            return struct.pack("<BBQ8x", REF, kind, c)
    if type(obj) in TREES:
        return _tree(obj, hooks, above)
    pickled: bytes = hooks.dumps(obj)
    return bytes([PICKLE]) + pickled


def _scalar(obj: Any) -> bytes | None:  # noqa: PLR0911 - one for each type
    if obj is None or obj is False or obj is True:
        return bytes([(NONE, FALSE, TRUE)[(None, False, True).index(obj)]])
    if type(obj) is int:
        if -(2**63) <= obj < 2**63:
            return struct.pack("<Bq", INT, obj)
        return bytes([BIG]) + obj.to_bytes(obj.bit_length() // 8 + 1, "little", signed=True)
    if type(obj) is float:
        return struct.pack("<Bd", FLOAT, obj)
    if type(obj) is bytes:
        return bytes([BYTES]) + obj
    if type(obj) is str:
        try:
            return bytes([STR]) + obj.encode()
        except UnicodeEncodeError:
            return None
    return None


def _tree(obj: Any, hooks: Any, above: tuple[int, ...]) -> bytes:
    if id(obj) in above:
        raise ValueError("a container that contains itself cannot be stored")
    if len(above) >= DEEPEST:
        raise ValueError(f"containers are nested more than {DEEPEST} deep")
    inner = (*above, id(obj))
    items = [part for pair in obj.items() for part in pair] if type(obj) is dict else list(obj)
    parts = [_encode(item, hooks, inner) for item in items]
    head = struct.pack("<BBIq", TREE, TREES[type(obj)], len(obj), _limit(obj))
    return head + b"".join(struct.pack("<I", len(part)) + part for part in parts)


def _limit(obj: Any) -> int:
    maxlen = getattr(obj, "maxlen", None)
    return -1 if maxlen is None else maxlen


def tree_limit(encoded: bytes) -> int:
    """Return the maxlen of a TREE, or -1."""
    (limit,) = struct.unpack_from("<q", encoded, 6)
    return int(limit)


def tree_parts(encoded: bytes) -> tuple[int, list[bytes]]:
    """Return the kind of a TREE, and its encoded items."""
    parts, place = [], 14
    while place < len(encoded):
        (length,) = struct.unpack_from("<I", encoded, place)
        parts.append(encoded[place + 4 : place + 4 + length])
        place += 4 + length
    return encoded[1], parts


def link(encoded: bytes) -> tuple[int, int]:
    """Return kind and number of what a CHILD or a REF leads to."""
    kind, c = struct.unpack_from("<BQ", encoded, 1)
    return kind, c


def decode_value(encoded: bytes, hooks: Any) -> Any:  # noqa: PLR0911 - one for each tag
    tag, rest = encoded[0], encoded[1:]
    if tag in {NONE, FALSE, TRUE}:
        return (None, False, True)[tag]
    if tag in {INT, BIG}:
        return int.from_bytes(rest, "little", signed=True)
    if tag == FLOAT:
        return struct.unpack("<d", rest)[0]
    if tag in {STR, BYTES}:
        return rest.decode() if tag == STR else rest
    if tag == PICKLE:
        return hooks.loads(rest)
    if tag == TREE:
        kind, parts = tree_parts(encoded)
        return plain(kind, [decode_value(part, hooks) for part in parts], tree_limit(encoded))
    return hooks.container(*link(encoded), tag == REF)


def plain(kind: int, items: list[Any], limit: int) -> Any:
    if kind == DICT:
        return dict(zip(items[::2], items[1::2], strict=True))
    if kind == DEQUE:
        return deque(items, None if limit < 0 else limit)
    return set(items) if kind == SET else items


def encode_key(obj: Any, hooks: Any) -> tuple[bytes, bytes]:
    canonical = _canonical(obj, hooks)
    if type(obj) in {str, bytes, int, type(None)}:
        return canonical, b""
    return canonical, encode_value(obj, hooks)


def _canonical(obj: Any, hooks: Any) -> bytes:  # noqa: PLR0911 - one for each type
    if obj is None:
        return b"n"
    if type(obj) in {int, bool} or (type(obj) is float and obj.is_integer()):
        number = int(obj)
        return b"i" + number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    if type(obj) is float:
        return b"f" + struct.pack("<d", obj)
    if type(obj) is str:
        return b"s" + obj.encode(errors="surrogatepass")
    if type(obj) is bytes:
        return b"b" + obj
    if type(obj) is tuple:
        return b"t" + _joined([_canonical(item, hooks) for item in obj])
    if type(obj) is frozenset:
        return b"z" + _joined(sorted(_canonical(item, hooks) for item in obj))
    found = hooks.key(obj)
    assert type(found) is bytes
    return found


def _joined(parts: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def decode_key(canonical: bytes, original: bytes, hooks: Any) -> Any:
    if original:
        return decode_value(original, hooks)
    tag, rest = canonical[:1], canonical[1:]
    if tag == b"i":
        return int.from_bytes(rest, "little", signed=True)
    if tag == b"s":
        return rest.decode(errors="surrogatepass")
    return rest if tag == b"b" else None
