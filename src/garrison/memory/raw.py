"""`RawValue` and `RawArray`: ctypes objects in shared memory, without a lock.

A shared object is an instance of a subclass of its ctypes type. It behaves as its type, but is sent
to other processes as a handle; any other pickle is a copy. The types themselves do not change:
ordinary objects of them, and those of the standard library's ``sharedctypes``, are pickled as
before.
"""

from __future__ import annotations

import ctypes
import sys
import weakref

from garrison._pickling import register
from garrison._typing import TYPE_CHECKING, Any, TypeAlias
from garrison.memory.capacity import allocate_block
from garrison.memory.handles import SharedBlock

if TYPE_CHECKING:
    from collections.abc import Collection
    from ctypes import _SimpleCData
    from typing import Literal, TypeVar, overload

    C = TypeVar("C")
    IntCode: TypeAlias = Literal["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q"]
    FloatCode: TypeAlias = Literal["f", "d"]

__all__ = ["RawArray", "RawValue", "copy"]

typecode_to_type: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}
SIMPLE: Any = ctypes.c_int.__base__
NATIVE = "__ctype_le__" if sys.byteorder == "little" else "__ctype_be__"


if TYPE_CHECKING:

    @overload
    def RawValue(typecode_or_type: type[C], *args: Any) -> C: ...
    @overload
    def RawValue(typecode_or_type: str, *args: Any) -> Any: ...


def RawValue(typecode_or_type: Any, *args: Any) -> Any:  # noqa: N802 - the standard name
    """Return a ctypes object in shared memory.

    Parameters
    ----------
    typecode_or_type : str or type
        One of the codes of the module `array`, ``'c'`` for a character, or a ctypes type.
    *args
        The arguments of the type; without them all bytes are zero.

    Returns
    -------
    object
        A real ctypes object, without a lock. Numbers wrap around as in ctypes. It is sent to other
        processes as a handle of the same memory, which lives as long as any of its objects.

    Raises
    ------
    TypeError
        If there is no such type or code, or the arguments do not fit the type.
    SharedMemoryFull
        If there is no room.

    Examples
    --------
    >>> from garrison.memory import RawValue
    >>> length = RawValue("d", 3.5)
    >>> length.value *= 2
    >>> length.value
    7.0
    """
    value = new_ctype_object(ctype(typecode_or_type))
    value.__init__(*args)
    return value


if TYPE_CHECKING:

    @overload
    def RawArray(
        typecode_or_type: type[_SimpleCData[Any]], size_or_initializer: int | Collection[Any]
    ) -> ctypes.Array[Any]: ...
    @overload
    def RawArray(typecode_or_type: Any, size_or_initializer: int | Collection[Any]) -> Any: ...


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:  # noqa: N802
    """Return a ctypes array in shared memory.

    Parameters
    ----------
    typecode_or_type : str or type
        The type of the elements, as for `RawValue`.
    size_or_initializer : int or sequence
        The number of elements, all zero; or the elements.

    Returns
    -------
    object
        A real ctypes array: it can be indexed and sliced, and viewed by numpy without a copy.

    Raises
    ------
    ValueError
        If the size is negative.
    TypeError, SharedMemoryFull
        As for `RawValue`.

    Examples
    --------
    >>> from garrison.memory import RawArray
    >>> numbers = RawArray("i", range(5))
    >>> numbers[2:]
    [2, 3, 4]
    """
    type_, initial = array_type(ctype(typecode_or_type), size_or_initializer)
    array = new_ctype_object(type_)
    if initial is not None:
        array.__init__(*initial)
    return array


def copy(obj: C) -> C:
    """Return a copy of a ctypes object in shared memory.

    Examples
    --------
    >>> import ctypes
    >>> from garrison.memory import copy
    >>> copy(ctypes.c_int(5)).value
    5
    """
    if not isinstance(obj, DATA):
        msg = f"a ctypes object is needed, not {obj!r}"
        raise TypeError(msg)
    other = new_ctype_object(base_ctype(type(obj)))
    ctypes.memmove(ctypes.addressof(other), ctypes.addressof(obj), ctypes.sizeof(obj))
    return other  # type: ignore[no-any-return] # of the same type


DATA: Any = SIMPLE.__base__
"""The base class of all ctypes objects."""


def ctype(typecode_or_type: Any) -> Any:
    """Return the ctypes type that a code or a type names."""
    if isinstance(typecode_or_type, str):
        try:
            return typecode_to_type[typecode_or_type]
        except KeyError:
            codes = " ".join(typecode_to_type)
            msg = f"no type code {typecode_or_type!r}: there are {codes}, and the types of ctypes"
            raise TypeError(msg) from None
    if not (isinstance(typecode_or_type, type) and issubclass(typecode_or_type, DATA)):
        msg = f"a type code or a ctypes type is needed, not {typecode_or_type!r}"
        raise TypeError(msg)
    type_ = base_ctype(typecode_or_type)
    _check_ctype(type_)
    return type_


def _check_ctype(type_: Any) -> None:
    """Refuse pointers to Python objects, and byte orders that would be lost."""
    if issubclass(type_, ctypes.py_object):
        msg = "a py_object cannot live in shared memory: its address means nothing elsewhere"
        raise TypeError(msg)
    if issubclass(type_, ctypes.Array):
        _check_ctype(type_._type_)
    if getattr(type_, NATIVE, type_) is not type_ and issubclass(type_, SIMPLE):
        msg = f"{type_.__name__} of the other byte order: put it into a structure of that order"
        raise TypeError(msg)
    for base in type_.__mro__:
        for field in vars(base).get("_fields_", ()):
            _check_ctype(field[1])


def array_type(element: Any, size_or_initializer: Any) -> tuple[Any, Any]:
    """Return the type of an array, and its initial elements."""
    if isinstance(size_or_initializer, int):
        size, initial = size_or_initializer, None
        if size < 0:
            msg = f"the size of an array must not be negative: {size}"
            raise ValueError(msg)
    else:
        size, initial = len(size_or_initializer), size_or_initializer
    try:
        return array_of(element, size), initial
    except OverflowError:
        msg = f"an array of {size} elements of {ctypes.sizeof(element)} bytes is too large"
        raise OverflowError(msg) from None


def array_of(element: Any, size: int) -> Any:
    """Return an array type; ctypes names it after the module that first requests it."""
    made = element * size
    if made.__module__ == __name__:
        made.__module__ = "garrison.sharedctypes"
    return made


def new_ctype_object(type_: Any) -> Any:
    """Return an object of that type in fresh shared memory, all zero."""
    return view_at(type_, allocate_block(ctypes.sizeof(type_)))


def view_at(type_: Any, spot: SharedBlock) -> Any:
    """Return the object of a type at an address."""
    made = _shared(type_).from_buffer(spot)
    made._garrison_spot = spot
    return made


# --- Types ------------------------------------------------------------------------------------


class Shared:
    """Mixed into the type of a shared object: its pickling."""

    _garrison_spot: SharedBlock
    _ordinary: Any

    def __init_subclass__(cls, **kwds: Any) -> None:
        super().__init_subclass__(**kwds)
        register(cls, _reduce)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__copy__().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        # ctypes shows the value of its own types only, not of subclasses.
        if self._ordinary.__base__ is SIMPLE:
            return repr(self._ordinary.from_buffer(self))
        return super().__repr__()

    def __copy__(self) -> Any:
        """Return a private copy."""
        return self._ordinary.from_buffer_copy(self)

    def __deepcopy__(self, memo: Any) -> Any:
        return self.__copy__()


_types: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
_usual: list[Any] = []
"""Caches the types of the codes."""


def _shared(type_: Any) -> Any:
    """Return the subclass of a ctypes type for shared objects."""
    found = _types.get(type_)
    if found is None:
        namespace = {"_ordinary": type_, "__module__": type_.__module__, "__doc__": type_.__doc__}
        found = _types[type_] = type(type_)(type_.__name__, (Shared, type_), namespace)
        if type_ in typecode_to_type.values():
            _usual.append(found)
    return found


def base_ctype(type_: Any) -> Any:
    """Return the ctypes type of a shared object's type, or the type itself."""
    return getattr(type_, "_ordinary", type_)


Described = Any
"""A type that can be imported, or (element, length)."""


def type_spec(type_: Any) -> Described:
    """Describe a type so that it can be pickled: array types have no importable names."""
    if issubclass(type_, ctypes.Array) and type_.__base__ is ctypes.Array:
        return type_spec(type_._type_), type_._length_
    return type_


def from_type_spec(description: Described) -> Any:
    """Return the type that was described."""
    if isinstance(description, tuple):
        element, length = description
        return array_of(from_type_spec(element), length)
    return description


def _reduce(shared: Shared) -> tuple[Any, ...]:
    return rebuild, (type_spec(shared._ordinary), shared._garrison_spot)


def rebuild(description: Described, spot: SharedBlock) -> Any:
    """Rebuild an object that another process has sent."""
    return view_at(from_type_spec(description), spot)


for _each in (RawArray, RawValue, copy):
    _each.__module__ = "garrison.memory"
del _each
