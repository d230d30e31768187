"""Canonical bytes of keys: equal for objects that are one key in a dict.

The backend itself encodes plain numbers, strings, bytes, tuples and frozensets. Here is the rest:

- subclasses that compare as their base does, numbers of any type, ranges, moments in time, paths
- members of enums, instances of dataclasses with their generated ``__eq__``
- any other hashable object by its pickle, without a memo: equal states give equal bytes

No encoding can use the ``__eq__`` of a class (objects with different states are different keys), or
identity (objects with the same state are one key). NaN is equal to itself.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import io
import numbers
import pickle
import struct
from collections.abc import Callable
from fractions import Fraction

from garrison._typing import Any, ClassVar
from garrison.store.containers._base import Container

__all__ = ["canonical_key"]

PlainKey = Callable[[Any], bytes]
BASES: tuple[Any, ...] = (int, float, str, bytes, tuple, frozenset)


def canonical_key(obj: Any, plain: PlainKey) -> bytes:
    """Return the bytes of a key; `plain` encodes the types of the backend."""
    hash(obj)  # raises TypeError, as a dict does
    for base in BASES:
        if isinstance(obj, base) and _compares_as(base, type(obj)):
            return plain(base(obj))
    for kind, encode in _SPECIAL:
        if isinstance(obj, kind):
            found: bytes | None = encode(obj, plain)
            if found is not None:
                return found
    return _by_state(obj, plain)


def _compares_as(base: Any, kind: Any) -> bool:
    return kind.__eq__ is base.__eq__ and kind.__hash__ is base.__hash__


# --- Numbers ----------------------------------------------------------------------------------


def _number(obj: Any, plain: PlainKey) -> bytes | None:
    if isinstance(obj, numbers.Integral):
        return plain(int(obj))
    if isinstance(obj, numbers.Rational):
        return _rational(Fraction(int(obj.numerator), int(obj.denominator)), plain)
    if isinstance(obj, numbers.Real):
        return plain(float(obj))
    if isinstance(obj, numbers.Complex):
        number = complex(obj)
        if number.imag == 0:
            return plain(number.real)
        return b"c" + struct.pack("<dd", number.real + 0.0, number.imag + 0.0)
    return _decimal(obj, plain)


def _rational(number: Fraction, plain: PlainKey) -> bytes:
    if number.denominator == 1:
        return plain(number.numerator)
    try:
        rounded = float(number)
    except OverflowError:
        rounded = 0.0
    if Fraction(rounded) == number:
        return plain(rounded)
    return b"q" + plain((number.numerator, number.denominator))


def _decimal(number: Any, plain: PlainKey) -> bytes | None:
    if not hasattr(number, "as_integer_ratio"):
        return None
    if number.is_nan() or number.is_infinite():
        return plain(float(number))
    return _rational(Fraction(*number.as_integer_ratio()), plain)


# --- Other objects with a known equality ------------------------------------------------------


def _enum(obj: Any, plain: PlainKey) -> bytes | None:
    if not _compares_as(enum.Enum, type(obj)) and not isinstance(obj, enum.Flag):
        return None
    return b"e" + _tagged(obj, plain, obj._value_ if obj._name_ is None else obj._name_)


def _dataclass(obj: Any, plain: PlainKey) -> bytes | None:
    made = getattr(type(obj).__eq__, "__code__", None)
    if made is None or made.co_filename != "<string>" or not dataclasses.is_dataclass(obj):
        return None
    values = [getattr(obj, field.name) for field in dataclasses.fields(obj) if field.compare]
    return b"d" + _tagged(obj, plain, *values)


def _tagged(obj: Any, plain: PlainKey, *parts: Any) -> bytes:
    kind = type(obj)
    return plain((kind.__module__, kind.__qualname__, *parts))


def _range(obj: range, plain: PlainKey) -> bytes:
    count = len(obj)
    return b"r" + plain((count, obj.start if count else 0, obj.step if count > 1 else 0))


def _moment(obj: Any, plain: PlainKey) -> bytes | None:
    if type(obj) is dt.datetime and obj.utcoffset() is not None:
        obj = obj.astimezone(dt.timezone.utc)
    return _by_state(obj.replace(fold=0), plain) if hasattr(obj, "fold") else None


def _uuid(obj: Any, plain: PlainKey) -> bytes | None:
    kind = type(obj)
    if (kind.__module__, kind.__qualname__) != ("uuid", "UUID"):
        return None
    return b"u" + plain(obj.int)


def _path(obj: Any, plain: PlainKey) -> bytes | None:
    # By its name: few programs with a manager have paths for keys, and pathlib loads much.
    named = (each for each in type(obj).__mro__ if each.__name__ == "PurePath")
    kind: Any = next((each for each in named if each.__module__.startswith("pathlib")), None)
    if kind is None or not _compares_as(kind, type(obj)):
        return None
    # Two paths are equal by their meaning, which the pickled state does not show.
    is_windows = any(each.__name__ == "PureWindowsPath" for each in type(obj).__mro__)
    text = str(obj)
    return b"p" + plain((is_windows, text.lower() if is_windows else text))


def _numpy(obj: Any, plain: PlainKey) -> bytes | None:
    if not hasattr(obj, "dtype") or not hasattr(obj, "item"):
        return None
    item = obj.item()
    return plain(item) if type(item) in {bool, int, float, str, bytes} else None


def _face(obj: Container, plain: PlainKey) -> bytes:
    return b"o" + plain(obj.__garrison_container__())


_SPECIAL: list[tuple[Any, Any]] = [
    (enum.Enum, _enum),
    (numbers.Number, _number),
    (range, _range),
    ((dt.datetime, dt.time), _moment),
    (Container, _face),
    (object, _dataclass),
    (object, _uuid),
    (object, _path),
    (object, _numpy),
]


def _by_state(obj: Any, plain: PlainKey) -> bytes:
    try:
        state = _pickled(obj, pickle.Pickler)
        if any(mark in state for mark in SETS):
            # Perhaps by accident; then it is so for all that are equal.
            state = _pickled(obj, _sorting(plain))
    except (pickle.PicklingError, AttributeError, RecursionError, ValueError) as error:
        msg = (
            f"cannot use {type(obj).__qualname__!r} object as a key between processes: {error}; "
            "use a plain value that stands for it"
        )
        raise TypeError(msg) from error
    return b"p" + state


SETS = (pickle.EMPTY_SET, pickle.FROZENSET)


def _pickled(obj: Any, pickler: Any) -> bytes:
    file = io.BytesIO()
    writer = pickler(file, 5)
    writer.fast = True  # without a memo: an object that occurs twice is written twice
    writer.dump(obj)
    return file.getvalue()


def _sorting(plain: PlainKey) -> Any:
    """Return a pickler for objects with sets, whose order is another one in each process."""

    def save_sorted(self: Any, members: Any) -> None:
        self.save_tuple(tuple(sorted(plain(member) for member in members)))

    class Pickler(pickle._Pickler):  # only the one in Python can be extended
        dispatch: ClassVar[Any] = {
            **pickle._Pickler.dispatch,
            set: save_sorted,
            frozenset: save_sorted,
        }

    return Pickler
