"""Unpickles plain values only, and calls nothing: for pickles from an unknown source.

A server without a key serves every program of its machine, and returns values that any of them
stored.
"""

from __future__ import annotations

import io
import pickle

from garrison._typing import Any
from garrison.errors import ValueUnreadable

__all__ = ["loads_plain_types"]

_ALLOWED_TYPES = {
    ("builtins", name)
    for name in ("bytearray", "complex", "frozenset", "range", "set", "slice", "tuple")
} | {
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("collections", "deque"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("uuid", "UUID"),
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED_TYPES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(
            f"it is or has a {module}.{name}, and a server without a key may have got that from "
            "any program on this machine; start the server with a key"
        )


def loads_plain_types(data: bytes) -> Any:
    """Rebuild a value of plain types.

    Raises
    ------
    ValueUnreadable
        If it is or has anything else.
    """
    try:
        return _RestrictedUnpickler(io.BytesIO(data)).load()
    except Exception as error:
        msg = f"a stored value is not unpickled: {error}"
        raise ValueUnreadable(msg) from error
