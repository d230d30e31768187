"""What lists, deques and arrays have in common: values in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from garrison._typing import Any
from garrison.store._backend import END
from garrison.store.containers._base import Container

__all__ = ["SequenceContainer"]


class SequenceContainer(Container):
    """Values in a row; iteration walks over a snapshot."""

    __slots__ = ()

    def __len__(self) -> int:
        return self._backend.length(self._container_id)

    def __iter__(self) -> Iterator[Any]:
        return self._scan()

    def _scan(self) -> Iterator[Any]:
        """Walk over the values as they are now."""
        return iter(self._backend.scan(self._container_id, "values"))

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._backend.scan(self._container_id, "values", reverse=True))

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
        self._backend.list_extend(self._container_id, list(iterable))
