"""Classes and functions by value in arguments and results: each goes to a worker once.

The parent writes a definition into its heap and numbers it; messages refer to the number. A worker
loads a definition at its first use, and refers to it in results, so the parent receives its own
class object. A definition is complete: it contains all that it needs by value.

The parts of a class may change. They are compared without pickling them. Where parts can change
unseen (a list among the globals of a method), the class is pickled again at the next call of a
method of the pool, and is a new definition if the bytes differ.
"""

from __future__ import annotations

import enum
import functools
import itertools
import os
import pickle
import types
import weakref
from _blake2 import blake2b  # hashlib would load OpenSSL
from collections.abc import Callable, Iterator

from garrison._core import SharedBlock
from garrison._pickling import Kept
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.memory import handles

if TYPE_CHECKING:
    from garrison import _core

    Key = tuple[int, int]
    """Names a pool: its process, and a number there."""

__all__ = ["Definitions", "begin", "reference_of"]

MAX_DEFINITIONS = 512
"""The most definitions of a pool; later ones are a part of each message."""
MAX_BYTES = 16 << 20
"""The most bytes of all their pickles."""
MAX_PARTS = 200
"""Parts that are compared; an object with more is pickled to detect a change."""

_counter = itertools.count()
_pools: weakref.WeakValueDictionary[Key, Definitions] = weakref.WeakValueDictionary()


class Definition:
    """A class or function of the parent, with its number."""

    __slots__ = ("call", "marks", "number", "obj", "place")

    def __init__(self, obj: Any, number: int, place: int, marks: Any, call: int) -> None:
        self.obj, self.number, self.place = obj, number, place
        self.marks, self.call = marks, call


class Definitions:
    """The parent's side: the classes and functions that workers can load.

    Without the memory of a `parent` there are none, and each message contains what it needs.
    """

    def __init__(
        self,
        parent: _core.Parent | None,
        has: Callable[[Any], bool],
        dumps: Callable[[Any, dict[type, Any]], bytes],
    ) -> None:
        self._parent, self._has, self._dumps = parent, has, dumps
        self._key = os.getpid(), next(_counter)
        self._found: dict[int, Definition] = {}
        self._numbers: dict[bytes, tuple[int, int]] = {}
        self._objects: list[Any] = []
        self._bytes = 0
        # Shared memory that definitions refer to: any number of workers may open it.
        self._spots: list[SharedBlock] = []
        self._descriptors = Kept()
        self.call = 0
        """Counts the calls of the pool's methods."""
        _pools[self._key] = self

    def reference(self, obj: Any) -> Any:
        """Return a reference to a class or function; None if the message must contain it."""
        known = self._found.get(id(obj))
        if known is None or known.obj is not obj or self._has_changed(known):
            if (
                self._parent is None
                or len(self._objects) >= MAX_DEFINITIONS
                or self._bytes >= MAX_BYTES
                or not _is_stateless(obj)
            ):
                return None
            known = self._define(obj)
        return _find, (self._key, known.number, known.place)

    def object_of(self, number: int) -> Any:
        """Return the definition with a number."""
        return self._objects[number]

    def _has_changed(self, known: Definition) -> bool:
        if known.call == self.call:
            return False
        known.call = self.call
        return known.marks is None or _marks(known.obj, self._has) != known.marks

    def _define(self, obj: Any) -> Definition:
        marks = _marks(obj, self._has)
        pickled = self._dumps(obj, {**self._descriptors.first(), SharedBlock: self._reduce_spot})
        digest = blake2b(pickled, digest_size=16).digest()
        if digest not in self._numbers:
            assert self._parent is not None  # noqa: S101 - `reference` has asked
            place = self._parent.keep(pickled)
            self._objects.append(obj)
            self._bytes += len(pickled)
            self._numbers[digest] = len(self._objects) - 1, place
        made = Definition(obj, *self._numbers[digest], marks, self.call)
        self._found[id(obj)] = made
        return made

    def _reduce_spot(self, spot: SharedBlock) -> Any:
        self._spots.append(spot)
        return handles.open_address, handles.address_of(spot)


def _find(key: Key, number: int, place: int) -> Any:
    """Return the class or function that a message refers to."""
    pool = _pools.get(key)
    if pool is not None and key[0] == os.getpid():
        return pool.object_of(number)
    known = _loaded.get((key, number))
    if known is None:
        if _worker is None:
            msg = "a class of a pool's parent can be loaded in a worker of that pool only"
            raise pickle.UnpicklingError(msg)
        known = _loaded[key, number] = pickle.loads(_worker.definition(place))  # noqa: S301 - written by the parent
        _references[known] = _find, (key, number, place)
    return known


# --- In a worker ------------------------------------------------------------------------------

_worker: _core.Worker | None = None
_loaded: dict[tuple[Key, int], Any] = {}
_references: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def begin(worker: _core.Worker) -> None:
    """Load definitions of the pool of this worker."""
    global _worker  # noqa: PLW0603 - a process is one worker
    _worker = worker
    if _loaded:
        _loaded.clear()
        _references.clear()


def reference_of(obj: Any) -> Any:
    """Return a result's reference to a class or function of the parent, or None."""
    return _references.get(obj)


# --- The parts of a class or function ---------------------------------------------------------

_CODE = (types.FunctionType, type)
_OWN = frozenset({"_abc_impl", "_field_defaults"})
"""Names of the interpreter and the standard library."""


@functools.cache
def _immutable_types() -> tuple[type, ...]:
    """Types whose objects do not change. Late: a worker has no other use for `re`."""
    import re

    return (
        *(types.FunctionType, type),
        *(int, float, complex, bool, type(None), str, bytes, re.Pattern, enum.Enum, type(...)),
        types.BuiltinFunctionType,
        types.GetSetDescriptorType,
        types.MemberDescriptorType,
        types.MethodDescriptorType,
        types.ModuleType,
        types.WrapperDescriptorType,
    )


_STANDARD = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - a prefix
"""Directories of code whose closures capture nothing of the program."""


class _MutablePartError(GarrisonError):
    """A part may change in place."""


def _is_stateless(obj: Any) -> bool:
    """Whether it is code only, without state that might also be elsewhere in the message."""
    if isinstance(obj, type):
        return True
    return not (obj.__closure__ or obj.__defaults__ or obj.__kwdefaults__ or vars(obj))


def _marks(obj: Any, has: Callable[[Any], bool]) -> tuple[int, ...] | None:
    """Return numbers that differ when the parts do; None if parts may change unseen."""
    marks: list[int] = []
    waiting, seen = [obj], {id(obj)}
    try:
        while waiting:
            for part in _parts(waiting.pop()):
                marks.append(id(part))
                if id(part) not in seen and isinstance(part, _CODE):
                    seen.add(id(part))
                    if not has(part):
                        waiting.append(part)
                if len(marks) > MAX_PARTS:
                    return None
    except _MutablePartError:
        return None
    return tuple(marks)


def _parts(obj: Any) -> Iterator[Any]:
    if isinstance(obj, type):
        yield from obj.__bases__
        for name, value in vars(obj).items():
            own = name.startswith("_") and (name.endswith("_") or name in _OWN)
            if own and not isinstance(value, _CODE):
                yield value
            else:
                yield from _parts_of_value(value)
        return
    yield obj.__code__
    standard = obj.__code__.co_filename.startswith(_STANDARD)
    for cell in obj.__closure__ or ():
        if standard and not isinstance(cell.cell_contents, _CODE):
            yield cell.cell_contents
        else:
            yield from _parts_of_value(cell.cell_contents)
    for value in (*(obj.__defaults__ or ()), *(obj.__kwdefaults__ or {}).values()):
        yield from _parts_of_value(value)
    for name in _names(obj.__code__):
        if name in obj.__globals__:
            yield from _parts_of_value(obj.__globals__[name])


def _parts_of_value(value: Any) -> Iterator[Any]:
    """Yield the parts of a value to compare; raise if they do not show a change."""
    if isinstance(value, _immutable_types()):
        yield value
    elif isinstance(value, (staticmethod, classmethod)):
        yield from _parts_of_value(value.__func__)
    elif isinstance(value, property):
        yield from (each for each in (value.fget, value.fset, value.fdel) if each is not None)
    elif isinstance(value, tuple):
        for each in value:
            yield from _parts_of_value(each)
    elif type(value).__module__ == "dataclasses":
        yield value
    else:
        raise _MutablePartError


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that code may look up among its globals."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return (*code.co_names, *itertools.chain.from_iterable(map(_names, inner)))
