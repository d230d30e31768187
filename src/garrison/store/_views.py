"""`keys()`, `values()` and `items()` of a shared mapping.

They follow the mapping as those of a dict do, and iterate over a snapshot. As a manager's of the
standard library are lists, they can be indexed, added and compared with lists besides.
"""

from __future__ import annotations

import types
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

from garrison.store._contract import Scan
from garrison.store._face import _shown

__all__ = ["Items", "Keys", "Values"]


class View:
    """A look at a mapping."""

    __slots__ = ("_face",)
    WHAT: ClassVar[str]

    def __init__(self, face: Any) -> None:
        self._face = face

    @property
    def mapping(self) -> Any:
        """The mapping, to be read only."""
        return types.MappingProxyType(self._face)

    def _scan(self, reverse: bool = False) -> Scan:
        scan: Scan = self._face._store.scan(self._face._c, self.WHAT, reverse)
        return scan

    def __iter__(self) -> Iterator[Any]:
        return iter(self._scan())

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._scan(reverse=True))

    def __len__(self) -> int:
        return len(self._face)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other] if isinstance(other, (list, View)) else NotImplemented

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__: Any = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __repr__(self) -> str:
        return f"dict_{self.WHAT}([{_shown.entries(self._face, self.WHAT, '({}, {})')}])"


class Values(View):
    """The values of a mapping."""

    __slots__ = ()
    WHAT = "values"

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)


class _SetLike(View):
    """Views that are sets as well. What an operator returns is a plain set."""

    __slots__ = ()
    __hash__ = None

    def __contains__(self, entry: object) -> bool:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AbstractSet):
            return set(self) == set(other)
        return super().__eq__(other)

    def __lt__(self, other: Any) -> bool:
        return set(self) < set(other) if isinstance(other, AbstractSet) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return set(self) <= set(other) if isinstance(other, AbstractSet) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return set(self) > set(other) if isinstance(other, AbstractSet) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return set(self) >= set(other) if isinstance(other, AbstractSet) else NotImplemented

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


class Keys(_SetLike):
    """The keys of a mapping."""

    __slots__ = ()
    WHAT = "keys"

    def __contains__(self, key: object) -> bool:
        return key in self._face


class Items(_SetLike):
    """The pairs of a mapping. Set operations need hashable values, as those of a dict do."""

    __slots__ = ()
    WHAT = "items"

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:  # noqa: PLR2004 - a pair
            return False
        found = self._face.get(item[0], _NOTHING)
        return found is item[1] or bool(found == item[1])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AbstractSet):
            return len(self) == len(other) and all(item in other for item in self)
        return View.__eq__(self, other)

    __hash__ = None


_NOTHING = object()

KeysView.register(Keys)
ValuesView.register(Values)
ItemsView.register(Items)
