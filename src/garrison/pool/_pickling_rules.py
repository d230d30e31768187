"""What travels to and from workers by value, with ``__main__`` kept in one piece.

Functions by value share their namespace in a worker, as they do at home: a global that an
initializer sets is seen by the task that reads it. See `_globals` and `_namespaces`.
"""

from __future__ import annotations

import types
from functools import partial

from garrison import _pickling
from garrison._pickling import ByValue
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ArgumentUnpicklable
from garrison.pool._definitions import reference_of
from garrison.pool._function_globals import Bundle, Globals, source_of
from garrison.pool._worker_namespaces import receive, set_source

if TYPE_CHECKING:
    from garrison._core import Rules
    from garrison.pool._definitions import Definitions
    from garrison.pool._function_registry import Known
    from garrison.pool._worker_namespaces import Entry

__all__ = ["RESULTS", "dumps_to_workers", "rules_of", "unpicklable"]


class _ToWorkers(ByValue):
    """By reference what the workers can import, by value the rest."""

    def __init__(
        self,
        known: Known,
        names: dict[Any, Any],
        bundle: Bundle | None,
        definitions: Definitions | None,
    ) -> None:
        super().__init__(known.has, names)
        self._known = known
        self._definitions = definitions
        self._inside = bundle is not None
        self._bundle = bundle or Bundle(known, partial(_dumps_part, known))

    def _class(self, cls: type) -> Any:
        found = self._definitions.reference(cls) if self._definitions is not None else None
        return found or super()._class(cls)

    def _function(self, function: types.FunctionType) -> Any:
        found = self._definitions.reference(function) if self._definitions is not None else None
        return found or self._whole_function(function)

    def _whole_function(self, function: types.FunctionType) -> Any:
        names = self._known.spaces.of(function.__globals__)
        if names is not None:
            # All functions of such a namespace find their globals in the worker's one.
            self.helper().globals_ref[id(function.__globals__)] = names
        reduced = super()._function(function)
        if reduced[5].__name__ != "_function_setstate":
            return reduced  # not cloudpickle's
        entries = self._entries(names, reduced[2][1]) if names is not None else []
        state = reduced[2], entries, source_of(function)
        return (*reduced[:2], state, None, None, _set_state)

    def _entries(self, names: Globals, slots: dict[str, Any]) -> list[Entry]:
        values, slots["__globals__"] = slots["__globals__"], {}
        return self._bundle.entries(names, values)


def rules_of(
    known: Known, bundle: Bundle | None = None, definitions: Definitions | None = None
) -> Rules:
    """Return the rules for what is sent to workers."""
    return _pickling.make_rules(lambda names: _ToWorkers(known, names, bundle, definitions))


def _dumps_part(known: Known, value: object, bundle: Bundle) -> bytes:
    """Pickle a global of a function."""
    return _pickling.dumps(value, rules_of(known, bundle), known.descriptors.first())


def dumps_to_workers(
    value: object, rules: Rules, where: str, first: dict[type, Any] | None = None
) -> bytes:
    """Pickle a value; a failure names the path to what cannot be sent."""
    try:
        return _pickling.dumps(value, rules, first)
    except Exception as error:
        raise unpicklable(value, where, error, rules) from error


class _FromWorker(ByValue):
    """Classes by value; functions must be importable, as elsewhere, but for a class's own."""

    def __init__(self, names: dict[Any, Any]) -> None:
        super().__init__(_pickling.found_by_name, names)
        self._functions_too = False

    def _class(self, cls: type) -> Any:
        found = reference_of(cls)
        if found is not None:
            return found
        self._functions_too = True
        return super()._class(cls)

    def _function(self, function: types.FunctionType) -> Any:
        found = reference_of(function)
        if found is not None:
            return found
        return super()._function(function) if self._functions_too else NotImplemented


RESULTS = _pickling.make_rules(_FromWorker)
"""Rules for a worker's results, whose classes may have come by value."""


def _set_state(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    """As cloudpickle's, with globals that are taken over only if they are new."""
    from cloudpickle.cloudpickle import _function_setstate

    own, entries, source = state
    receive(entries)
    _function_setstate(function, own)
    set_source(function, *source)


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
