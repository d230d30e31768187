"""How functions, and classes of ``__main__``, are sent to the workers.

A function goes by reference if a worker can import the same object, else by value
(cloudpickle): lambdas, closures, definitions of a notebook or a REPL, and all of ``__main__`` where
workers do not have it.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from _blake2 import blake2b  # hashlib would load OpenSSL

from garrison import _pickling
from garrison._pickling import found_by_name
from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _pickling_rules
from garrison.pool._definitions import Definitions
from garrison.pool._function_globals import BytesPickled, SharedNamespaces
from garrison.pool._unchanging import Unchanging
from garrison.pool._worker_namespaces import NONE
from garrison.supervisor import imported_main, is_importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from garrison import _core
    from garrison.pool._worker_namespaces import NamespaceRef

    class FunctionStore(Protocol):
        """Where the workers find functions: the core's `Parent`, or what a cluster has for it."""

        def add_function(self, number: int, pickled: bytes) -> None:
            """Make a function known under a number."""

        def forget_function(self, number: int) -> None:
            """Let a function go once its last task is over."""


__all__ = ["FunctionRegistry", "WorkerImports", "dumps_at_start"]

IMPORTABLE_TYPES = (types.FunctionType, type)

MAINS = frozenset({"__main__", "__mp_main__"})


class WorkerImports:
    """Which functions and classes workers can import.

    Forked workers have a copy of ``__main__``. Others import it (`imported_main`), or do not have
    it. A module that was loaded from a file, and that no import finds, exists in forked workers
    only. Workers of other programs, perhaps on other machines, have nothing of ``__main__``.
    """

    def __init__(self, *, fork: bool, elsewhere: bool = False) -> None:
        self.shared: set[str] = set() if elsewhere else {"__main__"}
        """Modules of functions by value that share a namespace: a copy of the module at first."""
        self.main = None if fork or elsewhere else imported_main()
        """The main module, if workers import it."""
        self.namespaces = SharedNamespaces(self)
        self.globals_pickled = BytesPickled()
        self.descriptors = _pickling.Kept()
        """Descriptors that functions refer to: any number of workers may receive one."""
        self._refs: dict[str, weakref.ref[Any]] = {}
        self._importable: dict[str, bool] = {}
        self._last_copied = _last_loaded() if fork else None
        if fork:
            for name, value in _of_main():
                self._refs[name] = weakref.ref(value)
        if "__main__" in sys.modules:
            self.namespaces.of(vars(sys.modules["__main__"]))

    def has(self, value: Any) -> bool:
        """Whether a worker finds this object by its name."""
        if value.__module__ not in MAINS:
            return found_by_name(value) and self.finds(value.__module__)
        if self.main is not None:
            return found_by_name(value) and self.main.defines(value)
        outer = value.__qualname__.partition(".")[0]
        found = self._refs.get(outer)
        still = getattr(sys.modules["__main__"], outer, None)
        return found is not None and found() is still and found_by_name(value)

    def namespace_of(self, initializer: Any, *, fork: bool) -> NamespaceRef | None:
        """Return the namespace of an initializer's globals, which functions by value share."""
        while isinstance(initializer, functools.partial):
            initializer = initializer.func
        module = getattr(initializer, "__module__", None)
        if module in sys.modules and module not in MAINS and self.finds(module):
            self.shared.add(module)
        there = vars(sys.modules[module]) if module in sys.modules else {}
        names = getattr(initializer, "__globals__", there)
        found = self.namespaces.of(names)
        if found is None or (found.key[0] in MAINS and found.key[1] != NONE):
            return None
        if fork:
            self._track_classes(names)
        return found.key, names if fork else None

    def _track_classes(self, names: dict[str, Any]) -> None:
        """Make forked workers recognize classes of a namespace that come by value."""
        classes = [value for value in names.values() if isinstance(value, type)]
        if classes:
            from cloudpickle.cloudpickle import _get_or_create_tracker_id

            for value in classes:
                if not self.has(value):
                    _get_or_create_tracker_id(value)

    def finds(self, module: str) -> bool:
        """Whether a worker finds this module by its name."""
        if module in MAINS:
            return False
        found = self._importable.get(module)
        if found is None:
            copied = self._last_copied is not None and _was_loaded(module, self._last_copied)
            found = self._importable[module] = copied or is_importable(module)
        return found


def _last_loaded() -> tuple[str, Any]:
    """Return the module that was loaded last: those before it are in a forked worker as well.

    A copy of all names would touch, and so copy, a hundred pages for each pool.
    """
    return next(reversed(sys.modules.items()))


def _was_loaded(module: str, last: tuple[str, Any]) -> bool:
    """Whether a module was loaded when `last` was the last one. False if `last` was removed."""
    if _last_loaded() == last:
        return module in sys.modules
    name, loaded = last
    names = list(sys.modules)
    there = module in names and sys.modules.get(name) is loaded
    return there and names.index(module) <= names.index(name)


def _of_main() -> Iterator[tuple[str, Any]]:
    main = sys.modules.get("__main__")
    for name, value in list(vars(main).items()) if main else ():
        if isinstance(value, IMPORTABLE_TYPES) and value.__module__ in MAINS:
            yield name, value


def dumps_at_start(value: object, imports: WorkerImports, where: str) -> bytes:
    """Pickle the start arguments of a process; locks, queues and connections may be in them."""
    return _pickling_rules.dumps_to_workers(value, _pickling_rules.rules_of(imports), where)


# --- The parent's registry --------------------------------------------------------------------


class FunctionRegistry:
    """Functions by number: each is sent to a worker once.

    A plain importable function is recognized by its identity. Any other is pickled at each use and
    recognized by its digest, unless nothing that it refers to has changed.
    """

    MAX_FUNCTIONS = 512
    """The most functions that are kept for their next use."""
    MAX_BYTES = 64 << 20
    """Size of all their pickles."""

    def __init__(
        self, parent: _core.Parent | FunctionStore, *, fork: bool, elsewhere: bool = False
    ) -> None:
        self._parent = parent
        self.imports = WorkerImports(fork=fork, elsewhere=elsewhere)
        self._rules = rules = _pickling_rules.rules_of(self.imports)
        # Definitions lie in memory that workers of other machines do not have.
        memory: Any = None if elsewhere else parent
        self.definitions = Definitions(
            memory, self.imports.has, lambda obj, first: _pickling.dumps(obj, rules, first)
        )
        self.rules = _pickling_rules.rules_of(self.imports, definitions=self.definitions)
        """For arguments; a function contains its own definitions."""
        self._next = 0
        self.plain: dict[int, tuple[Any, int]] = {}
        """Functions with a pickle that cannot change, by identity."""
        self._by_policy: dict[tuple[Any, ...], dict[int, tuple[Any, int]]] = {}
        """The same, of functions with a policy."""
        self._unchanged: dict[int, tuple[weakref.ref[Any], Unchanging, int]] = {}
        """Functions by value with the pickle of their last use, by identity."""
        self._by_digest: dict[bytes, int] = {}
        self._sizes: dict[int, int] = {}
        self._cached_by_workers: set[int] = set()
        self._names: dict[int, str] = {}

    def number(self, function: Callable[..., Any], retry_policy: tuple[Any, ...] = ()) -> int:
        """Return the number of `function`; `policy` says when it is retried."""
        self.definitions.call += 1
        known = self.plain if not retry_policy else self._by_policy.get(retry_policy, {})
        found = known.get(id(function))
        if found is not None and found[0] is function:
            return found[1]
        if not retry_policy:
            last = self._unchanged.get(id(function))
            if last is not None and last[0]() is function and last[1].holds():
                return last[2]
        number = self._register(function, retry_policy)
        if type(function) in _pickling_rules.PLAIN_TYPES:
            if not retry_policy:
                self._recognize(function, number)
            elif self.imports.has(function):
                self._by_policy.setdefault(retry_policy, {})[id(function)] = function, number
        return number

    def _recognize(self, function: Any, number: int) -> None:
        """Remember a function, if that is safe, so that its next use needs no pickle."""
        key, unchanged = id(function), self._unchanged
        if self.imports.has(function):
            self.plain[key] = (function, number)
        elif (found := Unchanging.of(function, self.imports)) is not None:
            unchanged[key] = (
                weakref.ref(function, lambda _: unchanged.pop(key, None)),
                found,
                number,
            )

    def pickled(self, function: Callable[..., Any]) -> bytes:
        """Return the function's pickle, to be sent by other means."""
        return self._pickle(function, function)

    def dumps_at_start(self, value: object) -> bytes:
        """Pickle the start arguments of a worker."""
        return dumps_at_start(value, self.imports, "the arguments of the initializer")

    def size(self, number: int) -> int:
        """Return the size of a function's pickle if workers unpickle it each time; else 0."""
        return 0 if number in self._cached_by_workers else self._sizes.get(number, 0)

    def name(self, number: int) -> str:
        """Return the function's name, for messages."""
        return self._names.get(number, "a function")

    def _register(self, function: Callable[..., Any], retry_policy: tuple[Any, ...]) -> int:
        value = (function, *retry_policy) if retry_policy else function
        before = self.imports.globals_pickled.bytes
        pickled = self._pickle(value, function)
        own_size = len(pickled) - (self.imports.globals_pickled.bytes - before)
        digest = blake2b(pickled, digest_size=16).digest()
        number = self._by_digest.get(digest)
        if number is None:
            self._next += 1
            number = self._next
            self._parent.add_function(number, pickled)
            self._by_digest[digest] = number
            self._sizes[number] = len(pickled)
            if (
                type(function) in _pickling_rules.PLAIN_TYPES
                and own_size <= _pickling_rules.MAX_CACHED_FUNCTION
            ):
                self._cached_by_workers.add(number)
            self._names[number] = _name(function)
            self._forget_some()
        return number

    def _pickle(self, value: object, function: Callable[..., Any]) -> bytes:
        where, first = f"function {_name(function)}", self.imports.descriptors.first()
        return _pickling_rules.dumps_to_workers(value, self._rules, where, first)

    def _forget_some(self) -> None:
        """Forget the oldest functions; the core keeps those in use until their tasks are over."""
        while len(self._by_digest) > self.MAX_FUNCTIONS or (
            len(self._by_digest) > 1 and sum(self._sizes.values()) > self.MAX_BYTES
        ):
            digest = next(iter(self._by_digest))
            number = self._by_digest.pop(digest)
            del self._sizes[number]
            self._cached_by_workers.discard(number)
            for known in (self.plain, *self._by_policy.values()):
                for key in [k for k, found in known.items() if found[1] == number]:
                    del known[key]
            for key in [k for k, found in self._unchanged.items() if found[2] == number]:
                del self._unchanged[key]
            self._names.pop(number, None)
            self._parent.forget_function(number)


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name if module in (None, "builtins", "__main__") else f"{module}.{name}"
