"""Functions by value that need no new pickle, since nothing in it has changed.

To pickle a function by value takes a hundred times as long as to look at all that it refers to.
That is enough if none of it can change in place: scalars, modules, and what workers import by name.
"""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.pool._function_registry import WorkerImports

__all__ = ["Unchanging"]

_SCALARS = frozenset({int, float, complex, bool, type(None), str, bytes})
_BY_NAME = types.FunctionType, types.BuiltinFunctionType, type
_ABSENT: Any = object()
"""Stands for a global that is not there: a builtin, an attribute, or one that is yet to come."""


class _Part(NamedTuple):
    """A function of a pickle, and what it refers to."""

    function: Callable[[], Any]
    code: types.CodeType
    defaults: tuple[Any, ...] | None
    fixed: list[tuple[str, Any]]
    """Its globals that are no functions by value."""
    functions: list[tuple[str, Callable[[], Any]]]
    """Its globals that are: weak references, since a pool keeps no function alive."""

    def is_same(self) -> bool:
        """Whether all of it is still what it was."""
        function = self.function()
        if (
            function is None
            or function.__code__ is not self.code
            or function.__defaults__ is not self.defaults
            or function.__kwdefaults__
            or function.__dict__
        ):
            return False
        names = function.__globals__
        return all(names.get(name, _ABSENT) is value for name, value in self.fixed) and all(
            names.get(name, _ABSENT) is value() for name, value in self.functions
        )


class Unchanging:
    """What the pickle of a function depends on, if none of it can change in place.

    Parameters
    ----------
    parts : list of _Part
        The function itself, and all that come with it.
    """

    __slots__ = ("_modules", "_parts")

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        # A pickle says which submodules a worker has to load: those that are loaded here.
        self._modules = len(sys.modules)

    @classmethod
    def of(cls, function: Any, imports: WorkerImports) -> Unchanging | None:
        """Look at a function by value; None if something that it refers to may change in place."""
        found: dict[int, _Part] = {}
        waiting = [function]
        while waiting:
            each = waiting.pop()
            if id(each) in found:
                continue
            part = _part(each, imports)
            if part is None:
                return None
            found[id(each)] = part
            waiting += [value() for _, value in part.functions]
        return cls(list(found.values()))

    def holds(self) -> bool:
        """Whether a pickle made now would be the same."""
        return len(sys.modules) == self._modules and all(part.is_same() for part in self._parts)


def _part(function: Any, imports: WorkerImports) -> _Part | None:
    if (
        type(function) is not types.FunctionType
        or function.__closure__
        or function.__kwdefaults__
        or function.__dict__
        or not _is_fixed(function.__defaults__, imports)
    ):
        return None
    fixed: list[tuple[str, Any]] = []
    functions: list[tuple[str, Callable[[], Any]]] = []
    for name in set(_names(function.__code__)):
        value = function.__globals__.get(name, _ABSENT)
        if value is _ABSENT or _is_fixed(value, imports):
            fixed.append((name, value))
        elif type(value) is types.FunctionType:
            functions.append((name, weakref.ref(value)))
        else:
            return None
    weak = weakref.ref(function)
    return _Part(weak, function.__code__, function.__defaults__, fixed, functions)


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield all names of a function's code: more than the globals that it refers to."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_fixed(value: Any, imports: WorkerImports) -> bool:
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is tuple:
        return all(type(item) in _SCALARS for item in value)
    if kind is types.ModuleType:
        return imports.finds(value.__name__)
    return kind in _BY_NAME and isinstance(value.__module__, str) and imports.has(value)
