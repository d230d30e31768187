"""Globals of functions by value, in a worker.

All functions by value that share a namespace in the parent share one here. A global is sent once,
and again when it has changed in the parent. Changes by a task or an initializer stay.
"""

from __future__ import annotations

import builtins
import importlib
import pickle
import sys
import types
from collections.abc import Callable, Iterable
from functools import partial

from garrison._typing import Any

__all__ = [
    "Entry",
    "Key",
    "NamespaceRef",
    "begin",
    "names_of",
    "note_user_code",
    "receive",
    "set_source",
    "set_state",
    "snapshot_module",
]

OWN, MODULE, NONE = range(3)
"""How a namespace relates to the worker's module of that name: it is the module's own, it begins as
a copy of it, or there is no such module."""
Key = tuple[str, int, int]
"""A module's name, one of OWN, MODULE and NONE, and a number for those of the same name."""
NamespaceRef = tuple[Key, "dict[str, Any] | None"]
"""A namespace, and its dict if this process has a copy of the parent's memory."""
Entry = tuple[Key, str, object, Any, bool]
"""Namespace, name, digest, the value (pickled if the digest is bytes), and whether it is still the
object that it was when the workers began."""


class Namespace:
    """A namespace as functions by value see it in this worker.

    A namespace that begins as a copy of a module has a dict of its own, so functions by reference
    keep seeing the module itself, whatever lambdas this worker has run. The module gets the names
    that it does not have: results that are instances of a class of a ``__main__`` without a guard
    are pickled by that name.
    """

    def __init__(self, names: dict[str, Any], real: dict[str, Any] | None = None) -> None:
        self.names = names
        self._real = real
        self._seen = dict(names) if real is not None else {}
        self._from_parent: dict[str, Any] = dict(self._seen)
        self._digests: dict[str, object] = {}
        self._added: set[str] = set()

    def refresh(self) -> None:
        """Copy the names that this process has set in the module since the last call."""
        for name, value in list((self._real or {}).items()):
            if self._seen.get(name, self) is not value:
                self.names[name] = self._seen[name] = value

    def receive(
        self, name: str, digest: object, load: Callable[[], Any], *, unchanged: bool
    ) -> None:
        """Set the parent's value if it is new, unless this process has set the name first."""
        if name not in self._digests:
            self._digests[name] = digest
            if self._is_set_here(name, unchanged=unchanged):
                return
        elif self._digests[name] == digest:
            return
        value = load()
        self._digests[name] = digest
        self.names[name] = self._from_parent[name] = value
        if self._real is not None and (name not in self._real or name in self._added):
            self._added.add(name)
            self._real[name] = self._seen[name] = value

    def _is_set_here(self, name: str, *, unchanged: bool) -> bool:
        """Whether code in this process has set a name, or may have changed its value."""
        if name not in self.names:
            return False
        return (unchanged and _user_code_ran) or self.names[name] is not self._from_parent.get(
            name, self
        )


_user_code_ran = False


def note_user_code() -> None:
    """Note that code of the user is about to run with a module's own globals."""
    global _user_code_ran  # noqa: PLW0603 - one per process
    _user_code_ran = True


_before: dict[str, dict[str, Any]] = {}
_namespaces: dict[Key, Namespace] = {}


def snapshot_module(module: str) -> None:
    """Copy a module's names before any code of the user runs in this worker."""
    if module == "__main__" and sys.modules[module].__name__ == "__mp_main__":
        # Functions by value use the module itself, which ends with the interpreter.
        return
    _before[module] = dict(_module_names(module))


def begin(namespace: NamespaceRef) -> None:
    """Copy a namespace before the initializer runs, whose globals functions by value share."""
    key, names = namespace
    if key[1] == MODULE:
        snapshot_module(key[0])
    elif names is not None:
        _namespaces[key] = Namespace(names)


def _module_names(module: str) -> dict[str, Any]:
    loaded = sys.modules.get(module)
    return vars(importlib.import_module(module) if loaded is None else loaded)


def names_of(key: Key) -> dict[str, Any]:
    """Return the globals of the functions by value of a namespace."""
    namespace = _namespaces.get(key)
    if namespace is None:
        namespace = _namespaces[key] = _new_namespace(*key)
    namespace.refresh()
    return namespace.names


def _new_namespace(module: str, kind: int, _number: int) -> Namespace:
    if kind == OWN:
        return Namespace(_own_names(vars(sys.modules[module])))
    if kind == MODULE:
        real = _module_names(module)
        return Namespace(dict(_before.get(module) or real), real)
    return Namespace({"__name__": module, "__builtins__": builtins})


def _own_names(names: dict[str, Any]) -> dict[str, Any]:
    """Find the namespace of the functions of an imported main module.

    The standard library runs the module's code in a namespace, and then copies that.
    """
    for value in names.values():
        for each in (value, *(vars(value).values() if isinstance(value, type) else ())):
            if isinstance(each, types.FunctionType) and each.__module__ == "__mp_main__":
                namespace = each.__globals__
                if namespace.get("__name__") == "__mp_main__":
                    return namespace
    return names


received = 0
"""Bytes of pickled globals received with functions so far."""


def receive(entries: Iterable[Entry]) -> None:
    """Set globals that were sent with a function."""
    global received  # noqa: PLW0603 - a counter
    for key, name, digest, value, unchanged in entries:
        names_of(key)
        # written by the parent
        load = pickle.loads if isinstance(digest, bytes) else _as_it_is
        if isinstance(digest, bytes):
            received += len(value)
        _namespaces[key].receive(name, digest, partial(load, value), unchanged=unchanged)


def _as_it_is(value: Any) -> Any:
    return value


def set_state(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    """Set a function's state as cloudpickle does, but replace globals only by new ones."""
    from cloudpickle.cloudpickle import _function_setstate

    own, entries, source = state
    receive(entries)
    _function_setstate(function, own)
    set_source(function, *source)


made = 0
"""Functions that were unpickled by value."""


def set_source(function: types.FunctionType, filename: str, lines: list[str] | None) -> None:
    """Make tracebacks show a function's file, and its lines if they are in no file."""
    global made  # noqa: PLW0603 - a counter
    made += 1
    function.__code__ = _with_filename(function.__code__, filename)
    if lines is None:
        return
    # Late, as its module loads `re`.
    import linecache

    if filename not in linecache.cache:
        # Without a modification time, linecache does not check the file.
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)


def _with_filename(code: types.CodeType, filename: str) -> types.CodeType:
    constants = tuple(
        _with_filename(each, filename) if isinstance(each, types.CodeType) else each
        for each in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)
