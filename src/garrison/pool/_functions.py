"""How functions, and classes of ``__main__``, get to the workers.

By reference if a worker can import the very same object, else by value (cloudpickle): lambdas,
closures, what a notebook or a REPL defines, and all of ``__main__`` where workers do not have it.

Functions by value share one namespace per worker, as they share ``__main__`` at home: a global that
an initializer sets is seen by the task that reads it. A value that comes from the parent replaces
only what came from the parent before.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import cloudpickle
from cloudpickle.cloudpickle import _function_setstate as _cloudpickle_set_state

from garrison.errors import ArgumentUnpicklable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison import _core

__all__ = ["Registry", "dumps_by_value", "dumps_with_classes", "load_function"]

_IMPORTABLE = (types.FunctionType, type)

MAIN = b"__main__"
"""A pickle with these bytes may refer to something that the workers do not have."""


class Known:
    """Which objects of ``__main__`` the workers have: those from before they were forked."""

    def __init__(self, *, fork: bool) -> None:
        self._refs: dict[str, weakref.ref[Any]] = {}
        if fork:
            main = sys.modules.get("__main__")
            for name, value in list(vars(main).items()) if main else ():
                if isinstance(value, _IMPORTABLE) and value.__module__ == "__main__":
                    self._refs[name] = weakref.ref(value)

    def all_of_main(self) -> bool:
        """Whether ``__main__`` has no function and no class that the workers lack."""
        for name, value in list(vars(sys.modules["__main__"]).items()):
            if isinstance(value, _IMPORTABLE) and value.__module__ == "__main__":
                ref = self._refs.get(name)
                if ref is None or ref() is not value:
                    return False
        return bool(self._refs)

    def has(self, value: Any) -> bool:
        """Whether a worker finds this very object by its name."""
        if value.__module__ != "__main__":
            return _found_by_name(value)
        outer = value.__qualname__.partition(".")[0]
        known = self._refs.get(outer)
        still = getattr(sys.modules["__main__"], outer, None)
        return known is not None and known() is still and _found_by_name(value)


def _found_by_name(value: Any) -> bool:
    module = sys.modules.get(value.__module__)
    found: Any = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value and module is not None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped
    """By reference what the workers can import, by value the rest."""

    def __init__(
        self, file: io.BytesIO, known: Known, keep: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._known = known
        main = sys.modules.get("__main__")
        if main is not None:
            # All functions of __main__ find their globals in the worker's one namespace.
            self.globals_ref[id(vars(main))] = _MainGlobals()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _IMPORTABLE) and self._known.has(obj):
            return NotImplemented
        reduced = super().reducer_override(obj)
        if isinstance(obj, types.FunctionType) and obj.__globals__ is _main_dict():
            return (*reduced[:5], _set_function_state)
        return reduced


class _ClassPickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped
    """Classes of ``__main__`` by value; functions must be importable, as elsewhere."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType):
            return NotImplemented
        return super().reducer_override(obj)


def dumps_with_classes(value: object) -> bytes:
    """Pickle a worker's result, whose classes may have come by value."""
    file = io.BytesIO()
    _ClassPickler(file, protocol=5).dump(value)
    return file.getvalue()


def dumps_by_value(
    value: object, known: Known, where: str, keep: Callable[..., Any] | None = None
) -> bytes:
    """Pickle with cloudpickle; a failure names the path to what cannot be sent."""
    file = io.BytesIO()
    try:
        _Pickler(file, known, keep).dump(value)
    except Exception as error:
        raise unpicklable(value, where, error, known) from error
    return file.getvalue()


# --- The namespace of __main__ in a worker ----------------------------------------------------

_shipped: dict[str, Any] = {}
"""What this worker's ``__main__`` has from the parent, by name."""


def remember_main() -> None:
    """Note what ``__main__`` holds before any code of the user has run in this worker."""
    _shipped.update(_main_dict())


def _main_dict() -> dict[str, Any]:
    return vars(sys.modules["__main__"])


class _MainGlobals(dict):  # type: ignore[type-arg]
    """Stands for the namespace of ``__main__`` in a pickle."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _main_dict, ()


def _set_function_state(function: types.FunctionType, state: tuple[Any, dict[str, Any]]) -> None:
    """As cloudpickle's, but a global that this process has set itself stays what it is."""
    attributes, slots = state
    namespace = function.__globals__
    for name, value in slots.get("__globals__", {}).items():
        if name not in namespace or namespace[name] is _shipped.get(name, namespace):
            namespace[name] = _shipped[name] = value
    _cloudpickle_set_state(function, (attributes, {**slots, "__globals__": {}}))


def load_function(pickled: bytes) -> Any:
    """Unpickle a function in a worker."""
    return pickle.loads(pickled)


# --- What cannot be pickled -------------------------------------------------------------------


def unpicklable(value: object, where: str, error: Exception, known: Known) -> Exception:
    """Say what cannot be sent, with the path to it. A user's own exception stays what it is."""
    path, culprit = _culprit(value, where, known)
    if not isinstance(error, (pickle.PicklingError, TypeError, AttributeError, RecursionError)):
        if hasattr(error, "add_note"):
            error.add_note(f"while pickling {path}")
        return error
    msg = (
        f"cannot send {path} to a worker: {_short(culprit)} ({error}); "
        "make it in the worker (see `initializer`), or send what it is made from"
    )
    return ArgumentUnpicklable(msg)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__qualname__} object>"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004


def _culprit(value: object, path: str, known: Known) -> tuple[str, object]:
    """Follow the first part that cannot be pickled, down to one whose parts all can."""
    for _ in range(20):
        for step, part in _parts(value):
            if not _picklable(part, known):
                path, value = path + step, part
                break
        else:
            break
    return path, value


def _picklable(value: object, known: Known) -> bool:
    try:
        _Pickler(io.BytesIO(), known).dump(value)
    except Exception:
        return False
    return True


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"[{_short(key)}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            yield f" closure variable {name!r}", cell.cell_contents
        for name in value.__code__.co_names:
            if name in value.__globals__:
                yield f" global {name!r}", value.__globals__[name]
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        yield from ((f".{name}", part) for name, part in vars(value).items())


# --- The parent's register --------------------------------------------------------------------


class Registry:
    """Functions that were sent: each travels to a worker once, by number.

    A plain importable function is known by its identity. Everything else is pickled at each
    use and known by its digest, since what it carries may have changed.
    """

    LIMIT = 512

    def __init__(self, parent: _core.Parent, *, fork: bool) -> None:
        self._parent = parent
        self.known = Known(fork=fork)
        self._next = 0
        self.plain: dict[int, tuple[Any, int]] = {}
        """Functions whose pickle cannot change, by identity."""
        self._by_digest: dict[bytes, int] = {}
        self._names: dict[int, str] = {}

    def number(self, function: Callable[..., Any], plan: tuple[Any, ...] = ()) -> int:
        """Return the number under which workers know `function` (called as `plan` says)."""
        if not plan:
            found = self.plain.get(id(function))
            if found is not None and found[0] is function:
                return found[1]
        number = self._register(function, plan)
        if not plan and type(function) in _PLAIN and self.known.has(function):
            self.plain[id(function)] = (function, number)
        return number

    def pickled(self, function: Callable[..., Any]) -> bytes:
        """Return the function's pickle, to be sent by other means."""
        return self._pickle(function, function)

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
            self._names[number] = _name(function)
            self._forget_some()
        return number

    def _pickle(self, value: object, function: Callable[..., Any]) -> bytes:
        where = f"function {_name(function)}"
        try:
            pickled = pickle.dumps(value, 5)
        except Exception:
            return dumps_by_value(value, self.known, where)
        if MAIN in pickled and not self.known.all_of_main():
            return dumps_by_value(value, self.known, where)
        return pickled

    def _forget_some(self) -> None:
        """Let the oldest functions go; those in use stay until their last task is over."""
        while len(self._by_digest) > self.LIMIT:
            digest = next(iter(self._by_digest))
            number = self._by_digest.pop(digest)
            for key in [k for k, found in self.plain.items() if found[1] == number]:
                del self.plain[key]
            self._names.pop(number, None)
            self._parent.forget_function(number)


_PLAIN = (types.FunctionType, types.BuiltinFunctionType, type)


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name if module in (None, "builtins", "__main__") else f"{module}.{name}"
