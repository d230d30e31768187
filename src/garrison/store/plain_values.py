"""Values of plain types as bytes that nothing needs to be unpickled for.

For servers without a key, or without ``--allow-pickle``: whatever the bytes are, reading them calls
no code of the writer, and takes time and memory in proportion to their length. The types that the
backend encodes itself (numbers, strings, bytes, lists, dicts, sets) come here as parts of others.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import json
import uuid
from base64 import b64decode, b64encode

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ItemUnpicklable, ValueUnreadable
from garrison.store._codec import PLAIN_MARK

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["dumps", "loads"]

DEPTH = 100
"""How deep values may be nested."""
MAX_BITS = 1 << 15
"""Bits of an integer. A fraction of larger ones would take more than linear time."""
JSON_BITS = 63
_PLAIN_ONLY = (
    "this server keeps plain values only (numbers, text, bytes, containers, dates, decimals, UUIDs)"
)
_REMEDY = "start it with a key and with --allow-pickle"

Parts = list[Any]


def dumps(obj: Any) -> bytes:
    """Encode a value of plain types.

    Raises
    ------
    ItemUnpicklable
        If it is or has anything else, or nests too deep.
    """
    return PLAIN_MARK + json.dumps(_encoded(obj, DEPTH), separators=(",", ":")).encode()


def loads(data: bytes) -> Any:
    """Rebuild a value that `dumps` has encoded.

    Raises
    ------
    ValueUnreadable
        If the bytes are anything else.
    """
    if data[:1] != PLAIN_MARK:
        raise ValueUnreadable(
            f"a stored value is a pickle, and is not unpickled: {_PLAIN_ONLY}; {_REMEDY}"
        )
    try:
        return _decoded(json.loads(data[1:]), DEPTH)
    except Exception as error:
        msg = f"a stored value is damaged: {type(error).__name__}: {error}"
        raise ValueUnreadable(msg) from error


def _encoded(obj: Any, depth: int) -> Any:
    kind = type(obj)
    if obj is None or kind in (bool, str, float):
        return obj
    if kind is int and obj.bit_length() <= JSON_BITS:
        return obj
    write = _WRITERS.get(kind)
    if write is None:
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise ItemUnpicklable(f"a {name} cannot be stored: {_PLAIN_ONLY}; {_REMEDY}")
    if depth == 0:
        raise ItemUnpicklable(f"a value cannot be stored that nests more than {DEPTH} deep")
    return [kind.__name__, *(_encoded(part, depth - 1) for part in write(obj))]


def _decoded(data: Any, depth: int) -> Any:
    if type(data) is not list:
        if type(data) is dict:
            raise ValueError("an object of JSON")
        return data
    if depth == 0:
        raise ValueError(f"it nests more than {DEPTH} deep")
    name, *parts = data
    return _READERS[name]([_decoded(part, depth - 1) for part in parts])


def _write_int(number: int) -> Parts:
    if number.bit_length() > MAX_BITS:
        raise ItemUnpicklable(f"an integer of {number.bit_length()} bits cannot be stored here")
    return [hex(number)]


def _read_int(parts: Parts) -> int:
    (text,) = parts
    if len(text) > MAX_BITS // 4 + 3:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text, 16)


def _write_pairs(mapping: Any) -> Parts:
    return [part for pair in mapping.items() for part in pair]


def _pairs(parts: Parts) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _write_moment(moment: Any) -> Parts:
    if moment.tzinfo is not None and type(moment.tzinfo) is not dt.timezone:
        kind = type(moment.tzinfo)
        raise ItemUnpicklable(f"a time zone of {kind.__qualname__} cannot be stored: {_PLAIN_ONLY}")
    return [moment.replace(tzinfo=None, fold=0).isoformat(), moment.fold, moment.tzinfo]


def _moment_reader(kind: Any) -> Callable[[Parts], Any]:
    def read(parts: Parts) -> Any:
        text, fold, zone = parts
        return kind.fromisoformat(text).replace(fold=fold, tzinfo=zone)

    return read


def _write_zone(zone: dt.timezone) -> Parts:
    # Its name, if it has one, is the second argument that it was made with.
    return list(zone.__getinitargs__())  # type: ignore[attr-defined]


def _read_deque(parts: Parts) -> Any:
    return collections.deque(parts[1:], parts[0])


_WRITERS: dict[type, Callable[[Any], Parts]] = {
    int: _write_int,
    bytes: lambda data: [b64encode(data).decode()],
    bytearray: lambda data: [b64encode(data).decode()],
    complex: lambda number: [number.real, number.imag],
    tuple: list,
    list: list,
    set: list,
    frozenset: list,
    dict: _write_pairs,
    collections.OrderedDict: _write_pairs,
    collections.Counter: _write_pairs,
    collections.deque: lambda items: [items.maxlen, *items],
    range: lambda numbers: [numbers.start, numbers.stop, numbers.step],
    slice: lambda place: [place.start, place.stop, place.step],
    dt.date: lambda day: [day.isoformat()],
    dt.datetime: _write_moment,
    dt.time: _write_moment,
    dt.timedelta: lambda span: [span.days, span.seconds, span.microseconds],
    dt.timezone: _write_zone,
    decimal.Decimal: lambda number: [str(number)],
    fractions.Fraction: lambda number: [number.numerator, number.denominator],
    uuid.UUID: lambda number: [number.hex],
}
_READERS: dict[str, Callable[[Parts], Any]] = {
    "int": _read_int,
    "bytes": lambda parts: b64decode(parts[0], validate=True),
    "bytearray": lambda parts: bytearray(b64decode(parts[0], validate=True)),
    "complex": lambda parts: complex(*parts),
    "tuple": tuple,
    "list": list,
    "set": set,
    "frozenset": frozenset,
    "dict": _pairs,
    "OrderedDict": lambda parts: collections.OrderedDict(_pairs(parts)),
    "Counter": lambda parts: collections.Counter(_pairs(parts)),
    "deque": _read_deque,
    "range": lambda parts: range(*parts),
    "slice": lambda parts: slice(*parts),
    "date": lambda parts: dt.date.fromisoformat(*parts),
    "datetime": _moment_reader(dt.datetime),
    "time": _moment_reader(dt.time),
    "timedelta": lambda parts: dt.timedelta(*parts),
    "timezone": lambda parts: dt.timezone(*parts),
    "Decimal": lambda parts: decimal.Decimal(*parts),
    "Fraction": lambda parts: fractions.Fraction(*(_whole(part) for part in parts)),
    "UUID": lambda parts: uuid.UUID(*parts),
}


def _whole(part: Any) -> int:
    # Of a text such as "1e30000000" a fraction would be made that takes a minute.
    if type(part) is not int:
        raise TypeError(f"a part of a fraction is {part!r}")
    return part
