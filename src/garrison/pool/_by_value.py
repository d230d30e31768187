"""What travels to and from workers by value, with ``__main__`` kept in one piece.

Functions by value share one namespace per worker, as they share ``__main__`` at home: a global that
an initializer sets is seen by the task that reads it. A value that comes from the parent replaces
only what came from the parent before.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from garrison import _pickling
from garrison._pickling import ByValue
from garrison.errors import ArgumentUnpicklable
from garrison.pool._functions import own_names, shared_names, ship

if TYPE_CHECKING:
    from garrison._core import Rules
    from garrison.pool._functions import Known

__all__ = ["RESULTS", "dumps_to_workers", "rules_of", "unpicklable"]


class _ToWorkers(ByValue):
    """By reference what the workers can import, by value the rest."""

    def __init__(self, known: Known, names: dict[Any, Any]) -> None:
        super().__init__(known.has, names)
        self._known = known
        self._shared: dict[int, _Globals] = {}

    def helper(self) -> Any:
        """Return cloudpickle's pickler, for which shared modules stand by their names."""
        if self._helper is None:
            helper = super().helper()
            for name in self._known.shared:
                # All functions of such a module find their globals in the worker's one namespace.
                module = sys.modules.get(name)
                if module is not None:
                    there = self._known.main is not None and name == "__main__"
                    names = self._shared[id(vars(module))] = _Globals(name, there=there)
                    helper.globals_ref[id(vars(module))] = names
        return self._helper

    def _function(self, function: types.FunctionType) -> Any:
        reduced = super()._function(function)
        if id(function.__globals__) in self._shared:
            return (*self._without_what_is_there(function, reduced)[:5], _set_function_state)
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


def rules_of(known: Known) -> Rules:
    """Return the rules for what is sent to workers."""
    return _pickling.make_rules(lambda names: _ToWorkers(known, names))


def dumps_to_workers(value: object, rules: Rules, where: str) -> bytes:
    """Pickle a value; a failure names the path to what cannot be sent."""
    try:
        return _pickling.dumps(value, rules)
    except Exception as error:
        raise unpicklable(value, where, error, rules) from error


class _FromWorker(ByValue):
    """Classes by value; functions must be importable, as elsewhere, but for a class's own."""

    def __init__(self, names: dict[Any, Any]) -> None:
        super().__init__(_pickling.found_by_name, names)
        self._functions_too = False

    def _class(self, cls: type) -> Any:
        self._functions_too = True
        return super()._class(cls)

    def _function(self, function: types.FunctionType) -> Any:
        return super()._function(function) if self._functions_too else NotImplemented


RESULTS = _pickling.make_rules(_FromWorker)
"""Rules for a worker's results, whose classes may have come by value."""


class _Globals(dict):  # type: ignore[type-arg]
    """Stands for a module's namespace in a pickle."""

    def __init__(self, module: str, *, there: bool) -> None:
        super().__init__()
        self._module, self._there = module, there

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return own_names if self._there else shared_names, (self._module,)


def _set_function_state(function: types.FunctionType, state: tuple[Any, dict[str, Any]]) -> None:
    """As cloudpickle's, but a global that this process has set itself stays what it is."""
    from cloudpickle.cloudpickle import _function_setstate

    attributes, slots = state
    if ship(function.__globals__, slots.get("__globals__", {})):
        slots = {**slots, "__globals__": {}}
    _function_setstate(function, (attributes, slots))


def unpicklable(value: object, where: str, error: Exception, rules: Rules) -> Exception:
    """Say what cannot be sent, with the path to it. A user's own exception stays what it is."""
    path, culprit = _pickling.find_culprit(value, where, rules)
    if not isinstance(error, _pickling.UNPICKLABLE):
        if hasattr(error, "add_note"):
            error.add_note(f"while pickling {path}")
        return error
    msg = (
        f"cannot send {path} to a worker: {_pickling.short(culprit)} ({error}); "
        "make it in the worker (see `initializer`), or send what it is made from"
    )
    return ArgumentUnpicklable(msg)
