"""`Value` and `Array`: ctypes objects in shared memory, each with a lock.

    | lock, 64 bytes | data |      one block of shared memory

The core reads and writes numbers itself, under the lock; ctypes reads and writes strings,
structures and everything else, under the lock as well.
"""

from __future__ import annotations

import ctypes
import weakref

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any, TypedBase
from garrison.memory import SharedBlock, raw
from garrison.memory.capacity import allocate_block
from garrison.sync._locks import SIZE as LOCK_SIZE
from garrison.sync._locks import RLock

__all__ = ["Array", "Value", "synchronized"]

if TYPE_CHECKING:
    from _ctypes import _CData
    from collections.abc import Collection
    from ctypes import _SimpleCData
    from multiprocessing import sharedctypes as _theirs
    from typing import Literal, overload

    from typing_extensions import TypeVar

    from garrison.memory.raw import FloatCode, IntCode

    T = TypeVar("T", default=Any)
    CT = TypeVar("CT", bound=_CData, default=Any)
    C = TypeVar("C")
    CoreNumber = _core.Synchronized
    CoreArray = _core.SynchronizedArray
    StandardBase = _theirs.SynchronizedBase
    StandardNumber = _theirs.Synchronized
    StandardArray = _theirs.SynchronizedArray
    StandardString = _theirs.SynchronizedString
else:
    T = CT = None
    _theirs = _standard.load("sharedctypes")
    CoreNumber = TypedBase(_core.Synchronized)
    CoreArray = TypedBase(_core.SynchronizedArray)
    StandardBase = TypedBase(_theirs.SynchronizedBase)
    StandardNumber = TypedBase(_theirs.Synchronized)
    StandardArray = TypedBase(_theirs.SynchronizedArray)
    StandardString = _theirs.SynchronizedString


if TYPE_CHECKING:

    @overload
    def Value(
        typecode_or_type: type[C], *args: Any, lock: Literal[False], ctx: Any = None
    ) -> C: ...
    @overload
    def Value(typecode_or_type: str, *args: Any, lock: Literal[False], ctx: Any = None) -> Any: ...
    @overload
    def Value(
        typecode_or_type: IntCode, *args: int, lock: Any = True, ctx: Any = None
    ) -> Synchronized[int]: ...
    @overload
    def Value(
        typecode_or_type: FloatCode, *args: float, lock: Any = True, ctx: Any = None
    ) -> Synchronized[float]: ...
    @overload
    def Value(
        typecode_or_type: type[_SimpleCData[C]], *args: Any, lock: Any = True, ctx: Any = None
    ) -> Synchronized[C]: ...
    @overload
    def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None) -> Any: ...


def Value(  # noqa: N802 - the standard name
    typecode_or_type: Any,
    *args: Any,
    lock: Any = True,
    ctx: Any = None,  # noqa: ARG001 - it would choose whose lock
) -> Any:
    """Return a value in shared memory, with a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        One of the codes of the module `array`, ``'c'`` for a character, or a ctypes type.
    *args
        The arguments of the type; without them all bytes are zero.
    lock : bool or lock
        By default a new recursive lock. Your own lock, which other objects may use too; or False,
        for a plain ctypes object as from `RawValue`.
    ctx
        Accepted for the standard library's sake.

    Returns
    -------
    Synchronized
        Each read and each write of ``.value`` is done under the lock. ``v.value += 1`` is a read
        and a write: hold ``v.get_lock()`` around it, or use ``v.add(1)``, which needs no lock. For
        structures, an object with the structure's fields.

    Raises
    ------
    TypeError
        If there is no such type or code, or the arguments do not fit the type.
    AttributeError
        If the lock has no ``acquire``.
    SharedMemoryFull
        If there is no room.

    Examples
    --------
    >>> from garrison.sync import Value
    >>> hits = Value("i", 40)
    >>> with hits.get_lock():
    ...     hits.value += 1
    >>> hits.add(1)  # the value before
    41
    >>> hits.value
    42
    """
    _check_lock(lock)
    type_ = raw.ctype(typecode_or_type)
    if lock is False:
        return raw.RawValue(type_, *args)
    obj, chosen = _allocate(type_, lock)
    wrapper = synchronized(obj, chosen)
    if isinstance(wrapper, Synchronized) and len(args) == 1:
        wrapper.value = args[0]
    else:
        obj.__init__(*args)
    return wrapper


if TYPE_CHECKING:

    @overload
    def Array(
        typecode_or_type: Any,
        size_or_initializer: int | Collection[Any],
        *,
        lock: Literal[False],
        ctx: Any = None,
    ) -> Any: ...
    @overload
    def Array(
        typecode_or_type: IntCode,
        size_or_initializer: int | Collection[int],
        *,
        lock: Any = True,
        ctx: Any = None,
    ) -> SynchronizedArray[int]: ...
    @overload
    def Array(
        typecode_or_type: FloatCode,
        size_or_initializer: int | Collection[float],
        *,
        lock: Any = True,
        ctx: Any = None,
    ) -> SynchronizedArray[float]: ...
    @overload
    def Array(
        typecode_or_type: Literal["c"] | type[ctypes.c_char],
        size_or_initializer: int | Collection[Any],
        *,
        lock: Any = True,
        ctx: Any = None,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        typecode_or_type: type[_SimpleCData[C]],
        size_or_initializer: int | Collection[Any],
        *,
        lock: Any = True,
        ctx: Any = None,
    ) -> SynchronizedArray[C]: ...
    @overload
    def Array(
        typecode_or_type: Any,
        size_or_initializer: int | Collection[Any],
        *,
        lock: Any = True,
        ctx: Any = None,
    ) -> SynchronizedArray[Any]: ...


def Array(  # noqa: N802 - the standard name
    typecode_or_type: Any,
    size_or_initializer: Any,
    *,
    lock: Any = True,
    ctx: Any = None,  # noqa: ARG001 - it would choose whose lock
) -> Any:
    """Return an array in shared memory, with a lock.

    Parameters
    ----------
    typecode_or_type : str or type
        The type of the elements, as for `Value`.
    size_or_initializer : int or sequence
        The number of elements, all zero; or the elements.
    lock, ctx
        As for `Value`.

    Returns
    -------
    SynchronizedArray
        It has a length, and can be indexed, sliced and iterated over; each access is done under the
        lock. ``numpy.asarray(array)`` is a view of the same memory, without the lock.
        Characters (``'c'``) have ``.value`` and ``.raw`` besides.

    Raises
    ------
    ValueError
        If the size is negative.
    TypeError, AttributeError, SharedMemoryFull
        As for `Value`.

    Examples
    --------
    >>> from garrison.sync import Array
    >>> counts = Array("i", range(5))
    >>> counts[0] = 7
    >>> counts[:3]
    [7, 1, 2]
    """
    _check_lock(lock)
    type_, initial = raw.array_type(raw.ctype(typecode_or_type), size_or_initializer)
    if lock is False:
        return raw.RawArray(type_._type_, size_or_initializer)
    obj, chosen = _allocate(type_, lock)
    wrapper = synchronized(obj, chosen)
    if initial is not None:
        _fill(wrapper, obj, initial)
    return wrapper


def _fill(wrapper: SynchronizedArray, obj: Any, initial: Any) -> None:
    if _is_plain(obj) and obj._type_ not in CHARACTERS:
        wrapper[:] = initial
    else:
        obj.__init__(*initial)


CHARACTERS = (ctypes.c_char, ctypes.c_wchar)


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> Any:
    """Return a wrapper that uses a ctypes object under a lock.

    Parameters
    ----------
    obj
        A ctypes object; to be shared it must be in shared memory, as from `RawValue`.
    lock
        Any object with ``acquire`` and ``release``; by default a new `RLock`.
    ctx
        Accepted for the standard library's sake.

    Examples
    --------
    >>> from garrison.memory import RawArray
    >>> from garrison.sync import Lock, synchronized
    >>> both = Lock()
    >>> prices = synchronized(RawArray("d", 3), both)
    >>> names = synchronized(RawArray("c", 8), both)
    >>> names.value = b"tea"
    >>> prices[0] = 2.5
    """
    if isinstance(obj, SynchronizedBase):
        raise AssertionError("object already synchronized")  # noqa: TRY004 - the standard one
    return _wrapper(obj)(obj, lock, ctx)


def _wrapper(obj: Any) -> Any:
    """Return the class for a ctypes object."""
    if isinstance(obj, raw.SIMPLE):
        return Synchronized
    if isinstance(obj, ctypes.Array):
        return SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
    type_ = raw.base_ctype(type(obj))
    found = _classes.get(type_)
    if found is None:
        found = _classes[type_] = _structure_class(type_)
    return found


_classes: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()


def _structure_class(type_: Any) -> Any:
    if not hasattr(type_, "_fields_"):
        msg = f"a number, string, array or structure of ctypes is needed, not {type_.__name__}"
        raise TypeError(msg)
    fields = [field[0] for base in type_.__mro__ for field in vars(base).get("_fields_", ())]
    namespace = {name: _locked_property(name) for name in fields}
    return type(f"Synchronized{type_.__name__}", (SynchronizedBase,), namespace)


def _locked_property(name: str, doc: str | None = None) -> Any:
    """Return a property that accesses a field of the object under the lock."""

    def get(self: SynchronizedBase) -> Any:
        with self:
            return getattr(self._obj, name)

    def put(self: SynchronizedBase, value: Any) -> None:
        with self:
            setattr(self._obj, name, value)

    return property(get, put, doc=doc)


def _check_lock(lock: Any) -> None:
    if lock is not None and not isinstance(lock, bool) and not hasattr(lock, "acquire"):
        msg = f"{lock!r} has no method 'acquire': give a lock, True or False"
        raise AttributeError(msg)


def _allocate(type_: Any, lock: Any) -> tuple[Any, Any]:
    """Return a new object and its lock, which is in the same block unless it was given."""
    if lock is not None and lock is not True:
        return raw.new_ctype_object(type_), lock
    return _split_block(type_, allocate_block(LOCK_SIZE + ctypes.sizeof(type_)))


def _split_block(type_: Any, spot: SharedBlock) -> tuple[Any, Any]:
    """Return the object and the lock in a block."""
    data = spot.part(LOCK_SIZE, len(spot) - LOCK_SIZE)
    return raw.view_at(type_, data), RLock._from_block(spot, 0)


def _rebuild(description: Any, spot: SharedBlock) -> Any:
    """Rebuild a wrapper that another process has sent."""
    return synchronized(*_split_block(raw.from_type_spec(description), spot))


def _is_plain(obj: Any) -> bool:
    """Whether ctypes returns it, or its elements, as numbers, not as objects of the type."""
    type_ = obj._type_ if isinstance(obj, ctypes.Array) else raw.base_ctype(type(obj))
    return bool(type_.__base__ is raw.SIMPLE)


def _reduce(wrapper: SynchronizedBase) -> tuple[Any, ...]:
    """Reduce a wrapper: to one handle, if its lock is in the block of its data."""
    assert_transfer(wrapper)
    obj, lock = wrapper._obj, wrapper._lock
    if type(lock) is RLock and isinstance(obj, raw.Shared):
        (whole, *rest), data = lock._location, obj._garrison_spot
        ends = whole.offset + LOCK_SIZE, LOCK_SIZE + len(data)
        together = whole.chunk == data.chunk and ends == (data.offset, len(whole))
        if together and rest == [0, 0, False]:
            return _rebuild, (raw.type_spec(obj._ordinary), whole)
    return synchronized, (obj, lock)


class SynchronizedBase(_core.SynchronizedBase, Transferable, StandardBase[CT]):
    """A ctypes object in shared memory, and the lock under which it is used.

    ``with``, ``acquire`` and ``release`` use the lock; ``get_obj()`` returns the ctypes object,
    which is used without it. The lock may be any object with these two methods.
    """

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        """Do nothing: the core has made it."""


if TYPE_CHECKING:
    NumberBase = SynchronizedBase[_SimpleCData[T]]
    ArrayBase = SynchronizedBase[ctypes.Array[_SimpleCData[T]]]
else:
    NumberBase = ArrayBase = TypedBase(SynchronizedBase)


class Synchronized(CoreNumber[T], NumberBase[T], StandardNumber[T]):
    """A value in shared memory, as `Value` returns it.

    Attributes
    ----------
    value
        Read and written under the lock.

    Notes
    -----
    ``add``, ``exchange``, ``compare_exchange``, ``load`` and ``store`` are single steps, for
    integers and floats. They neither take the lock nor wait for it: its owner sees the value
    change meanwhile. Use them alone, or the lock alone. A sum that is out of the type's range
    wraps around.

    Examples
    --------
    >>> from garrison import Value
    >>> hits = Value("i", 40)
    >>> hits.add(1)  # the value before
    40
    >>> hits.compare_exchange(41, 0)
    True
    """


class SynchronizedArray(CoreArray[T], ArrayBase[T], StandardArray[T]):
    """An array in shared memory, as `Array` returns it.

    Notes
    -----
    ``add(index, amount)``, ``exchange(index, value)``, ``compare_exchange(index, expected,
    desired)``, ``load(index)`` and ``store(index, value)`` are those of `Synchronized`, for one
    element.

    Examples
    --------
    >>> from garrison import Array
    >>> counts = Array("i", 3)
    >>> counts.add(2, 5)  # the value before
    0
    >>> list(counts)
    [0, 0, 5]
    """


if TYPE_CHECKING:
    BytesBase = SynchronizedArray[bytes]
else:
    BytesBase = SynchronizedArray


class SynchronizedString(BytesBase, StandardString):
    r"""An array of characters in shared memory.

    Attributes
    ----------
    value : bytes
        The bytes before the first zero byte.
    raw : bytes
        All bytes.

    Examples
    --------
    >>> from garrison import Array
    >>> name = Array("c", 8)
    >>> name.value = b"tea"
    >>> name.raw
    b'tea\x00\x00\x00\x00\x00'
    """

    value: bytes = _locked_property("value", "What is before the first zero byte.")
    raw: bytes = _locked_property("raw", "All bytes.")


_wrappers: Any = (SynchronizedBase, Synchronized, SynchronizedArray, SynchronizedString)
for _each in _wrappers:
    _each.__module__ = "garrison.sharedctypes"
for _each in (Array, Value, synchronized):
    _each.__module__ = "garrison.sync"
del _each, _wrappers
