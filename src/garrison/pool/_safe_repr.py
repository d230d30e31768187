"""Unpickling for a message, without running any code that the pickle names.

The arguments of a task that has killed its worker may kill any process that unpickles them. So each
class and function in them is replaced by a placeholder that only has a repr.
"""

from __future__ import annotations

import io
import pickle

from garrison._typing import Any

__all__ = ["unpickle_for_repr"]


class _PlaceholderObject:
    """A placeholder for an object that was never made."""

    _name = "?"

    def __init__(self, *args: Any, **kwds: Any) -> None:
        self._args, self._kwds = args, kwds

    def __setstate__(self, state: Any) -> None:
        """Accept any state, and ignore it."""

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
        parts = [repr(arg) for arg in self._args]
        parts += [f"{key}={value!r}" for key, value in self._kwds.items()]
        return f"{self._name}({', '.join(parts)})"


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

    Examples
    --------
    >>> import pickle
    >>> unpickle_for_repr(pickle.dumps([1, range(3)]))
    [1, range(0, 3, 1)]
    """
    return _Unpickler(io.BytesIO(data)).load()
