"""What lists, deques and arrays have in common: values in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from garrison._typing import Any
from garrison.store._backend import END
from garrison.store.containers._base import Face

__all__ = ["SequenceFace"]


class SequenceFace(Face):
    """Values in a row; iteration walks over a snapshot."""

    __slots__ = ()

    def __len__(self) -> int:
        return self._store.length(self._c)

    def __iter__(self) -> Iterator[Any]:
        return self._scan()

    def _scan(self) -> Iterator[Any]:
        """Walk over the values as they are now."""
        return iter(self._store.scan(self._c, "values"))

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._store.scan(self._c, "values", reverse=True))

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self._scan())

    def index(self, value: Any, start: Any = 0, stop: Any = END, /) -> int:
        """Return where the first is that is equal.

        Raises
        ------
        ValueError
            If there is none.
        """
        found: int = self._plain().index(value, start, stop)
        return found

    def count(self, value: Any, /) -> int:
        """Return how many are equal."""
        number: int = self._plain().count(value)
        return number

    def extend(self, iterable: Iterable[Any], /) -> None:
        """Put all values at the end, at once."""
        self._store.list_extend(self._c, list(iterable))
