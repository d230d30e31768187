"""Globals of functions by value, in the parent: which of them are sent, and how.

Each global is a separate pickle with a digest, so a worker sets new values only, and keeps values
that its tasks have set. A function among them brings its own globals, and so on.
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

    from garrison.pool._function_registry import WorkerImports
    from garrison.pool._worker_namespaces import Entry, Key

__all__ = ["GlobalsBundle", "NamespaceStandIn", "SharedNamespaces", "source_of"]

_SCALARS = frozenset({int, float, complex, bool, type(None), str, bytes})
_MAX_LITERAL = 100
"""The longest text that serves as its own digest."""
_MAINS = ("__main__", "__mp_main__")


class NamespaceStandIn(dict):  # type: ignore[type-arg]
    """Takes the place of a namespace in a pickle."""

    def __init__(self, key: Key, names: dict[str, Any]) -> None:
        super().__init__()
        self.key = key
        # Only the ids: a pool does not keep objects alive that the program drops.
        self._initial_ids = {name: id(value) for name, value in names.items()}

    def is_unchanged(self, name: str, value: Any) -> bool:
        """Whether a global is still the object that it was at first."""
        return self._initial_ids.get(name) == id(value)

    def __reduce__(self) -> tuple[Callable[[Key], Any], tuple[Key]]:
        return names_of, (self.key,)


class SharedNamespaces:
    """The namespaces that functions by value share in a worker."""

    def __init__(self, imports: WorkerImports) -> None:
        self._imports = imports
        self._found: dict[int, tuple[Callable[[], Any], NamespaceStandIn | None]] = {}

    def of(self, names: dict[str, Any]) -> NamespaceStandIn | None:
        """Return the stand-in of a namespace, or None: then each function gets a copy of its own.

        That is so for lambdas of modules that a worker imports only if it must.
        """
        found = self._found.get(id(names))
        if found is None or found[0]() is not names:
            found = self._found[id(names)] = _reference(names), self._new(names)
        return found[1]

    def _new(self, names: dict[str, Any]) -> NamespaceStandIn | None:
        name = names.get("__name__")
        if not isinstance(name, str) or "__builtins__" not in names:
            return None
        if self._imports.main is not None and self._imports.main.owns(names):
            return NamespaceStandIn(("__main__", OWN, 0), names)
        module = sys.modules.get(name)
        if module is None or vars(module) is not names:
            return NamespaceStandIn((name, NONE, len(self._found) + 1), names)
        if name in self._imports.shared and (name in _MAINS or self._imports.finds(name)):
            return NamespaceStandIn((name, MODULE, 0), names)
        return None if self._imports.finds(name) else NamespaceStandIn((name, NONE, 0), names)


def _reference(names: dict[str, Any]) -> Callable[[], Any]:
    """Refer weakly to a namespace, whose module must end with the program."""
    module = sys.modules.get(names.get("__name__") or "")
    if module is None or vars(module) is not names:
        return lambda: names
    weak = weakref.ref(module)
    return lambda: vars(alive) if (alive := weak()) is not None else None


class GlobalsBundle:
    """The globals that are sent with the functions by value of one message."""

    def __init__(
        self, imports: WorkerImports, dumps: Callable[[object, GlobalsBundle], bytes]
    ) -> None:
        self._imports, self._dumps = imports, dumps
        self._queue: deque[tuple[NamespaceStandIn, str, Any]] = deque()
        self._included: set[tuple[Key, str]] = set()
        self._gathering = False

    def entries(self, names: NamespaceStandIn, values: dict[str, Any]) -> list[Entry]:
        """Return the globals that a function needs, directly or indirectly, in loading order.

        Empty within the pickle of a global: its needs are sent with the outer function.
        """
        for name, value in values.items():
            if (names.key, name) not in self._included and self._is_sent(names, name):
                self._included.add((names.key, name))
                self._queue.append((names, name, value))
        if self._gathering:
            return []
        self._gathering = True
        try:
            return self._gather()
        finally:
            self._gathering = False

    def _is_sent(self, names: NamespaceStandIn, name: str) -> bool:
        return names.key[1] != OWN or self._imports.main is None or not self._imports.main.has(name)

    def _gather(self) -> list[Entry]:
        code: list[Entry] = []
        rest: list[Entry] = []
        while self._queue:
            names, name, value = self._queue.popleft()
            is_code = isinstance(value, (types.FunctionType, type, types.ModuleType))
            unchanged = names.is_unchanged(name, value)
            (code if is_code else rest).append((names.key, name, *self._describe(value), unchanged))
        # The references of a value are needed to load it, and were found later.
        return [*code[::-1], *rest[::-1]]

    def _describe(self, value: Any) -> tuple[object, Any]:
        """Return a digest and the pickle, or the value itself if it needs no pickle of its own."""
        kind = type(value)
        if kind in _SCALARS and (kind not in {str, bytes} or len(value) < _MAX_LITERAL):
            return (kind.__name__, value), value
        if kind is types.ModuleType and self._imports.finds(value.__name__):
            return ("module", value.__name__), value
        if kind in {types.FunctionType, type} and self._imports.has(value):
            return ("name", value.__module__, value.__qualname__), value
        pickled = self._dumps(value, self)
        self._imports.globals_pickled.bytes += len(pickled)
        return blake2b(pickled, digest_size=16).digest(), pickled


class BytesPickled(threading.local):
    """How many bytes of globals this thread has pickled so far."""

    bytes = 0


def source_of(function: types.FunctionType) -> tuple[str, list[str] | None]:
    """Return a function's file, and its source if there is no such file (a notebook's cell)."""
    filename = function.__code__.co_filename
    if os.path.exists(filename):  # noqa: PTH110 - most often
        return filename, None
    # Late, as its module loads `re`.
    import linecache

    return filename, linecache.getlines(filename, function.__globals__) or None
