"""How functions, and classes of ``__main__``, get to the workers.

By reference if a worker can import the very same object, else by value (cloudpickle): lambdas,
closures, what a notebook or a REPL defines, and all of ``__main__`` where workers do not have it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import pickle
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

from garrison.supervisor._main_module import imported_main, is_importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison import _core

__all__ = ["IMPORTABLE", "PLAIN", "Known", "Registry", "load_function", "remember_module"]

IMPORTABLE = (types.FunctionType, type)
PLAIN = (types.FunctionType, types.BuiltinFunctionType, type)

MAINS = frozenset({"__main__", "__mp_main__"})
LARGEST_KEPT = 1 << 20
"""Bytes of a pickled function that a worker keeps; a larger one is loaded for each cell."""


class Known:
    """Which functions and classes the workers find by their names.

    Forked workers have ``__main__`` as it was. Others import it (`imported_main`), or have nothing
    of it. A module that was loaded from a file, and that no import finds, is had by forked workers
    only.
    """

    def __init__(self, *, fork: bool) -> None:
        self.shared = {"__main__"}
        """Modules whose functions by value share the module's namespace in a worker."""
        self.main = None if fork else imported_main()
        """The main module, if workers import it."""
        self._refs: dict[str, weakref.ref[Any]] = {}
        self._importable: dict[str, bool] = dict.fromkeys(sys.modules, True) if fork else {}
        if fork:
            for name, value in _of_main():
                self._refs[name] = weakref.ref(value)

    def has(self, value: Any) -> bool:
        """Whether a worker finds this very object by its name."""
        if value.__module__ not in MAINS:
            return _found_by_name(value) and self._finds(value.__module__)
        if self.main is not None:
            return _found_by_name(value) and self.main.defines(value)
        outer = value.__qualname__.partition(".")[0]
        known = self._refs.get(outer)
        still = getattr(sys.modules["__main__"], outer, None)
        return known is not None and known() is still and _found_by_name(value)

    def _finds(self, module: str) -> bool:
        found = self._importable.get(module)
        if found is None:
            found = self._importable[module] = is_importable(module)
        return found


def _of_main() -> Iterator[tuple[str, Any]]:
    main = sys.modules.get("__main__")
    for name, value in list(vars(main).items()) if main else ():
        if isinstance(value, IMPORTABLE) and value.__module__ in MAINS:
            yield name, value


def _found_by_name(value: Any) -> bool:
    module = sys.modules.get(value.__module__)
    found: Any = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value and module is not None


# --- Namespaces that functions by value share in a worker -------------------------------------


class Namespace:
    """A module as functions by value see it in a worker.

    It begins as the module is, and gets what comes from the parent, in a dict of its own: functions
    by reference keep seeing the module itself, whatever lambdas have passed through this worker.
    What this process has set since, in the module or through a function by value, stays. Names
    that the module here does not have, it gets: results that are instances of a class of a
    ``__main__`` without a guard are pickled by that name.
    """

    def __init__(self, real: dict[str, Any], before: dict[str, Any]) -> None:
        self._real, self._seen = real, before
        self.names = dict(before)
        self.shipped = dict(before)
        self._added: set[str] = set()

    def refresh(self) -> None:
        """Take over what this process has set in the module since the last look."""
        for name, value in list(self._real.items()):
            if self._seen.get(name, self) is not value:
                self.names[name] = self._seen[name] = value

    def ship(self, values: dict[str, Any]) -> None:
        """Take over the parent's values, but for names that this process has set itself."""
        for name, value in values.items():
            if name not in self.names or self.names[name] is self.shipped.get(name, self):
                self.names[name] = self.shipped[name] = value
                if name not in self._real or name in self._added:
                    self._added.add(name)
                    self._real[name] = self._seen[name] = value


_before: dict[str, dict[str, Any]] = {}
_namespaces: dict[str, Namespace] = {}


def remember_module(module: str) -> None:
    """Note what a module holds before any code of the user has run in this worker."""
    if module == "__main__" and sys.modules[module].__name__ == "__mp_main__":
        # Functions by value have the module itself; and it ends when the interpreter ends.
        return
    _before[module] = dict(_names_of(module))


def _names_of(module: str) -> dict[str, Any]:
    return vars(importlib.import_module(module))


def shared_names(module: str) -> dict[str, Any]:
    """Return the globals of a module's functions by value."""
    if module not in _namespaces:
        real = _names_of(module)
        _namespaces[module] = Namespace(real, _before.get(module) or dict(real))
    namespace = _namespaces[module]
    namespace.refresh()
    return namespace.names


_own: dict[str, dict[str, Any]] = {}
_shipped: dict[int, dict[str, Any]] = {}


def own_names(module: str) -> dict[str, Any]:
    """Return a module's namespace itself, for functions by value of a module that is imported."""
    if module not in _own:
        _own[module] = _own_names(vars(sys.modules[module]))
        _shipped[id(_own[module])] = {}
    return _own[module]


def _own_names(names: dict[str, Any]) -> dict[str, Any]:
    """Find the namespace that the functions of an imported main module live in.

    The standard library runs the module's code in a namespace, and then copies that.
    """
    for value in names.values():
        for each in (value, *(vars(value).values() if isinstance(value, type) else ())):
            if isinstance(each, types.FunctionType) and each.__module__ == "__mp_main__":
                lives_in = each.__globals__
                if lives_in.get("__name__") == "__mp_main__":
                    return lives_in
    return names


def ship(names: dict[str, Any], values: dict[str, Any]) -> bool:
    """Ship the parent's values into shared names; False if these are no shared ones."""
    for namespace in _namespaces.values():
        if namespace.names is names:
            namespace.ship(values)
            return True
    shipped = _shipped.get(id(names))
    if shipped is None:
        return False
    for name, value in values.items():
        if name not in names or names[name] is shipped.get(name, shipped):
            names[name] = shipped[name] = value
    return True


def load_function(pickled: bytes) -> Any:
    """Unpickle a function in a worker."""
    return pickle.loads(pickled)


def dumps_at_start(value: object, known: Known, where: str) -> bytes:
    """Pickle what a process gets at its start: locks, queues and connections may be in it."""
    from garrison.pool import _by_value

    return _by_value.dumps_to_workers(value, _by_value.rules_of(known), where)


# --- The parent's register --------------------------------------------------------------------


class Registry:
    """Functions that were sent: each travels to a worker once, by number.

    A plain importable function is known by its identity. Everything else is pickled at each
    use and known by its digest, since what it carries may have changed.
    """

    LIMIT = 512
    """Functions that are kept for the next use."""
    BYTES = 64 << 20
    """What their pickles may take together."""

    def __init__(self, parent: _core.Parent, *, fork: bool) -> None:
        from garrison.pool import _by_value

        self._parent = parent
        self.known = Known(fork=fork)
        self.rules = _by_value.rules_of(self.known)
        self._next = 0
        self.plain: dict[int, tuple[Any, int]] = {}
        """Functions whose pickle cannot change, by identity."""
        self._by_digest: dict[bytes, int] = {}
        self._sizes: dict[int, int] = {}
        self._kept: set[int] = set()
        self._names: dict[int, str] = {}

    def number(self, function: Callable[..., Any], plan: tuple[Any, ...] = ()) -> int:
        """Return the number under which workers know `function` (called as `plan` says)."""
        if not plan:
            found = self.plain.get(id(function))
            if found is not None and found[0] is function:
                return found[1]
        number = self._register(function, plan)
        if not plan and type(function) in PLAIN and self.known.has(function):
            self.plain[id(function)] = (function, number)
        return number

    def pickled(self, function: Callable[..., Any]) -> bytes:
        """Return the function's pickle, to be sent by other means."""
        return self._pickle(function, function)

    def dumps_at_start(self, value: object) -> bytes:
        """Pickle what a worker gets at its start."""
        return dumps_at_start(value, self.known, "the arguments of the initializer")

    def size(self, number: int) -> int:
        """Return how many bytes the function's pickle takes, if it must be unpickled each time."""
        return 0 if number in self._kept else self._sizes.get(number, 0)

    def name(self, number: int) -> str:
        """Return the function's name, for messages."""
        return self._names.get(number, "a function")

    def _register(self, function: Callable[..., Any], plan: tuple[Any, ...]) -> int:
        value = (function, *plan) if plan else function
        pickled = self._pickle(value, function)
        digest = hashlib.blake2b(pickled, digest_size=16).digest()
        number = self._by_digest.get(digest)
        if number is None:
            self._next += 1
            number = self._next
            self._parent.add_function(number, pickled)
            self._by_digest[digest] = number
            self._sizes[number] = len(pickled)
            if type(function) in PLAIN and len(pickled) <= LARGEST_KEPT:
                self._kept.add(number)
            self._names[number] = _name(function)
            self._forget_some()
        return number

    def _pickle(self, value: object, function: Callable[..., Any]) -> bytes:
        from garrison.pool import _by_value

        return _by_value.dumps_to_workers(value, self.rules, f"function {_name(function)}")

    def _forget_some(self) -> None:
        """Let the oldest functions go; those in use stay until their last task is over."""
        while len(self._by_digest) > self.LIMIT or (
            len(self._by_digest) > 1 and sum(self._sizes.values()) > self.BYTES
        ):
            digest = next(iter(self._by_digest))
            number = self._by_digest.pop(digest)
            del self._sizes[number]
            self._kept.discard(number)
            for key in [k for k, found in self.plain.items() if found[1] == number]:
                del self.plain[key]
            self._names.pop(number, None)
            self._parent.forget_function(number)


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name if module in (None, "builtins", "__main__") else f"{module}.{name}"
