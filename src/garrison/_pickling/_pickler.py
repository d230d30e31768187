"""The pickler of everything that leaves this process.

    an object     scalars, tuples, lists, dicts, records      by the core: nothing to decide
                  of a type that was registered               ForkingPickler's table, then copyreg's
                  a function or class                         by reference, or as the rules say
                  a buffer                                    in band if small or read-only

All this is decided per object in one pass, so pickling code of the user runs once. The tables are
the live ones: later registrations take effect at once.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler

from garrison._core import Rules, dumps_plain, dumps_scalars, loads
from garrison._typing import Any

__all__ = ["STANDARD", "Pickler", "dumps", "dumps_apart", "make_rules"]

OWNED = 1000
"""Arrays up to this size own their memory when they are unpickled with an older protocol."""

MANY = 64
"""Objects of an array from which on their pickle is worth one of its own."""

SMALL = 1 << 14
"""Bytes up to which a memo is used again: it never shrinks, and each clearing takes as long as for
the largest object so far."""
SPARE = 4
"""Cached picklers: for several threads, or nested calls."""

_registered: dict[type, Any] = vars(ForkingPickler)["_extra_reducers"]
_arrays: dict[type, Any] = {}
"""The reducer of numpy's arrays, once numpy is imported."""


PARTS: dict[type, None] = {}
"""The types of parts of functions and classes, once they are registered."""


class Pickler(pickle.Pickler):
    """`pickle.Pickler`, with the decisions of its rules for each object."""

    __slots__ = ("reducer_override",)


def make_rules(begin: Callable[[dict[Any, Any]], Callable[[Any], Any]] | None) -> Rules:
    """Make the rules of a kind of transfer.

    Parameters
    ----------
    begin
        Returns the function that one pass calls for each function, each class and their parts.
        It returns NotImplemented to pickle the object by reference, else a result of
        ``__reduce__``. Its argument is a dict: objects that become its keys are always pickled by
        reference. Without `begin` all functions and classes are pickled by reference.
    """
    tables = _registered, copyreg.dispatch_table, _arrays
    return Rules(*tables, PARTS if begin is not None else {}, begin)


STANDARD = make_rules(None)
"""As in the standard library: functions and classes by reference, or not at all."""


def dumps(value: object, rules: Rules = STANDARD, first: dict[type, Any] | None = None) -> bytes:
    """Pickle a value in one pass, its buffers included.

    Parameters
    ----------
    value
        Any object.
    rules
        The rules for functions and classes.
    first
        Reducers, by exact type, that come before all others.
    """
    data = dumps_plain(value, rules, first)
    if data is not None:
        return data
    return _dump(value, rules, sys.maxsize, first)[0]


def dumps_apart(
    value: object,
    rules: Rules,
    large: int,
    first: dict[type, Any] | None = None,
    *,
    frozen: bool = False,
) -> tuple[bytes, list[memoryview] | None]:
    """Pickle a value; buffers of `large` bytes and more come separately, if there are any.

    A read-only buffer stays in the pickle, so the receiver gets its own copy; unless all are
    `frozen`: then they are read-only for the receiver as well.
    """
    data = dumps_plain(value, rules, first)
    if data is not None:
        return data, None
    return _dump(value, rules, large, first, frozen=frozen)


def _dump(
    value: object, rules: Rules, large: int, first: dict[type, Any] | None, *, frozen: bool = False
) -> tuple[bytes, list[memoryview] | None]:
    if not _arrays and "numpy" in sys.modules:
        _learn_arrays()
    try:
        writer = _spare.pop()
    except IndexError:
        writer = _Writer()
    writer.large, writer.frozen = large, frozen
    pickler, chunks = writer.pickler, writer.chunks
    pickler.reducer_override = rules.reducer(first).reduce  # type: ignore[method-assign]
    try:
        pickler.dump(value)
    except BaseException:
        writer.drop()
        raise
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    buffers = None
    if writer.buffers:
        buffers, writer.buffers = writer.buffers, []
    if len(data) > SMALL:
        pickler.memo = {}  # a new one
    else:
        pickler.clear_memo()
    del pickler.reducer_override, chunks[:]
    if len(_spare) < SPARE:
        _spare.append(writer)
    return data, buffers


class _Writer:
    """A reusable pickler: to make one costs more than to pickle a small object."""

    __slots__ = ("buffers", "chunks", "frozen", "large", "pickler", "write")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.write = self.chunks.append
        self.buffers: list[memoryview] = []
        self.large = 0
        self.frozen = False
        self.pickler = Pickler(self, 5, buffer_callback=self._keep)

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < self.large or (view.readonly and not self.frozen):
            return True
        self.buffers.append(view)
        return False

    def drop(self) -> None:
        """Drop all objects, after an error whose traceback refers to this pickler."""
        self.pickler.clear_memo()
        del self.pickler.reducer_override, self.chunks[:]
        for view in self.buffers:
            view.release()


_spare: list[_Writer] = []


def _learn_arrays() -> None:
    numpy: Any = sys.modules["numpy"]
    kind = getattr(numpy, "ndarray", None)  # it may be half imported
    if kind is not None:
        _arrays[kind] = _reduce_array


def _reduce_array(array: Any) -> Any:
    """Reduce an array so that it arrives writable, and owns its memory as in numpy."""
    older = array.nbytes <= OWNED or not array.flags.writeable
    reduced = array.__reduce_ex__(4 if older else 5)
    if array.dtype.char == "O" and array.size >= MANY:
        return _reduce_objects(*reduced)
    return reduced


def _reduce_objects(make: Any, arguments: Any, state: Any) -> Any:
    """Reduce a large array of strings and other scalars: the core pickles those."""
    *rest, items = state
    data = dumps_scalars(items)
    if data is None:
        return make, arguments, state
    return _array_of_objects, (make, arguments, rest, data)


def _array_of_objects(make: Any, arguments: Any, rest: list[Any], data: bytes) -> Any:
    array = make(*arguments)
    array.__setstate__((*rest, loads(data)))
    return array
