"""The base classes of lists, deques and arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from garrison._typing import TYPE_CHECKING, Any, ClassVar, TypedBase
from garrison.store._backend import END, RemoteStoreBackend, StoreBackend
from garrison.store._transaction import single_step
from garrison.store.containers._base import Container

__all__ = [
    "GrowingSequence",
    "SequenceContainer",
    "check_index",
    "clamp_slice_bound",
    "update_item",
]

Self = TypeVar("Self", bound="GrowingSequence[Any]")


T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import MutableSequence as MutableSequenceBase
    from collections.abc import Sequence as SequenceBase
    from typing import SupportsIndex
else:
    SequenceBase = MutableSequenceBase = TypedBase(object)


class SequenceContainer(Container, SequenceBase[T]):  # noqa: PLW1641 - each kind decides whether it is hashable
    """A sequence of values; iteration is over a snapshot."""

    __slots__ = ()
    _comparable: ClassVar[tuple[type, ...]]
    """The types that it is compared with: the plain one, and its own."""

    def __len__(self) -> int:
        return self._backend.length(self._container_id)

    def __iter__(self) -> Iterator[T]:
        return self._scan()

    def _scan(self) -> Iterator[Any]:
        """Iterate over a snapshot of the values."""
        return iter(self._backend.scan(self._container_id, "values"))

    def __reversed__(self) -> Iterator[T]:
        return iter(self._backend.scan(self._container_id, "values", reverse=True))

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self._scan())

    def index(self, value: Any, start: Any = 0, stop: Any = END, /) -> int:
        """Return the index of the first value that is equal.

        Raises
        ------
        ValueError
            If there is none.
        """
        found: int = self._plain().index(value, start, stop)
        return found

    def count(self, value: Any, /) -> int:
        """Return the number of equal values."""
        number: int = self._plain().count(value)
        return number

    # --- Comparison ---------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if self._same_container(other):
            return True
        if not isinstance(other, self._comparable):
            return NotImplemented
        return len(self) == len(other) and bool(self._plain() == _plain(other))  # type: ignore[arg-type]

    def __lt__(self, other: Any) -> Any:
        return self._compare(operator.lt, other)

    def __le__(self, other: Any) -> Any:
        return self._compare(operator.le, other)

    def __gt__(self, other: Any) -> Any:
        return self._compare(operator.gt, other)

    def __ge__(self, other: Any) -> Any:
        return self._compare(operator.ge, other)

    def _compare(self, operation: Callable[[Any, Any], Any], other: Any) -> Any:
        if not isinstance(other, self._comparable):
            return NotImplemented
        return operation(self._plain(), _plain(other))


class GrowingSequence(SequenceContainer[T], MutableSequenceBase[T]):
    """A sequence whose length changes: a list or a deque."""

    __slots__ = ()
    _plain_type: ClassVar[Any]

    def append(self, value: T, /) -> None:
        """Put a value at the end."""
        self._backend.list_append(self._container_id, value)

    def extend(self, iterable: Iterable[T], /) -> None:
        """Put all values at the end, at once."""
        self._backend.list_extend(self._container_id, list(iterable))

    def remove(self, value: T, /) -> None:
        """Remove the first value that is equal.

        Raises
        ------
        ValueError
            If there is none.
        """
        with single_step(self._backend):
            for place, each in enumerate(self._scan()):
                if each is value or each == value:
                    self._backend.list_delete(self._container_id, place)
                    return
        self._plain_type().remove(value)  # raises, in the words of this Python

    def update_with(self, index: int, fn: Callable[[T], T]) -> T:
        """Replace a value by what `fn` returns for it, as one step.

        Other writers wait meanwhile, so `fn` should be short. Over a network `fn` is called again
        if another writer came first.

        Parameters
        ----------
        index : int
            The index of the value.
        fn : callable
            Takes the present value, returns the next one.

        Returns
        -------
        object
            The new value.

        Raises
        ------
        IndexError
            If there is no such index.
        """
        new: T = update_item(self, operator.index(index), fn)
        return new

    def clear(self) -> None:
        """Remove everything."""
        self._backend.clear(self._container_id)

    def reverse(self) -> None:
        """Reverse the order."""
        with single_step(self._backend):
            values = self._plain()
            values.reverse()
            self._rewrite(values)

    def _rewrite(self, values: Iterable[Any]) -> None:
        self._backend.list_replace(self._container_id, 0, END, list(values))

    def __iadd__(self: Self, other: Any) -> Self:
        self.extend(other)
        return self

    def __mul__(self, times: SupportsIndex) -> Any:
        return self._plain() * times

    __rmul__ = __mul__

    def __imul__(self, times: Any) -> Any:  # type: ignore[misc] # __mul__ returns a plain one
        if not hasattr(times, "__index__"):
            return NotImplemented
        count = operator.index(times)
        if count <= 0:
            self.clear()
        elif count > 1:
            with single_step(self._backend):
                values = self._backend.list_slice(self._container_id, 0, END)
                self._backend.list_extend(self._container_id, values * (count - 1))
        return self


def _plain(other: Any) -> Any:
    return other._plain() if isinstance(other, SequenceContainer) else other


# --- Indexes ----------------------------------------------------------------------------------


def check_index(index: Any) -> int:
    """Return an index to insert at; one far beyond the ends is an error, as in a list."""
    place = operator.index(index)
    if not -END <= place <= END:
        raise OverflowError("Python int too large to convert to C ssize_t")
    return place


def clamp_slice_bound(bound: Any) -> int:
    """Return a bound of a slice that the backend can take."""
    try:
        number = operator.index(bound)
    except TypeError:
        msg = "slice indices must be integers or None or have an __index__ method"
        raise TypeError(msg) from None
    return max(-END, min(number, END))


# --- Updates with a function ------------------------------------------------------------------


def update_item(container: Container, index: int, fn: Callable[[Any], Any]) -> Any:
    """Replace one value by what `fn` returns for it; return that."""
    backend, c = container._backend, container._container_id
    if getattr(backend, "optimistic", False) and not backend.in_transaction:
        remote: Any = backend
        return _update_optimistically(remote, c, index, fn)
    return _update_in_transaction(backend, c, index, fn)


def _update_in_transaction(
    backend: StoreBackend, c: int, index: int, fn: Callable[[Any], Any]
) -> Any:
    with single_step(backend):
        old = backend.list_get(c, index)
        new = fn(old)
        if new is not old or not isinstance(new, Container):
            backend.list_set(c, index, new)
    return new


def _update_optimistically(
    backend: RemoteStoreBackend, c: int, index: int, fn: Callable[[Any], Any]
) -> Any:
    """As `_update_in_transaction`, without a transaction: repeated if another writer came first."""
    while True:
        found = backend.list_encoded(c, index)
        old = backend.decode(found)
        if isinstance(old, Container):  # its contents may change while it stays the same value
            return _update_in_transaction(backend, c, index, fn)
        new = fn(old)
        if backend.list_compare_and_set(c, index, found, backend.encode(new)):
            return new
