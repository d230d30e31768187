"""Globals of functions by value, in the parent: which of them go along, and as what.

Each global is a pickle of its own with a digest, so that a worker takes over what is new, and keeps
what its tasks have changed. A function among them brings its own globals, and so on.
"""

from __future__ import annotations

import os
import sys
import threading
import types
import weakref
from _blake2 import blake2b  # hashlib would load OpenSSL
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._worker_namespaces import MODULE, NONE, OWN, names_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.pool._function_registry import Known
    from garrison.pool._worker_namespaces import Entry, Key

__all__ = ["Bundle", "Globals", "Spaces", "source_of"]

_SCALARS = frozenset({int, float, complex, bool, type(None), str, bytes})
_SHORT = 100
"""Characters of a text that is its own digest."""
_MAINS = ("__main__", "__mp_main__")


class Globals(dict):  # type: ignore[type-arg]
    """Stands for a namespace in a pickle."""

    def __init__(self, key: Key, names: dict[str, Any]) -> None:
        super().__init__()
        self.key = key
        # Numbers only: a pool does not keep what the program lets go.
        self._then = {name: id(value) for name, value in names.items()}

    def is_old(self, name: str, value: Any) -> bool:
        """Whether a global is the object that it was at first."""
        return self._then.get(name) == id(value)

    def __reduce__(self) -> tuple[Callable[[Key], Any], tuple[Key]]:
        return names_of, (self.key,)


class Spaces:
    """The namespaces of functions by value that stay together in a worker."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._found: dict[int, tuple[Callable[[], Any], Globals | None]] = {}

    def of(self, names: dict[str, Any]) -> Globals | None:
        """Return what stands for a namespace, or None: then each function gets a copy of its own.

        That is so for lambdas of modules that a worker imports only if it must.
        """
        found = self._found.get(id(names))
        if found is None or found[0]() is not names:
            found = self._found[id(names)] = _reference(names), self._new(names)
        return found[1]

    def _new(self, names: dict[str, Any]) -> Globals | None:
        name = names.get("__name__")
        if not isinstance(name, str) or "__builtins__" not in names:
            return None
        if self._known.main is not None and self._known.main.owns(names):
            return Globals(("__main__", OWN, 0), names)
        module = sys.modules.get(name)
        if module is None or vars(module) is not names:
            return Globals((name, NONE, len(self._found) + 1), names)
        if name in self._known.shared and (name in _MAINS or self._known.finds(name)):
            return Globals((name, MODULE, 0), names)
        return None if self._known.finds(name) else Globals((name, NONE, 0), names)


def _reference(names: dict[str, Any]) -> Callable[[], Any]:
    """Refer to a namespace without keeping its module: what it holds is to end with the program."""
    module = sys.modules.get(names.get("__name__") or "")
    if module is None or vars(module) is not names:
        return lambda: names
    weak = weakref.ref(module)
    return lambda: vars(alive) if (alive := weak()) is not None else None


class Bundle:
    """What goes along with the functions by value of one message."""

    def __init__(self, known: Known, dumps: Callable[[object, Bundle], bytes]) -> None:
        self._known, self._dumps = known, dumps
        self._wanted: deque[tuple[Globals, str, Any]] = deque()
        self._taken: set[tuple[Key, str]] = set()
        self._gathering = False

    def entries(self, names: Globals, values: dict[str, Any]) -> list[Entry]:
        """Return the globals that a function needs, with all that these need, in loading order.

        Empty within the pickle of a global: what is needed there goes with the outer function.
        """
        for name, value in values.items():
            if (names.key, name) not in self._taken and self._goes(names, name):
                self._taken.add((names.key, name))
                self._wanted.append((names, name, value))
        if self._gathering:
            return []
        self._gathering = True
        try:
            return self._gather()
        finally:
            self._gathering = False

    def _goes(self, names: Globals, name: str) -> bool:
        return names.key[1] != OWN or self._known.main is None or not self._known.main.has(name)

    def _gather(self) -> list[Entry]:
        code: list[Entry] = []
        rest: list[Entry] = []
        while self._wanted:
            names, name, value = self._wanted.popleft()
            is_code = isinstance(value, (types.FunctionType, type, types.ModuleType))
            old = names.is_old(name, value)
            (code if is_code else rest).append((names.key, name, *self._describe(value), old))
        # What a value is made of may be needed to load it: it was found later.
        return [*code[::-1], *rest[::-1]]

    def _describe(self, value: Any) -> tuple[object, Any]:
        """Return a digest and what is sent: the value itself if it needs no pickle of its own."""
        kind = type(value)
        if kind in _SCALARS and (kind not in {str, bytes} or len(value) < _SHORT):
            return (kind.__name__, value), value
        if kind is types.ModuleType and self._known.finds(value.__name__):
            return ("module", value.__name__), value
        if kind in {types.FunctionType, type} and self._known.has(value):
            return ("name", value.__module__, value.__qualname__), value
        pickled = self._dumps(value, self)
        self._known.shipped.bytes += len(pickled)
        return blake2b(pickled, digest_size=16).digest(), pickled


class Shipped(threading.local):
    """How many bytes of globals this thread has pickled so far."""

    bytes = 0


def source_of(function: types.FunctionType) -> tuple[str, list[str] | None]:
    """Return a function's file, and the lines of what was typed, in a cell, and is in no file."""
    filename = function.__code__.co_filename
    if os.path.exists(filename):  # noqa: PTH110 - most often
        return filename, None
    # Late, as its module loads `re`.
    import linecache

    return filename, linecache.getlines(filename, function.__globals__) or None
