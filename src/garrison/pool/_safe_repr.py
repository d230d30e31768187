"""Unpickling for a message, without running any code that the pickle names.

The arguments of a task that has killed its worker may kill any process that unpickles them. So each
class and function in them is replaced by a placeholder that only has a repr.
"""

from __future__ import annotations

import io
import pickle
import types
from itertools import repeat

from garrison import _core, _pickling
from garrison._typing import Any
from garrison.pool import _facts
from garrison.pool._payload_kinds import PayloadKind

__all__ = [
    "describe_call",
    "describe_encoded",
    "describe_item",
    "facts_of_lost",
    "unpickle_for_repr",
]

MAX_REPR = 60
"""Characters of an argument's repr in a message."""
MAX_PAYLOAD = 1 << 20
"""Bytes of a pickle that is read for a message."""


class _PlaceholderObject:
    """A placeholder for an object that was never made."""

    _name = "?"
    _args: Any = ()  # most objects are made without `__init__`
    _kwds: Any = types.MappingProxyType({})
    _state: Any = None

    def __init__(self, *args: Any, **kwds: Any) -> None:
        self._args, self._kwds = args, kwds

    def __setstate__(self, state: Any) -> None:
        """Accept any state; attributes are shown."""
        self._state = state

    def append(self, item: Any) -> None:
        """Accept what is appended to a list, and ignore it."""

    def extend(self, items: Any) -> None:
        """Accept what is appended to a list, and ignore it."""

    def add(self, item: Any) -> None:
        """Accept what is added to a set, and ignore it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Accept an item of a dict, and ignore it."""

    def __call__(self, *args: Any, **kwds: Any) -> _PlaceholderObject:
        """Return a placeholder for what a function would return."""
        return type(self)(*args, **kwds)

    def __repr__(self) -> str:
        if self._name.startswith("numpy."):
            shape = self._shape()
            if shape is not None:
                return f"<array of shape {shape}>"
        if self._name.startswith("garrison."):
            return f"<{self._name.rpartition('.')[2]}>"
        if type(self._state) is dict and not self._args:
            return _facts.attributes_text(self._name, {**self._kwds, **self._state})
        return self._name + _facts.describe_call(self._args, self._kwds)

    def _shape(self) -> tuple[int, ...] | None:
        """The shape of an array, of which the pickle has it among its state or its arguments."""
        for part in (*(self._state if type(self._state) is tuple else ()), *self._args):
            if type(part) is tuple and part != (0,) and {*map(type, part)} <= {int}:
                return part
        return None


class _PlaceholderName(type):
    """The type of placeholders that were not called: they show their name only."""

    _name: str

    def __repr__(cls) -> str:
        return cls._name


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        shown = name if module in ("builtins", "__main__") else f"{module}.{name}"
        return _PlaceholderName("Placeholder", (_PlaceholderObject,), {"_name": shown})


def unpickle_for_repr(data: Any) -> Any:
    """Unpickle, with a placeholder for each object that is not of a builtin type.

    Buffers that are not in the pickle are empty.

    Examples
    --------
    >>> import pickle
    >>> unpickle_for_repr(pickle.dumps([1, range(3)]))
    [1, range(0, 3, 1)]
    """
    return _Unpickler(io.BytesIO(data), buffers=repeat(b"")).load()  # written by the program


def describe_call(name: str, kind: int, index: int, payload: Any) -> str:
    """Return the function's name and a short repr of the arguments of the item at work.

    Parameters
    ----------
    name : str
        The function's name.
    kind : int
        The `PayloadKind`.
    index : int
        Which item of a payload of several.
    payload : bytes-like
        As it is in the cell.
    """
    try:
        args, kwds = _arguments(kind, index, payload)
    except Exception:
        one = kind in {PayloadKind.CALL, PayloadKind.ARGS, PayloadKind.ONE_ITEM}
        return f"{name}(...)" if one else f"{name}(item {index})"
    return _call_text(name, args, kwds)


def describe_encoded(name: str, data: bytes) -> str:
    """As `describe_call`, of a pickle of the function, its arguments and its keywords."""
    try:
        _, args, kwds = unpickle_for_repr(data)
    except Exception:
        return f"{name}(...)"
    return _call_text(name, args, kwds)


def describe_encoded_item(data: bytes, *, single: bool, star: bool) -> str:
    """As `describe_item`, of a pickle of the function, its arguments and its keywords."""
    if len(data) > MAX_PAYLOAD:
        return ""
    try:
        _, args, kwds = unpickle_for_repr(data)
        if single:
            return _facts.describe_call(tuple(args), kwds)
        return _facts.describe(tuple(args) if star else args[0])
    except Exception:
        return ""


def _call_text(name: str, args: Any, kwds: dict[str, Any]) -> str:
    texts = [_pickling.short(arg, MAX_REPR) for arg in args]
    texts += [f"{key}={_pickling.short(arg, MAX_REPR)}" for key, arg in kwds.items()]
    return f"{name}({', '.join(texts)})"


_opened: tuple[object, Any] = None, None
"""A task, and its items: many of them may fail, and are described one by one."""


def describe_item(kind: int, index: int, payload: Any, task: object = None) -> str:
    """Return a short repr of the item at work, or of the arguments of a single call.

    With `task`, which is only this one's, the payload is kept for the next item of the same task.
    """
    global _opened  # noqa: PLW0603 - a worker is at one task at a time
    if len(payload) > MAX_PAYLOAD:
        return ""
    try:
        opened = _opened[1] if task is not None and task == _opened[0] else _open(kind, payload)
        _opened = (None, None) if task is None else (task, opened)
        args, kwds = _arguments_in(kind, index, opened)
        if kind in {PayloadKind.CALL, PayloadKind.ARGS}:
            return _facts.describe_call(tuple(args), kwds)
        return _facts.describe(tuple(args) if kind == PayloadKind.STAR_ITEMS else args[0])
    except Exception:
        return ""


def facts_of_lost(
    kind: int, index: int, payload: Any, exit_info: dict[str, Any], seconds: float
) -> _facts.Facts:
    """Return what is known of a call whose worker ended."""
    is_one = kind in {PayloadKind.CALL, PayloadKind.ARGS}
    item = "" if payload is None else describe_item(kind, index, payload)
    attempt = exit_info.get("attempt", 1)
    return _facts.Facts(
        None if is_one else index, item, attempt, "a worker", exit_info["pid"], seconds
    )


def _arguments(kind: int, index: int, payload: Any) -> tuple[Any, dict[str, Any]]:
    """Return the arguments of the call that a task was in, as objects that only have a repr."""
    return _arguments_in(kind, index, _open(kind, payload))


def _open(kind: int, payload: Any) -> Any:
    """Return the pickles of items, or what else a payload has, as objects that only have a repr."""
    return _core.split(payload) if kind == PayloadKind.PICKLED_ITEMS else unpickle_for_repr(payload)


def _arguments_in(kind: int, index: int, value: Any) -> tuple[Any, dict[str, Any]]:
    if kind == PayloadKind.PICKLED_ITEMS:
        return (unpickle_for_repr(value[index]),), {}
    if kind == PayloadKind.CALL:
        args, kwds = value
        return args, kwds
    if kind == PayloadKind.ARGS:
        return value, {}
    if kind == PayloadKind.ONE_ITEM:
        return (value,), {}
    return value[index] if kind == PayloadKind.STAR_ITEMS else (value[index],), {}
