"""What is known of a failed call: which item, where, after how long. Made only when one fails.

This needs nothing of the core, as `call_runner` does not.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from itertools import islice

from garrison._typing import Any

__all__ = ["Facts", "add_note", "attributes_text", "describe", "describe_call"]

MAX_NOTES = 100
"""Notes on one exception; from then on the last one gives way to the next."""
MAX_TEXT = 60
"""Characters of an argument in a note."""
MOST = 6
"""Elements of a container, or attributes of an object, in a note."""
DEEPEST = 3


class Facts:
    """Facts of one failed call.

    Parameters
    ----------
    index : int or None
        Which item of the task it was; None for a single call.
    item : str
        A short description of the item, or of the arguments; empty if there is none.
    attempt : int
        Which attempt it was, from 1 on.
    worker : str
        The name of the process or thread.
    pid : int or None
        The process number of another process.
    duration : float
        Seconds that the attempt took; 0 if that is not known.
    """

    __slots__ = ("attempt", "duration", "index", "item", "pid", "worker")

    def __init__(
        self,
        index: int | None,
        item: str,
        attempt: int,
        worker: str,
        pid: int | None,
        duration: float,
    ) -> None:
        self.index: int | None = index
        self.item: str = item
        self.attempt: int = attempt
        self.worker: str = worker
        self.pid: int | None = pid
        self.duration: float = duration

    def as_tuple(self) -> tuple[Any, ...]:
        """Return plain values, of which this can be made again."""
        return self.index, self.item, self.attempt, self.worker, self.pid, self.duration

    @property
    def where(self) -> str:
        """The worker, with its process number."""
        return self.worker if self.pid is None else f"{self.worker} (pid {self.pid})"

    def add_note(self, error: BaseException, index: int | None) -> None:
        """Add the note to an exception, for the item with this index in the input."""
        add_note(error, self.note(index))

    def note(self, index: int | None) -> str:
        """Return the text of the note, for the item with this index in the input."""
        what = f"called with {self.item}" if self.item else "called"
        if index is not None:
            what = f"item {index}: {self.item}" if self.item else f"item {index}"
        lasted = f", after {self.duration:.3g} s" if self.duration else ""
        return f"{what}; attempt {self.attempt} in {self.where}{lasted}"


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception (PEP 678), once; before Python 3.11 its traceback shows it too."""
    try:
        notes: Any = getattr(error, "__notes__", ())
        if text in notes:
            return  # threads may raise the same object again
        if len(notes) >= MAX_NOTES:
            notes.pop()  # and again, for ever
        if hasattr(error, "add_note"):
            error.add_note(text)
            return
        error.__dict__.setdefault("__notes__", []).append(text)
        _add_to_remote_traceback(error, text)
    except Exception:  # noqa: S110 - a class of the user that allows no attributes: nothing is lost but the note
        pass


def _add_to_remote_traceback(error: BaseException, text: str) -> None:
    """Show a note where tracebacks know of none: below the worker's traceback."""
    for _ in range(100):
        cause = error.__cause__
        if cause is None:
            return
        error = cause
        if isinstance(getattr(error, "tb", None), str):
            error.tb = f"{error.tb}\n{text}"  # type: ignore[attr-defined] # a RemoteTraceback
            return


# --- A repr that runs no code of the user -----------------------------------------------------


def describe(value: object, limit: int = MAX_TEXT) -> str:
    """Return a short repr of any object. It runs no code of the user, so it cannot fail or hang.

    Examples
    --------
    >>> describe([1, "two", 3.0])
    "[1, 'two', 3.0]"
    >>> describe("x" * 100, 20)
    "'xxxxxxxxxxxxxxxx..."
    """
    try:
        text = _text(value, limit, DEEPEST)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def describe_call(args: Any, kwds: dict[str, Any]) -> str:
    """Return a short repr of the arguments of a call.

    Examples
    --------
    >>> describe_call((1, [2]), {"base": 3})
    '(1, [2], base=3)'
    """
    known = type(args) in (tuple, list)
    texts = [describe(each) for each in args[:MOST]] if known else ["..."]
    texts += [f"{key}={describe(each)}" for key, each in _first(kwds.items())]
    return f"({', '.join(texts)})"


def _text(value: Any, limit: int, depth: int) -> str:
    kind = type(value)
    by_type = _BY_TYPE.get(kind)
    if by_type is not None:
        return by_type(value, limit, depth)
    if (kind.__module__, kind.__qualname__) in _SHAPED:
        name = "array" if kind.__name__ == "ndarray" else kind.__name__
        return f"<{name} of shape {tuple(value.shape)}>"
    if kind.__module__ in _SHORT_REPRS:
        return repr(value)
    return _object(value, kind, limit, depth)


def _plain(value: Any, _limit: int, _depth: int) -> str:
    return repr(value)


def _int(value: int, limit: int, _depth: int) -> str:
    bits = value.bit_length()
    return f"<int of {bits} bits>" if bits > 4 * limit else repr(value)


def _text_or_bytes(value: Any, limit: int, _depth: int) -> str:
    return repr(value[: limit + 1])


def _function(value: Any, _limit: int, _depth: int) -> str:
    return str(value.__qualname__)


def _elements(first: str, last: str) -> Callable[[Any, int, int], str]:
    def text(value: Any, limit: int, depth: int) -> str:
        if depth == 0:
            return "..."
        parts = [_text(each, limit, depth - 1) for each in _first(value)]
        more = ", ..." if len(value) > MOST else ""
        return f"{first}{', '.join(parts)}{more}{last}"

    return text


def _tuple(value: Any, limit: int, depth: int) -> str:
    text = _elements("(", ")")(value, limit, depth)
    return f"{text[:-1]},)" if len(value) == 1 and depth else text


def _dict(value: Any, limit: int, depth: int) -> str:
    if depth == 0:
        return "..."
    parts = [
        f"{_text(key, limit, depth - 1)}: {_text(each, limit, depth - 1)}"
        for key, each in _first(value.items())
    ]
    return f"{{{', '.join(parts)}{', ...' if len(value) > MOST else ''}}}"


def _first(values: Iterable[Any]) -> list[Any]:
    return list(islice(values, MOST))


def _object(value: Any, kind: type, limit: int, depth: int) -> str:
    name = kind.__qualname__.rpartition("<locals>.")[2]
    if issubclass(kind, type):
        return str(type.__dict__["__qualname__"].__get__(value))
    if depth == 0:
        return f"{name}(...)"
    if issubclass(kind, tuple):
        return f"{name}{_tuple(tuple(tuple.__iter__(value)), limit, depth)}"
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return f"<{name}>"
    if "_name_" in attributes:  # an enum's member
        return f"{name}.{attributes['_name_']}"
    return attributes_text(name, attributes, limit, depth) if attributes else f"<{name}>"


def attributes_text(
    name: str, attributes: dict[Any, Any], limit: int = MAX_TEXT, depth: int = DEEPEST
) -> str:
    """Return an object's name with its first attributes."""
    shown = _first(attributes.items())
    parts = [f"{key}={_text(each, limit, depth - 1)}" for key, each in shown]
    return f"{name}({', '.join(parts)}{', ...' if len(attributes) > MOST else ''})"


_BY_TYPE: dict[Any, Callable[[Any, int, int], str]] = {
    **dict.fromkeys((float, complex, bool, type(None), type(Ellipsis), range), _plain),
    **dict.fromkeys((str, bytes, bytearray), _text_or_bytes),
    **dict.fromkeys((types.FunctionType, types.BuiltinFunctionType), _function),
    int: _int,
    list: _elements("[", "]"),
    tuple: _tuple,
    set: _elements("{", "}"),
    frozenset: _elements("frozenset({", "})"),
    dict: _dict,
}
_SHAPED = {
    ("numpy", "ndarray"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.series", "Series"),
}
"""Types whose parts are too large to be shown."""
_SHORT_REPRS = {
    *("datetime", "decimal", "fractions", "ipaddress", "numpy", "pathlib", "pathlib._local"),
    *("uuid", "garrison.pool._safe_repr"),
}
"""Modules whose objects have a short repr, which is not the user's code."""
