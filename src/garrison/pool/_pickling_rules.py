"""What is pickled by value for workers, and by workers.

Functions by value share their namespace in a worker, as they do in the parent: a task sees a global
that an initializer has set. See `_function_globals` and `_worker_namespaces`.
"""

from __future__ import annotations

import types
from functools import partial

from garrison import _pickling
from garrison._pickling import ByValue
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ArgumentUnpicklable
from garrison.pool._definitions import reference_of
from garrison.pool._function_globals import GlobalsBundle, NamespaceStandIn, source_of
from garrison.pool._worker_namespaces import set_state

if TYPE_CHECKING:
    from garrison._core import Rules
    from garrison.pool._definitions import Definitions
    from garrison.pool._function_registry import WorkerImports
    from garrison.pool._worker_namespaces import Entry

__all__ = [
    "MAX_CACHED_FUNCTION",
    "PLAIN_TYPES",
    "RESULTS",
    "dumps_to_workers",
    "rules_of",
    "unpicklable",
]

PLAIN_TYPES = (types.FunctionType, types.BuiltinFunctionType, type)
"""Types of functions without a state: a worker unpickles them once."""
MAX_CACHED_FUNCTION = 1 << 20
"""Bytes of a pickled function that a worker keeps loaded, without its globals; a larger one is
loaded for each cell."""


class _ToWorkers(ByValue):
    """Pickles by reference what the workers can import, and everything else by value."""

    def __init__(
        self,
        imports: WorkerImports,
        names: dict[Any, Any],
        bundle: GlobalsBundle | None,
        definitions: Definitions | None,
    ) -> None:
        super().__init__(imports.has, names)
        self._imports = imports
        self._definitions = definitions
        self._inside = bundle is not None
        self._bundle = bundle or GlobalsBundle(imports, partial(_dumps_part, imports))

    def _class(self, cls: type) -> Any:
        found = self._definitions.reference(cls) if self._definitions is not None else None
        return found or super()._class(cls)

    def _function(self, function: types.FunctionType) -> Any:
        found = self._definitions.reference(function) if self._definitions is not None else None
        return found or self._whole_function(function)

    def _whole_function(self, function: types.FunctionType) -> Any:
        names = self._imports.namespaces.of(function.__globals__)
        if names is not None:
            # All functions of such a namespace have one dict of globals in a worker.
            self.helper().globals_ref[id(function.__globals__)] = names
        reduced = super()._function(function)
        if reduced[5].__name__ != "_function_setstate":
            return reduced  # not one of cloudpickle's
        entries = self._entries(names, reduced[2][1]) if names is not None else []
        state = reduced[2], entries, source_of(function)
        return (*reduced[:2], state, None, None, set_state)

    def _entries(self, names: NamespaceStandIn, slots: dict[str, Any]) -> list[Entry]:
        values, slots["__globals__"] = slots["__globals__"], {}
        return self._bundle.entries(names, values)


def rules_of(
    imports: WorkerImports,
    bundle: GlobalsBundle | None = None,
    definitions: Definitions | None = None,
) -> Rules:
    """Return the rules for messages to workers."""
    return _pickling.make_rules(lambda names: _ToWorkers(imports, names, bundle, definitions))


def _dumps_part(imports: WorkerImports, value: object, bundle: GlobalsBundle) -> bytes:
    """Pickle a global of a function."""
    return _pickling.dumps(value, rules_of(imports, bundle), imports.descriptors.first())


def dumps_to_workers(
    value: object, rules: Rules, where: str, first: dict[type, Any] | None = None
) -> bytes:
    """Pickle a value; a failure names the path to the unpicklable part."""
    try:
        return _pickling.dumps(value, rules, first)
    except Exception as error:
        raise unpicklable(value, where, error, rules) from error


class _FromWorker(ByValue):
    """Classes by value; functions must be importable, except methods of such classes."""

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


def unpicklable(value: object, where: str, error: Exception, rules: Rules) -> Exception:
    """Return an error that names the path to the unpicklable part; a user's error gets a note."""
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
