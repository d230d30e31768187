"""`Deque`: a deque that processes share."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, MutableSequence
from typing import TypeVar

from garrison._typing import TYPE_CHECKING, Any
from garrison.store._backend import END, Kind
from garrison.store._transaction import single_step
from garrison.store.containers._base import ContainerRepr
from garrison.store.containers._sequence import GrowingSequence, check_index

__all__ = ["Deque"]


T = TypeVar("T")


class Deque(GrowingSequence[T]):
    """A `collections.deque` that processes share: ``manager.deque()``.

    Every method is one atomic step. Iteration walks over a snapshot.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     last = manager.deque(maxlen=2)
    ...     last.extend([1, 2, 3])
    ...     print(last)
    deque([2, 3], maxlen=2)
    """

    __slots__ = ("_limit",)
    __module__ = "garrison.store"
    _kind = Kind.DEQUE.value
    _proxy_name = "AutoProxy[deque]"
    _typeid = "deque"
    _limit: int
    _plain_type = deque

    @property
    def maxlen(self) -> int | None:
        """How many items there are at most; None: any number."""
        try:
            most = self._limit
        except AttributeError:
            most = self._limit = self._metadata.limit
        return None if most < 0 else most

    # --- One item -----------------------------------------------------------------------------

    def __getitem__(self, index: int) -> T:  # type: ignore[override]
        value: T = self._at(self._backend.list_get, index)
        return value

    def __setitem__(self, index: int, value: T) -> None:  # type: ignore[override]
        self._at(self._backend.list_set, index, value)

    def __delitem__(self, index: int) -> None:  # type: ignore[override]
        self._at(self._backend.list_delete, index)

    def _at(self, operation: Callable[..., Any], index: Any, *value: Any) -> Any:
        try:
            place = operator.index(index)
        except TypeError:
            msg = f"sequence index must be integer, not '{type(index).__name__}'"
            raise TypeError(msg) from None
        try:
            return operation(self._container_id, place, *value)
        except OverflowError:
            raise IndexError("cannot fit 'int' into an index-sized integer") from None
        except IndexError:
            raise IndexError("deque index out of range") from None

    def appendleft(self, value: T, /) -> None:
        """Put a value at the front; if the deque is full, the last one goes."""
        self._backend.list_appendleft(self._container_id, value)

    def pop(self) -> T:  # type: ignore[override]
        """Remove and return the last value; a nested container comes as a plain copy.

        Raises
        ------
        IndexError
            If there is none.
        """
        return self._take(-1)

    def popleft(self) -> T:
        """Remove and return the first value; see `pop`."""
        return self._take(0)

    def _take(self, index: int) -> T:
        try:
            return self._backend.list_pop(self._container_id, index)  # type: ignore[no-any-return]
        except IndexError:
            raise IndexError("pop from an empty deque") from None

    def insert(self, index: int, value: T, /) -> None:
        """Put a value before the one at `index`.

        Raises
        ------
        IndexError
            If the deque is full.
        """
        place = check_index(index)
        if self.maxlen is None:
            self._backend.list_insert(self._container_id, place, value)
            return
        with single_step(self._backend):
            if len(self) >= self.maxlen:
                raise IndexError("deque already at its maximum size")
            self._backend.list_insert(self._container_id, place, value)

    def add(self, index: Any, delta: Any = 1) -> Any:
        """Add to a number, and return the sum; see `List.add`."""
        return self._at(self._backend.list_add, index, delta)

    # --- All of them --------------------------------------------------------------------------

    def extendleft(self, iterable: Iterable[T], /) -> None:
        """Put all values at the front, one before the other, at once."""
        self._backend.list_extend(self._container_id, list(iterable), True)

    def rotate(self, n: Any = 1, /) -> None:
        """Move `n` values from the end to the front, or with a negative `n` the other way."""
        steps = operator.index(n)
        with single_step(self._backend):
            values = self._plain()
            values.rotate(steps)
            self._rewrite(values)

    def copy(self) -> deque[T]:
        """Return a plain deque; nested containers are plain as well."""
        return self._getvalue()

    def _plain(self) -> deque[T]:
        return deque(self._backend.list_slice(self._container_id, 0, END), self.maxlen)

    def _getvalue(self) -> deque[T]:
        return deque(self._backend.snapshot(self._container_id), self.maxlen)

    # --- Operators ----------------------------------------------------------------------------

    def __add__(self, other: Any) -> deque[Any]:
        if isinstance(other, PLAIN):
            return self._plain() + _plain(other)
        msg = f'can only concatenate deque (not "{type(other).__name__}") to deque'
        raise TypeError(msg)

    def __radd__(self, other: Any) -> deque[Any]:
        return other + self._plain() if isinstance(other, deque) else NotImplemented

    def _repr_items(self, shown: ContainerRepr) -> str:
        most = "" if self.maxlen is None else f", maxlen={self.maxlen}"
        return f"deque([{shown.entries(self)}]{most})"

    def __repr__(self) -> str:
        return f"Deque{str(self).removeprefix('deque')}"


PLAIN = (deque, Deque)
Deque._comparable = PLAIN

if not TYPE_CHECKING:
    MutableSequence.register(Deque)


def _plain(other: deque[Any] | Deque[Any]) -> deque[Any]:
    return other._plain() if isinstance(other, Deque) else other
