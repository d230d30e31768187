"""Functions and classes that the receiver cannot import: by value, with cloudpickle.

cloudpickle is used for functions, classes and their parts only. It replaces other objects that
`pickle` refuses (an open file would arrive as text in memory).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import sys
import types
from collections.abc import Callable

from garrison._pickling._pickler import PARTS, make_rules
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison._core import Rules

__all__ = ["ByValue", "by_value", "found_by_name"]

_CACHED: Any = type(functools.lru_cache(len))
PARTS |= dict.fromkeys(
    (
        _CACHED,
        classmethod,
        property,
        staticmethod,
        types.CellType,
        types.CodeType,
        types.MappingProxyType,
        types.ModuleType,
    )
)
# More are added once cloudpickle is imported.
MADE_BY_A_STATEMENT = 1 << 9
"""Flag of types that are no constants of the interpreter or of an extension."""
MAINS = frozenset({"__main__", "__mp_main__"})
"""Names of the module whose definitions may change."""


def found_by_name(obj: Any) -> bool:
    """Whether an object is what its module has under its name in this process.

    An unloaded module may be importable by the receiver, as with any pickler.
    """
    name = obj.__module__
    found: Any = sys.modules.get(name)
    if found is None and isinstance(name, str) and name not in MAINS:
        with contextlib.suppress(Exception):
            found = importlib.import_module(name)
    if found is None:
        return False
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


class ByValue:
    """One pass over an object: functions and classes that the receiver does not have go by value.

    Parameters
    ----------
    has
        Whether the receiver finds this object by its name.
    names
        Receives objects that will always be found.
    """

    def __init__(self, has: Callable[[Any], bool], names: dict[Any, Any]) -> None:
        self._has = has
        self._names = names
        self._helper: Any = None
        self._inside = False
        """Whether this may be a part of a function or class; otherwise `pickle` decides."""

    def __call__(self, obj: Any) -> Any:
        """Return the result of ``reducer_override``."""
        if type(obj) in PARTS:
            return self._part(obj)
        if self._has(obj):
            if obj.__module__ not in MAINS:
                self._names[obj] = None
            return NotImplemented
        return self._class(obj) if isinstance(obj, type) else self._function(obj)

    # Parts follow their owner; the pickler does not report the last one.

    def helper(self) -> Any:
        """Return cloudpickle's pickler of this pass, which remembers globals of functions."""
        if self._helper is None:
            # Late: its import takes longer than the start of a pool.
            import cloudpickle

            _learn_parts(cloudpickle.cloudpickle)
            self._helper = cloudpickle.Pickler(io.BytesIO(), 5)
        return self._helper

    def _function(self, function: types.FunctionType) -> Any:
        self._inside = True
        if function.__code__ is _DISPATCHING:
            return _reduce_dispatching(function)
        return self.helper()._dynamic_function_reduce(function)

    def _class(self, cls: type) -> Any:
        self._inside = True
        module = _cloudpickle(self.helper())
        name = module._BUILTIN_TYPE_NAMES.get(cls)
        if name is not None:
            return module._builtin_type, (name,)
        if not cls.__flags__ & MADE_BY_A_STATEMENT:
            return NotImplemented
        make, (*arguments, kwds, tracker, extra), *rest = module._dynamic_class_reduce(cls)
        if "__slots__" in vars(cls) and isinstance(kwds, dict) and not issubclass(cls, tuple):
            # Without them the receiver's instances would differ.
            kwds = {**kwds, "__slots__": cls.__slots__}  # type: ignore[attr-defined] # see above
        return make, (*arguments, kwds, tracker, extra), *rest

    def _part(self, obj: Any) -> Any:
        if type(obj) is not _CACHED:
            if not self._inside:
                return NotImplemented
            return self.helper().dispatch_table[type(obj)](obj)
        if hasattr(obj, "__qualname__") and self._has(obj):
            return NotImplemented
        return functools.lru_cache(**obj.cache_parameters()), (obj.__wrapped__,)


def by_value(has: Callable[[Any], bool]) -> Rules:
    """Make rules by which functions and classes that the receiver does not have go by value."""
    return make_rules(lambda names: ByValue(has, names))


def _cloudpickle(helper: Any) -> Any:
    return sys.modules[type(helper).__module__]


def _learn_parts(cloudpickle: Any) -> None:
    """Add the types of parts that are imported with cloudpickle."""
    for kind in cloudpickle.Pickler._dispatch_table:
        if kind.__module__ in {"abc", "dataclasses", "typing"}:
            PARTS[kind] = None


# --- functools.singledispatch -----------------------------------------------------------------

_DISPATCHING = functools.singledispatch(len).__code__  # type: ignore[attr-defined] # a function


def _reduce_dispatching(function: Any) -> Any:
    """Reduce a function with implementations for types, without its weak caches."""
    state = dict(function.registry), dict(vars(function))
    state[1].pop("registry", None)
    for name in ("register", "dispatch", "_clear_cache"):
        state[1].pop(name, None)
    names = {name: getattr(function, name) for name in functools.WRAPPER_ASSIGNMENTS[:3]}
    return _new_dispatching, (), (*state, names), None, None, _set_dispatching


def _new_dispatching() -> Any:
    return functools.singledispatch(_nothing)


def _nothing(*args: Any) -> None:
    """Stands for an implementation that is added later."""


def _set_dispatching(function: Any, state: Any) -> None:
    registry, attributes, names = state
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    vars(function).update(attributes)
    for name, value in names.items():
        setattr(function, name, value)
