"""`Set`: a set that processes share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from collections.abc import Set as AbstractSet
from typing import TypeVar

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, ClassVar, TypedBase
from garrison.store._backend import Kind
from garrison.store._transaction import transaction
from garrison.store.containers._base import Container, ContainerRepr

__all__ = ["Set"]

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import MutableSet as SetBase
else:
    SetBase = TypedBase(getattr(managers, "SetProxy", managers.BaseProxy))  # since Python 3.14


class Set(Container, SetBase[T]):
    """A set that processes share: ``manager.set()``.

    Every method is one atomic step, in-place operators too. Iteration walks over a snapshot, in
    order of insertion. Members are equal as in a set.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     seen = manager.set("ab")
    ...     seen.add("c")
    ...     print(sorted(seen), "a" in seen)
    ['a', 'b', 'c'] True
    """

    __slots__ = ()
    __module__ = "garrison.store"
    _kind = Kind.SET.value
    _proxy_name = "SetProxy"
    _typeid = "set"
    _recursive_repr = "{...}"
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    # --- One member ---------------------------------------------------------------------------

    def __contains__(self, member: object) -> bool:
        try:
            return self._backend.dict_contains(self._container_id, member)
        except TypeError:
            return self._backend.dict_contains(self._container_id, _frozen(member))

    def add(self, member: T, /) -> None:
        """Add a member."""
        self._backend.set_add(self._container_id, member)

    def discard(self, member: T, /) -> None:
        """Remove a member if it is there."""
        self._discard(member)

    def remove(self, member: T, /) -> None:
        """Remove a member.

        Raises
        ------
        KeyError
            If it is not there.
        """
        if not self._discard(member):
            raise KeyError(member)

    def _discard(self, member: Any) -> bool:
        try:
            return self._backend.set_discard(self._container_id, member)
        except TypeError:
            return self._backend.set_discard(self._container_id, _frozen(member))

    def pop(self) -> T:
        """Remove and return the oldest member.

        Raises
        ------
        KeyError
            If the set is empty.
        """
        try:
            return self._backend.dict_popitem(self._container_id, False)[0]  # type: ignore[no-any-return]
        except KeyError:
            raise KeyError("pop from an empty set") from None

    # --- All of them --------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._backend.length(self._container_id)

    def __iter__(self) -> Iterator[T]:
        return iter(self._backend.scan(self._container_id, "keys"))

    def clear(self) -> None:
        """Remove everything."""
        self._backend.clear(self._container_id)

    def copy(self) -> set[T]:
        """Return a plain set."""
        return self._plain()

    def _plain(self) -> set[T]:
        return set(self._backend.scan(self._container_id, "keys"))

    def update(self, *others: Iterable[T]) -> None:
        """Add all members of all others, at once."""
        members = [member for other in others for member in other]
        with transaction(self._backend):
            self._change(members, ())

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove all members of all others, at once."""
        members = set().union(*others)
        with transaction(self._backend):
            self._change((), members)

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep the members that are in all others too."""
        plain = [_plain(other) for other in others]
        with transaction(self._backend):
            mine = self._plain()
            self._change((), mine - mine.intersection(*plain))

    def symmetric_difference_update(self, other: Iterable[Any], /) -> None:
        """Add the members of the other only, remove those of both."""
        theirs = set(other)
        with transaction(self._backend):
            mine = self._plain()
            self._change(theirs - mine, theirs & mine)

    def _change(self, new: Iterable[Any], gone: Iterable[Any]) -> None:
        backend, c = self._backend, self._container_id
        for member in new:
            backend.set_add(c, member)
        for member in gone:
            backend.set_discard(c, member)

    def union(self, *others: Iterable[Any]) -> set[Any]:
        """Return a plain set of all members of all."""
        return self._plain().union(*others)

    def intersection(self, *others: Iterable[Any]) -> set[Any]:
        """Return a plain set of the members of all."""
        return self._plain().intersection(*others)

    def difference(self, *others: Iterable[Any]) -> set[Any]:
        """Return a plain set of the members that are in none of the others."""
        return self._plain().difference(*others)

    def symmetric_difference(self, other: Iterable[Any], /) -> set[Any]:
        """Return a plain set of the members of one of the two only."""
        return self._plain().symmetric_difference(other)

    def isdisjoint(self, other: Iterable[Any], /) -> bool:
        """Return whether the two have no member in common."""
        return self._plain().isdisjoint(other)

    def issubset(self, other: Iterable[Any], /) -> bool:
        """Return whether all members are in the other."""
        return self._plain().issubset(other)

    def issuperset(self, other: Iterable[Any], /) -> bool:
        """Return whether all members of the other are here."""
        return self._plain().issuperset(other)

    # --- Operators: between sets of any kind --------------------------------------------------

    def __or__(self, other: Any) -> set[Any]:
        return self.union(other) if isinstance(other, AbstractSet) else NotImplemented

    __ror__ = __or__

    def __and__(self, other: Any) -> set[Any]:
        return self.intersection(other) if isinstance(other, AbstractSet) else NotImplemented

    __rand__ = __and__

    def __sub__(self, other: Any) -> set[Any]:
        return self.difference(other) if isinstance(other, AbstractSet) else NotImplemented

    def __rsub__(self, other: Any) -> set[Any]:
        return set(other) - self._plain() if isinstance(other, AbstractSet) else NotImplemented

    def __xor__(self, other: Any) -> set[Any]:
        return (
            self.symmetric_difference(other) if isinstance(other, AbstractSet) else NotImplemented
        )

    __rxor__ = __xor__

    def __ior__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.update(other)
        return self

    def __iand__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.intersection_update(other)
        return self

    def __isub__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.difference_update(other)
        return self

    def __ixor__(self, other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        self.symmetric_difference_update(other)
        return self

    def __eq__(self, other: object) -> bool:
        if self._same_container(other):
            return True
        return self._plain() == _plain(other) if isinstance(other, AbstractSet) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return self._plain() < _plain(other) if isinstance(other, AbstractSet) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return self._plain() <= _plain(other) if isinstance(other, AbstractSet) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self._plain() > _plain(other) if isinstance(other, AbstractSet) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return self._plain() >= _plain(other) if isinstance(other, AbstractSet) else NotImplemented

    def _repr_items(self, shown: ContainerRepr) -> str:
        entries = shown.entries(self, "keys")
        return f"{{{entries}}}" if entries else "set()"


if not TYPE_CHECKING:
    MutableSet.register(Set)


def _plain(other: Iterable[Any]) -> set[Any]:
    return set(other)


def _frozen(member: Any) -> frozenset[Any]:
    """Return a set as a frozenset, as sets do when they look for a member."""
    if not isinstance(member, (set, Set)):
        raise  # noqa: PLE0704 - what the backend said
    return frozenset(member)
