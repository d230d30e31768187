"""Shared objects as arguments: a function that asks for the type of the content gets the content.

``def total(table: dict)`` called with ``garrison.share({...})`` gets the dict. Nothing here is
loaded in a program that shares nothing.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing

from garrison._typing import TYPE_CHECKING, Any
from garrison.memory import Shared

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SeeingThrough"]


_OTHERS: dict[type, str] = {int: "*", str: "**"}
"""Where the types are that `*args` and `**kwds` ask for, for all other places and names."""


class SeeingThrough:
    """A function that gets the content of a shared object where it asks for its type."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.func = function
        functools.update_wrapper(self, function)
        self._wanted = _wanted_types(function)

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        """Call the function."""
        if Shared in map(type, args):
            args = tuple(self._seen(place, each) for place, each in enumerate(args))
        if Shared in map(type, kwds.values()):
            kwds = {name: self._seen(name, each) for name, each in kwds.items()}
        return self.func(*args, **kwds)

    def _seen(self, place: int | str, value: Any) -> Any:
        wanted = self._wanted.get(place, self._wanted.get(_OTHERS[type(place)]))
        if type(value) is not Shared or not wanted:
            return value
        content = value.get()
        return content if isinstance(content, wanted) else value


def _wanted_types(function: Callable[..., Any]) -> dict[int | str, tuple[type, ...]]:
    """Return the types that parameters ask for, by place and by name; see also `_OTHERS`."""
    try:
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters.values()
    except Exception:
        return {}  # names that exist for type checkers only, for example
    found: dict[int | str, tuple[type, ...]] = {}
    for place, parameter in enumerate(parameters):
        wanted = _classes(hints.get(parameter.name))
        if parameter.kind is parameter.VAR_POSITIONAL:
            found[_OTHERS[int]] = wanted
        elif parameter.kind is parameter.VAR_KEYWORD:
            found[_OTHERS[str]] = wanted
        else:
            found[parameter.name] = wanted
            if parameter.kind is not parameter.KEYWORD_ONLY:
                found[place] = wanted
    return found


def _classes(hint: Any) -> tuple[type, ...]:
    """Return the classes of a hint; none if it asks for a `Shared` too, or for anything."""
    origin = typing.get_origin(hint)
    members = typing.get_args(hint) if origin in (typing.Union, types.UnionType) else (hint,)
    classes = tuple(
        dict if typing.is_typeddict(each) else typing.get_origin(each) or each for each in members
    )
    if not {Shared, object, typing.Any}.isdisjoint(classes):
        return ()
    return tuple(each for each in classes if each is not type(None) and _can_be_asked(each))


def _can_be_asked(kind: Any) -> bool:
    """Whether it is a class that has instances: a usual protocol, for example, is not asked."""
    try:
        isinstance(None, kind)
    except Exception:
        return False
    return isinstance(kind, type)
