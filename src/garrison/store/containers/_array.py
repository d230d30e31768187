"""`Array`: numbers of one C type that processes share."""

from __future__ import annotations

import math
import operator
from array import array
from collections.abc import Callable, Iterator, Sequence

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.store._backend import END, Kind
from garrison.store._transaction import single_step
from garrison.store.containers._base import Container, ContainerRepr
from garrison.store.containers._list import List
from garrison.store.containers._sequence import SequenceContainer, clamp_slice_bound, update_item

__all__ = ["Array"]


class Array(SequenceContainer[Any], managers.ArrayProxy):
    """An `array.array` of fixed length that processes share: ``manager.Array()``.

    Numbers have to fit its typecode, and are rounded as in C. Slices are plain arrays.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     sums = manager.Array("d", [0.5, 1.5])
    ...     sums[0] += 1
    ...     print(sums)
    array('d', [1.5, 1.5])
    """

    __slots__ = ("_code", "_range")
    __module__ = "garrison.store"
    _kind = Kind.ARRAY.value
    _proxy_name = "ArrayProxy"
    _typeid = "Array"
    _code: str
    _range: tuple[Any, float, float]
    if TYPE_CHECKING:

        def __hash__(self) -> int: ...
    else:
        __hash__ = Container.__hash__

    @property
    def typecode(self) -> str:
        """The type of the items, as for `array.array`."""
        try:
            return self._code
        except AttributeError:
            self._code = self._metadata.typecode.decode()
            return self._code

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Any]: ...
    else:
        __iter__ = List.__iter__

    def __contains__(self, value: object) -> bool:
        return value in self._plain()

    def __getitem__(self, index: Any) -> Any:
        if type(index) is int:
            try:
                return self._backend.list_get(self._container_id, index)
            except (IndexError, OverflowError):
                raise IndexError("array index out of range") from None
        if type(index) is not slice:
            return self._at(self._backend.list_get, index)
        if index.step is not None:
            return self._plain()[index]
        start = 0 if index.start is None else clamp_slice_bound(index.start)
        stop = END if index.stop is None else clamp_slice_bound(index.stop)
        return array(self.typecode, self._backend.list_slice(self._container_id, start, stop))

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is slice:
            self._replace(index, array(self.typecode, value))
        else:
            fitting = value if self._fits(value) else array(self.typecode, (value,))[0]
            self._at(self._backend.list_set, index, fitting, what="array assignment index")

    def _fits(self, value: Any) -> bool:
        """Whether a value stays as it is in an array; False also if that is not quickly known."""
        try:
            kind, least, most = self._range
        except AttributeError:
            kind, least, most = self._range = _range(self.typecode)
        return kind is type(value) and bool(least <= value <= most)

    def __delitem__(self, index: Any) -> None:
        raise TypeError("an array keeps its length: items of it cannot be deleted")

    def _at(
        self,
        operation: Callable[..., Any],
        index: Any,
        *value: Any,
        what: str = "array index",
    ) -> Any:
        try:
            return operation(self._container_id, operator.index(index), *value)
        except TypeError:
            if hasattr(index, "__index__"):
                raise
            raise TypeError("array indices must be integers") from None
        except (IndexError, OverflowError):
            raise IndexError(f"{what} out of range") from None

    def _replace(self, index: slice, values: array[Any]) -> None:
        with single_step(self._backend):
            whole = self._plain()
            here = range(*index.indices(len(whole)))
            if len(here) != len(values):
                msg = f"{len(values)} values for {len(here)} places: an array keeps its length"
                raise ValueError(msg)
            for place, value in zip(here, values, strict=True):
                whole[place] = value
            self._backend.list_replace(self._container_id, 0, END, whole.tolist())

    def index(self, value: Any, *bounds: Any) -> int:
        """Return the index of the first equal item.

        Raises
        ------
        ValueError
            If there is none.
        """
        return self._plain().index(value, *bounds)

    def count(self, value: Any) -> int:
        """Return the number of equal items."""
        return self._plain().count(value)

    def tolist(self) -> list[Any]:
        """Return the items as a plain list."""
        return self._backend.list_slice(self._container_id, 0, END)

    def tobytes(self) -> bytes:
        """Return the bytes of the items, as in C."""
        return self._plain().tobytes()

    def add(self, index: Any, amount: Any = 1) -> Any:
        """Add to an item, and return what it was before.

        Raises
        ------
        IndexError
            If there is no such index.
        OverflowError
            If the sum does not fit the typecode; the item stays what it was.
        """
        with single_step(self._backend):
            before = self[index]
            self[index] = before + amount
        return before

    def update_with(self, index: Any, fn: Callable[[Any], Any]) -> Any:
        """Replace an item by the result of `fn`, and return that; see `List.update_with`."""
        place = operator.index(index)
        return update_item(self, place, lambda old: array(self.typecode, (fn(old),))[0])

    def copy(self) -> array[Any]:
        """Return a plain `array.array`."""
        return self._plain()

    def _plain(self) -> array[Any]:
        return array(self.typecode, self.tolist())

    def _getvalue(self) -> array[Any]:
        return self._plain()

    def _repr_items(self, shown: ContainerRepr) -> str:
        entries = shown.entries(self)
        return f"array({self.typecode!r}, [{entries}])" if entries else f"array({self.typecode!r})"


Array._comparable = (array, Array)

Sequence.register(Array)


def _range(typecode: str) -> tuple[type, float, float]:
    """Return the type of items, and the range of values."""
    bits = 8 * array(typecode).itemsize
    if typecode in "bhilq":
        return int, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if typecode in "BHILQ":
        return int, 0, 2**bits - 1
    return (float, -math.inf, math.inf) if typecode == "d" else (bool, 1, 0)
