"""`keys()` and `items()` of a shared mapping.

They are lists, as those of a standard manager, with the set operators of a dict's views.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TypeVar

from garrison._typing import Any, ClassVar

__all__ = ["Items", "Keys"]


T = TypeVar("T")


class SetLike(list[T]):
    """A list without duplicates. Set operations need hashable entries, as those of a dict do."""

    __slots__ = ()
    __hash__: ClassVar[None] = None

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AbstractSet):
            return len(self) == len(other) and all(each in other for each in self)
        return list.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        return set(self) < set(other) if isinstance(other, AbstractSet) else super().__lt__(other)

    def __le__(self, other: Any) -> bool:
        return set(self) <= set(other) if isinstance(other, AbstractSet) else super().__le__(other)

    def __gt__(self, other: Any) -> bool:
        return set(self) > set(other) if isinstance(other, AbstractSet) else super().__gt__(other)

    def __ge__(self, other: Any) -> bool:
        return set(self) >= set(other) if isinstance(other, AbstractSet) else super().__ge__(other)

    def __and__(self, other: Any) -> set[Any]:
        return set(self).intersection(other)

    def __or__(self, other: Any) -> set[Any]:
        return set(self).union(other)

    def __sub__(self, other: Any) -> set[Any]:
        return set(self).difference(other)

    def __xor__(self, other: Any) -> set[Any]:
        return set(self).symmetric_difference(other)

    __rand__ = __and__
    __ror__ = __or__
    __rxor__ = __xor__

    def __rsub__(self, other: Any) -> set[Any]:
        return set(other).difference(self)

    def isdisjoint(self, other: Any) -> bool:
        """Return whether nothing is in both."""
        return set(self).isdisjoint(other)


class Keys(SetLike[T]):
    """The keys of a mapping."""

    __slots__ = ()


class Items(SetLike[T]):
    """The pairs of a mapping."""

    __slots__ = ()
