"""`List`: a list that processes share."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from typing import TypeVar, cast, overload

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, NoReturn, TypedBase
from garrison.store._backend import END, Kind
from garrison.store._transaction import single_step
from garrison.store.containers._base import Container, ContainerRepr
from garrison.store.containers._sequence import GrowingSequence, check_index, clamp_slice_bound

__all__ = ["List"]


T = TypeVar("T")

if TYPE_CHECKING:
    from multiprocessing.managers import ListProxy as ListBase
    from typing import SupportsIndex
else:
    ListBase = TypedBase(managers.ListProxy)


class List(GrowingSequence[T], ListBase[T]):
    """A list that processes share: ``manager.list()``. Nested containers are shared too.

    Every method is one atomic step, in-place operators and `sort` too. Iteration shows
    changes made meanwhile, as that of a plain list; over a network it walks over a snapshot. A
    dict, list, set or deque that is stored becomes a container of its own: ``l.append([])`` and
    then ``l[0].append(1)`` is not lost. What `pop` returns is plain.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     jobs = manager.list(["b", "a"])
    ...     jobs.append(["nested"])
    ...     jobs[-1].append("too")
    ...     print(jobs, jobs[0])
    ['b', 'a', ['nested', 'too']] b
    """

    __slots__ = ()
    __module__ = "garrison.store"
    _kind = Kind.LIST.value
    _proxy_name = "ListProxy"
    _typeid = "list"
    _plain_type = list
    __hash__ = Container.__hash__

    def __iter__(self) -> Iterator[T]:
        # As a plain list, it shows changes made meanwhile. Over a network each item would be a
        # request, so there it iterates over a snapshot.
        walk: Any = getattr(self._backend, "walk", None)
        return self._scan() if walk is None else iter(walk(self._container_id))

    # --- One item -----------------------------------------------------------------------------

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: Any) -> Any:
        if type(index) is slice:
            return _cut(self, index)
        try:
            return self._backend.list_get(self._container_id, index)
        except (TypeError, OverflowError) as error:
            return self._backend.list_get(self._container_id, _position(index, error))

    @overload
    def __setitem__(self, index: SupportsIndex, value: T) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[T]) -> None: ...
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

    def insert(self, index: SupportsIndex, value: T, /) -> None:
        """Put a value before the one at `index`."""
        self._backend.list_insert(self._container_id, check_index(index), value)

    def pop(self, index: SupportsIndex = -1, /) -> T:
        """Remove and return a value; a nested container comes as a plain copy.

        Raises
        ------
        IndexError
            If there is none.
        """
        value: T = self._backend.list_pop(self._container_id, check_index(index))
        return value

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

    # --- All of them --------------------------------------------------------------------------

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort, stable, as one step. Other writers wait meanwhile."""
        with single_step(self._backend):
            self._rewrite(sorted(self._plain(), key=key, reverse=reverse))

    def copy(self) -> list[T]:
        """Return a plain list; nested containers are plain as well."""
        plain: list[T] = self._getvalue()
        return plain

    def _plain(self) -> list[T]:
        return self._backend.list_slice(self._container_id, 0, END)

    # --- Operators ----------------------------------------------------------------------------

    def __add__(self, other: Any) -> list[Any]:
        return self._plain() + _plain(other, "list")

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self._plain()] if isinstance(other, list) else NotImplemented

    def _repr_items(self, shown: ContainerRepr) -> str:
        return f"[{shown.entries(self)}]"


List._comparable = (list, List)

if not TYPE_CHECKING:
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
    """Return an index that the backend did not take; raise the error of a list."""
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


def _cut(container: List[Any], index: slice) -> list[Any]:
    if index.step is None:
        start = 0 if index.start is None else clamp_slice_bound(index.start)
        stop = END if index.stop is None else clamp_slice_bound(index.stop)
        return container._backend.list_slice(container._container_id, start, stop)
    return container._plain()[index]


def _replace(container: List[Any], index: slice, values: Any) -> None:
    # The plain list raises for what is no iterable, in the words of this Python.
    new = list(values) if _iterable(values) else values
    if index.step is None or index.step == 1:
        [][:] = new
        with single_step(container._backend):
            start, stop, _ = index.indices(len(container))
            container._backend.list_replace(container._container_id, start, max(start, stop), new)
        return
    with single_step(container._backend):
        whole = container._plain()
        whole[index] = new
        container._rewrite(whole)


def _iterable(values: Any) -> bool:
    try:
        iter(values)
    except TypeError:
        return False
    return True


def _delete(container: List[Any], index: slice) -> None:
    with single_step(container._backend):
        if index.step is None or index.step == 1:
            start, stop, _ = index.indices(len(container))
            container._backend.list_replace(container._container_id, start, max(start, stop), [])
            return
        whole = container._plain()
        del whole[index]
        container._rewrite(whole)
