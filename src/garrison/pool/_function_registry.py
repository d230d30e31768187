"""How functions, and classes of ``__main__``, get to the workers.

By reference if a worker can import the very same object, else by value (cloudpickle): lambdas,
closures, what a notebook or a REPL defines, and all of ``__main__`` where workers do not have it.
"""

from __future__ import annotations

import functools
import pickle
import sys
import types
import weakref
from _blake2 import blake2b  # hashlib would load OpenSSL

from garrison import _pickling
from garrison._pickling import found_by_name
from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._definitions import Definitions
from garrison.pool._function_globals import Shipped, Spaces
from garrison.pool._worker_namespaces import NONE
from garrison.supervisor import imported_main, is_importable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison import _core
    from garrison.pool._worker_namespaces import Home

__all__ = ["IMPORTABLE", "PLAIN", "Known", "NotCallable", "Registry", "load_function"]

IMPORTABLE = (types.FunctionType, type)
PLAIN = (types.FunctionType, types.BuiltinFunctionType, type)

MAINS = frozenset({"__main__", "__mp_main__"})
LARGEST_KEPT = 1 << 20
"""Bytes of a pickled function that a worker keeps, without its globals; a larger one is loaded for
each cell."""


class Known:
    """Which functions and classes the workers find by their names.

    Forked workers have ``__main__`` as it was. Others import it (`imported_main`), or have nothing
    of it. A module that was loaded from a file, and that no import finds, is had by forked workers
    only.
    """

    def __init__(self, *, fork: bool) -> None:
        self.shared = {"__main__"}
        """Modules whose functions by value share a namespace that begins as the module is."""
        self.main = None if fork else imported_main()
        """The main module, if workers import it."""
        self.spaces = Spaces(self)
        self.shipped = Shipped()
        self.descriptors = _pickling.Kept()
        """Those that functions lead to: any number of workers may receive one."""
        self._refs: dict[str, weakref.ref[Any]] = {}
        self._importable: dict[str, bool] = dict.fromkeys(sys.modules, True) if fork else {}
        if fork:
            for name, value in _of_main():
                self._refs[name] = weakref.ref(value)
        if "__main__" in sys.modules:
            self.spaces.of(vars(sys.modules["__main__"]))

    def has(self, value: Any) -> bool:
        """Whether a worker finds this very object by its name."""
        if value.__module__ not in MAINS:
            return found_by_name(value) and self.finds(value.__module__)
        if self.main is not None:
            return found_by_name(value) and self.main.defines(value)
        outer = value.__qualname__.partition(".")[0]
        known = self._refs.get(outer)
        still = getattr(sys.modules["__main__"], outer, None)
        return known is not None and known() is still and found_by_name(value)

    def home(self, initializer: Any, *, fork: bool) -> Home | None:
        """Return where an initializer's globals are: functions by value are to see them as well."""
        while isinstance(initializer, functools.partial):
            initializer = initializer.func
        module = getattr(initializer, "__module__", None)
        if module in sys.modules and module not in MAINS and self.finds(module):
            self.shared.add(module)
        there = vars(sys.modules[module]) if module in sys.modules else {}
        names = getattr(initializer, "__globals__", there)
        found = self.spaces.of(names)
        if found is None or (found.key[0] in MAINS and found.key[1] != NONE):
            return None
        if fork:
            self._track_classes(names)
        return found.key, names if fork else None

    def _track_classes(self, names: dict[str, Any]) -> None:
        """Have forked workers know classes of a namespace again when they come by value."""
        classes = [value for value in names.values() if isinstance(value, type)]
        if classes:
            from cloudpickle.cloudpickle import _get_or_create_tracker_id

            for value in classes:
                if not self.has(value):
                    _get_or_create_tracker_id(value)

    def finds(self, module: str) -> bool:
        """Whether a worker finds this module by its name."""
        found = self._importable.get(module)
        if found is None:
            found = self._importable[module] = is_importable(module)
        return found


def _of_main() -> Iterator[tuple[str, Any]]:
    main = sys.modules.get("__main__")
    for name, value in list(vars(main).items()) if main else ():
        if isinstance(value, IMPORTABLE) and value.__module__ in MAINS:
            yield name, value


class NotCallable:
    """Stands for a function that is none: a call that nobody asks about fails unseen."""

    def __init__(self, value: object) -> None:
        self._message = f"the first argument must be callable, not {value!r}"

    def __call__(self, *_args: Any, **_kwds: Any) -> Any:
        raise TypeError(self._message)


def load_function(pickled: bytes) -> Any:
    """Unpickle a function in a worker."""
    return pickle.loads(pickled)


def dumps_at_start(value: object, known: Known, where: str) -> bytes:
    """Pickle what a process gets at its start: locks, queues and connections may be in it."""
    from garrison.pool import _pickling_rules

    return _pickling_rules.dumps_to_workers(value, _pickling_rules.rules_of(known), where)


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
        from garrison.pool import _pickling_rules

        self._parent = parent
        self.known = Known(fork=fork)
        self._rules = rules = _pickling_rules.rules_of(self.known)
        self.definitions = Definitions(
            parent, self.known.has, lambda obj, first: _pickling.dumps(obj, rules, first)
        )
        self.rules = _pickling_rules.rules_of(self.known, definitions=self.definitions)
        """For arguments; functions carry what they need with them."""
        self._next = 0
        self.plain: dict[int, tuple[Any, int]] = {}
        """Functions whose pickle cannot change, by identity."""
        self._by_digest: dict[bytes, int] = {}
        self._sizes: dict[int, int] = {}
        self._kept: set[int] = set()
        self._names: dict[int, str] = {}

    def number(self, function: Callable[..., Any], plan: tuple[Any, ...] = ()) -> int:
        """Return the number under which workers know `function` (called as `plan` says)."""
        self.definitions.call += 1
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
        before = self.known.shipped.bytes
        pickled = self._pickle(value, function)
        own_size = len(pickled) - (self.known.shipped.bytes - before)
        digest = blake2b(pickled, digest_size=16).digest()
        number = self._by_digest.get(digest)
        if number is None:
            self._next += 1
            number = self._next
            self._parent.add_function(number, pickled)
            self._by_digest[digest] = number
            self._sizes[number] = len(pickled)
            if type(function) in PLAIN and own_size <= LARGEST_KEPT:
                self._kept.add(number)
            self._names[number] = _name(function)
            self._forget_some()
        return number

    def _pickle(self, value: object, function: Callable[..., Any]) -> bytes:
        from garrison.pool import _pickling_rules

        where, first = f"function {_name(function)}", self.known.descriptors.first()
        return _pickling_rules.dumps_to_workers(value, self._rules, where, first)

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
