"""Pickling by value: cloudpickle, with ``__main__`` kept in one piece.

Functions by value share one namespace per worker, as they share ``__main__`` at home: a global that
an initializer sets is seen by the task that reads it. A value that comes from the parent replaces
only what came from the parent before.

Imported only where something must travel by value: cloudpickle takes longer to load than a pool
takes to start.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
from typing import TYPE_CHECKING, Any

import cloudpickle
from cloudpickle.cloudpickle import _function_setstate as _cloudpickle_set_state

from garrison.errors import ArgumentUnpicklable
from garrison.pool._functions import IMPORTABLE, own_names, shared_names, ship

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison.pool._functions import Known

__all__ = ["dumps_by_value", "dumps_with_classes", "unpicklable"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped
    """By reference what the workers can import, by value the rest."""

    def __init__(
        self, file: io.BytesIO, known: Known, keep: Callable[..., Any] | None = None
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._known = known
        self._shared = {}
        for name in known.shared:
            # All functions of such a module find their globals in the worker's one namespace.
            module = sys.modules.get(name)
            if module is not None:
                there = known.main is not None and name == "__main__"
                names = _Globals(name, there=there)
                self._shared[id(vars(module))] = self.globals_ref[id(vars(module))] = names

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, IMPORTABLE) and self._known.has(obj):
            return NotImplemented
        if isinstance(obj, _CACHED) and not self._known.has(obj):
            return functools.lru_cache(**obj.cache_parameters()), (obj.__wrapped__,)
        reduced = super().reducer_override(obj)
        if isinstance(obj, types.FunctionType) and id(obj.__globals__) in self._shared:
            return (*self._without_what_is_there(obj, reduced)[:5], _set_function_state)
        return reduced

    def _without_what_is_there(self, function: types.FunctionType, reduced: Any) -> Any:
        """Leave out globals that the worker has by importing the main module."""
        main = self._known.main
        if main is None or function.__globals__ is not main.names:
            return reduced
        attributes, slots = reduced[2]
        values = slots["__globals__"]
        missing = {name: value for name, value in values.items() if not main.has(name)}
        return (*reduced[:2], (attributes, {**slots, "__globals__": missing}), *reduced[3:])


_CACHED = type(functools.lru_cache(len))


class _ClassPickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped
    """Classes of ``__main__`` by value; functions must be importable, as elsewhere."""

    _functions_too = False

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType) and not self._functions_too:
            return NotImplemented
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and reduced is not NotImplemented:
            # From here on functions may be this class's own.
            self._functions_too = True
        return reduced


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


class _Globals(dict):  # type: ignore[type-arg]
    """Stands for a module's namespace in a pickle."""

    def __init__(self, module: str, *, there: bool) -> None:
        super().__init__()
        self._module, self._there = module, there

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return own_names if self._there else shared_names, (self._module,)


def _set_function_state(function: types.FunctionType, state: tuple[Any, dict[str, Any]]) -> None:
    """As cloudpickle's, but a global that this process has set itself stays what it is."""
    attributes, slots = state
    if ship(function.__globals__, slots.get("__globals__", {})):
        slots = {**slots, "__globals__": {}}
    _cloudpickle_set_state(function, (attributes, slots))


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
