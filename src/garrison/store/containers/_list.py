"""`List`: a list that processes share."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, MutableSequence
from typing import cast

from garrison._standard import managers
from garrison._typing import Any, NoReturn
from garrison.store._backend import END, Kind, RemoteStoreBackend, StoreBackend
from garrison.store._transaction import single_step
from garrison.store.containers._base import Container, ContainerRepr
from garrison.store.containers._sequence import SequenceContainer

__all__ = ["List"]


class List(SequenceContainer, managers.ListProxy):
    """A list in shared memory; nested containers are live.

    Every method is one atomic step, in-place operators and `sort` too. Iteration sees what becomes
    of the list, as that of a plain one; over a network it walks over a snapshot. A dict, list, set
    or deque that is stored becomes a container of its own: ``l.append([])`` and then
    ``l[0].append(1)`` is not lost. What `pop` returns is plain.

    Parameters
    ----------
    store
        The backend.
    c : int
        The container's number.
    """

    __slots__ = ()
    __module__ = "garrison.store"
    _kind = Kind.LIST.value
    _proxy_name = "ListProxy"
    _typeid = "list"
    __hash__ = Container.__hash__

    def __iter__(self) -> Iterator[Any]:
        # As a plain one: what is changed meanwhile is seen. Over a network each look would be a
        # request, so there it is one state that is walked over.
        walk: Any = getattr(self._backend, "walk", None)
        return self._scan() if walk is None else iter(walk(self._container_id))

    # --- One item -----------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        if type(index) is slice:
            return _cut(self, index)
        try:
            return self._backend.list_get(self._container_id, index)
        except (TypeError, OverflowError) as error:
            return self._backend.list_get(self._container_id, _position(index, error))

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is slice:
            _replace(self, index, value)
            return
        try:
            self._backend.list_set(self._container_id, index, value)
        except (TypeError, OverflowError) as error:
            self._backend.list_set(self._container_id, _position(index, error), value)

    def __delitem__(self, index: Any) -> None:
        if type(index) is slice:
            _delete(self, index)
            return
        try:
            self._backend.list_delete(self._container_id, index)
        except (TypeError, OverflowError) as error:
            self._backend.list_delete(self._container_id, _position(index, error))

    def append(self, value: Any) -> None:
        """Put a value at the end."""
        self._backend.list_append(self._container_id, value)

    def insert(self, index: Any, value: Any, /) -> None:
        """Put a value before the one at `index`."""
        self._backend.list_insert(self._container_id, check_index(index), value)

    def pop(self, index: Any = -1, /) -> Any:
        """Remove and return a value; a nested container comes as a plain copy.

        Raises
        ------
        IndexError
            If there is none.
        """
        return self._backend.list_pop(self._container_id, check_index(index))

    def remove(self, value: Any, /) -> None:
        """Remove the first that is equal.

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
        list[Any]().remove(value)  # raises, in the words of this Python

    def add(self, index: Any, delta: Any = 1) -> Any:
        """Add to a number, and return the sum.

        Raises
        ------
        IndexError
            If there is no such index.
        TypeError
            If one of the two is neither `int` nor `float`.
        """
        return self._backend.list_add(self._container_id, operator.index(index), delta)

    def update_with(self, index: Any, fn: Callable[[Any], Any]) -> Any:
        """Replace a value by what `fn` makes of it, and return that, as one step.

        Others that write wait meanwhile, so `fn` should be short. Across a network it is called
        again if somebody else came first.

        Raises
        ------
        IndexError
            If there is no such index.
        """
        return update_item(self, operator.index(index), fn)

    # --- All of them --------------------------------------------------------------------------

    def clear(self) -> None:
        """Remove everything."""
        self._backend.clear(self._container_id)

    def reverse(self) -> None:
        """Turn the order around."""
        with single_step(self._backend):
            self._rewrite(self._plain()[::-1])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort, stable, as one step: others that write wait until it is done."""
        with single_step(self._backend):
            self._rewrite(sorted(self._plain(), key=key, reverse=reverse))

    def copy(self) -> list[Any]:
        """Return a plain list; nested containers are plain as well."""
        plain: list[Any] = self._getvalue()
        return plain

    def _plain(self) -> list[Any]:
        return self._backend.list_slice(self._container_id, 0, END)

    def _rewrite(self, values: list[Any]) -> None:
        self._backend.list_replace(self._container_id, 0, END, values)

    # --- Operators ----------------------------------------------------------------------------

    def __add__(self, other: Any) -> list[Any]:
        return self._plain() + _plain(other, "list")

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self._plain()] if isinstance(other, list) else NotImplemented

    def __iadd__(self, other: Any) -> Any:
        self.extend(other)
        return self

    def __mul__(self, times: int) -> list[Any]:
        return self._plain() * times

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Any:
        return repeat_in_place(self, times)

    def __eq__(self, other: object) -> bool:
        if self._same_container(other):
            return True
        if not isinstance(other, (list, List)):
            return NotImplemented
        return len(self) == len(other) and self._plain() == _plain(other)

    def __lt__(self, other: Any) -> bool:
        return self._plain() < _plain(other) if isinstance(other, (list, List)) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return self._plain() <= _plain(other) if isinstance(other, (list, List)) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self._plain() > _plain(other) if isinstance(other, (list, List)) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return self._plain() >= _plain(other) if isinstance(other, (list, List)) else NotImplemented

    def _repr_items(self, shown: ContainerRepr) -> str:
        return f"[{shown.entries(self)}]"


MutableSequence.register(List)


def _plain(other: Any, needed: str = "") -> list[Any]:
    if isinstance(other, List):
        return other._plain()
    if needed and not isinstance(other, list):
        msg = f'can only concatenate {needed} (not "{type(other).__name__}") to {needed}'
        raise TypeError(msg)
    return cast("list[Any]", other)


# --- Indexes that are no plain numbers --------------------------------------------------------


def _position(index: Any, error: Exception) -> int:
    """Return what the backend could not take as an index; raise what a list raises."""
    if type(index) is int:
        if not -END <= index <= END:
            _too_big()
        raise error  # it was about the value
    if not hasattr(index, "__index__"):
        msg = f"list indices must be integers or slices, not {type(index).__name__}"
        raise TypeError(msg) from None
    number = operator.index(index)
    if not -END <= number <= END:
        _too_big()
    return number


def _too_big() -> NoReturn:
    raise IndexError("cannot fit 'int' into an index-sized integer") from None


# --- Slices -----------------------------------------------------------------------------------


def _cut(face: List, index: slice) -> list[Any]:
    if index.step is None:
        start = 0 if index.start is None else clamp_slice_bound(index.start)
        stop = END if index.stop is None else clamp_slice_bound(index.stop)
        return face._backend.list_slice(face._container_id, start, stop)
    return face._plain()[index]


def clamp_slice_bound(bound: Any) -> int:
    """Return a bound of a slice as the backend can take it."""
    try:
        number = operator.index(bound)
    except TypeError:
        msg = "slice indices must be integers or None or have an __index__ method"
        raise TypeError(msg) from None
    return max(-END, min(number, END))


def _replace(face: List, index: slice, values: Any) -> None:
    # What is no iterable is left to the plain list, to raise in the words of this Python.
    new = list(values) if _iterable(values) else values
    if index.step is None or index.step == 1:
        [][:] = new
        with single_step(face._backend):
            start, stop, _ = index.indices(len(face))
            face._backend.list_replace(face._container_id, start, max(start, stop), new)
        return
    with single_step(face._backend):
        whole = face._plain()
        whole[index] = new
        face._rewrite(whole)


def _iterable(values: Any) -> bool:
    try:
        iter(values)
    except TypeError:
        return False
    return True


def _delete(face: List, index: slice) -> None:
    with single_step(face._backend):
        if index.step is None or index.step == 1:
            start, stop, _ = index.indices(len(face))
            face._backend.list_replace(face._container_id, start, max(start, stop), [])
            return
        whole = face._plain()
        del whole[index]
        face._rewrite(whole)


# --- Shared with other sequences --------------------------------------------------------------


def check_index(index: Any) -> int:
    """Return an index to insert at; far beyond the ends is an error even so, as in a list."""
    place = operator.index(index)
    if not -END <= place <= END:
        raise OverflowError("Python int too large to convert to C ssize_t")
    return place


def repeat_in_place(face: Any, times: Any) -> Any:
    """Do ``face *= times``: its values that often, one after the other."""
    if not hasattr(times, "__index__"):
        return NotImplemented
    count = operator.index(times)
    if count <= 0:
        face.clear()
    elif count > 1:
        with single_step(face._backend):
            values = face._backend.list_slice(face._container_id, 0, END)
            face._backend.list_extend(face._container_id, values * (count - 1))
    return face


def update_item(face: Any, index: int, fn: Callable[[Any], Any]) -> Any:
    """Replace one value by what `fn` makes of it; return that."""
    store, c = face._backend, face._container_id
    if getattr(store, "optimistic", False) and not store.in_transaction:
        return _update_optimistically(store, c, index, fn)
    return _update_in_transaction(store, c, index, fn)


def _update_in_transaction(
    store: StoreBackend, c: int, index: int, fn: Callable[[Any], Any]
) -> Any:
    with single_step(store):
        old = store.list_get(c, index)
        new = fn(old)
        if new is not old or not isinstance(new, Container):
            store.list_set(c, index, new)
    return new


def _update_optimistically(
    store: RemoteStoreBackend, c: int, index: int, fn: Callable[[Any], Any]
) -> Any:
    """As `_update_in_transaction`, but nobody has to wait: again if somebody else came first."""
    while True:
        found = store.list_encoded(c, index)
        old = store.decode(found)
        if isinstance(old, Container):  # whose contents may change, and it is still the same
            return _update_in_transaction(store, c, index, fn)
        new = fn(old)
        if store.list_compare_and_set(c, index, found, store.encode(new)):
            return new
