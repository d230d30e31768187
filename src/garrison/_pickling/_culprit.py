"""Finds the part of an object that could not be pickled, after the failure, for a message.

Pickling code of the user is not run again: objects with such code are assumed to be picklable.
"""

from __future__ import annotations

import functools
import io
import pickle
import types
from collections.abc import Iterator
from multiprocessing import process
from multiprocessing.reduction import ForkingPickler

from garrison._core import Rules
from garrison._pickling._pickler import Pickler
from garrison._typing import Any

__all__ = ["UNPICKLABLE", "find_culprit", "short", "without_key"]

DEEPEST = 20
PICKLING = ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
SHORT = 80


def find_culprit(value: object, path: str, rules: Rules) -> tuple[str, object]:
    """Follow the first part that cannot be pickled, down to one whose parts all can."""
    whole = _Probe(value, rules)
    if not whole.fails and len(whole.skipped) != 1:
        return path, value  # in one of several objects with code of the user
    guilty = _fails if whole.fails else _skips
    for _ in range(DEEPEST):
        for step, part in _parts(value):
            if guilty(_Probe(part, rules)):
                path, value = path + step, part
                break
        else:
            break
    return path, value


def short(value: object, limit: int = SHORT) -> str:
    """Return the repr of an object, without the program's key, cut to `limit` characters."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__qualname__} object>"
    text = without_key(text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def without_key(text: str) -> str:
    """Return a repr in which the key of the program's processes does not appear."""
    return text.replace(repr(process.current_process().authkey), "<key>")


class _Probe:
    """An attempt to pickle, without code of the user."""

    def __init__(self, value: object, rules: Rules) -> None:
        self._reduce = rules.reducer(None).reduce
        self.skipped: list[object] = []
        pickler = Pickler(io.BytesIO(), 5, buffer_callback=lambda _: False)
        pickler.reducer_override = self._decide  # type: ignore[method-assign]
        try:
            pickler.dump(value)
        except Exception:
            self.fails = True
        else:
            self.fails = False
        finally:
            del pickler.reducer_override

    def _decide(self, obj: Any) -> Any:
        if not isinstance(obj, IMPORTABLE) and _has_own_code(type(obj)):
            self.skipped.append(obj)
            return object, ()
        return self._reduce(obj)


IMPORTABLE = (type, types.FunctionType)


def _fails(probe: _Probe) -> bool:
    return probe.fails


def _skips(probe: _Probe) -> bool:
    return bool(probe.skipped)


def _has_own_code(kind: type) -> bool:
    if kind in vars(ForkingPickler)["_extra_reducers"]:
        return kind not in PLAIN_REDUCERS
    return any(
        isinstance(vars(base).get(name), types.FunctionType)
        for base in kind.__mro__
        for name in PICKLING
    )


PLAIN_REDUCERS: frozenset[type] = frozenset(
    {functools.partial, types.MethodType, types.MethodDescriptorType, types.WrapperDescriptorType}
)
"""Registered by the standard library, and harmless."""


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"[{short(key)}]", part) for key, part in value.items())
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


UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError, RecursionError)
"""The exceptions of `pickle` for objects that it refuses."""
