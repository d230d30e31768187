"""What a pickle is about, for a message: read without running any code that it names.

The arguments of a task that has killed its worker may kill whoever unpickles them. So every class
and function in them is replaced by a stand-in that only has a repr.
"""

from __future__ import annotations

import io
import pickle

from garrison._typing import Any

__all__ = ["load"]


class _Portrait:
    """Stands for an object that was never made."""

    _name = "?"

    def __init__(self, *args: Any, **kwds: Any) -> None:
        self._args, self._kwds = args, kwds

    def __setstate__(self, state: Any) -> None:
        """Take any state for what it is: nothing that matters here."""

    def append(self, item: Any) -> None:
        """Be a list, if need be."""

    def extend(self, items: Any) -> None:
        """Be a list, if need be."""

    def add(self, item: Any) -> None:
        """Be a set, if need be."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Be a dict, if need be."""

    def __call__(self, *args: Any, **kwds: Any) -> _Portrait:
        """Be a function that returned something."""
        return type(self)(*args, **kwds)

    def __repr__(self) -> str:
        parts = [repr(arg) for arg in self._args]
        parts += [f"{key}={value!r}" for key, value in self._kwds.items()]
        return f"{self._name}({', '.join(parts)})"


class _Name(type):
    """A stand-in that was not called shows its name only."""

    _name: str

    def __repr__(cls) -> str:
        return cls._name


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        shown = name if module in ("builtins", "__main__") else f"{module}.{name}"
        return _Name("Portrait", (_Portrait,), {"_name": shown})


def load(data: Any) -> Any:
    """Read a pickle.

    Examples
    --------
    >>> import pickle
    >>> load(pickle.dumps([1, range(3)]))
    [1, range(0, 3, 1)]
    """
    return _Unpickler(io.BytesIO(data)).load()
