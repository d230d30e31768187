"""Iteration over a container of a store on a Valkey server."""

from __future__ import annotations

import itertools
from collections import deque
from typing import NamedTuple

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ValueUnreadable
from garrison.manager.valkey._values import MAPPINGS
from garrison.store import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.manager.valkey._backend import ValkeyBackend

__all__ = ["ValkeyScan", "large_snapshot"]

ENTRIES_PER_SCRIPT = 4096
"""While a script runs, the server does nothing else."""
TRIES = 8


def large_snapshot(backend: ValkeyBackend, c: int, kind: int, limit: int) -> Any:
    """Return the plain object of a container that has no other one in it, read in parts."""
    if kind == Kind.SET:
        return set(backend.dict_entries(c, "keys"))
    if kind in MAPPINGS:
        return dict(backend.dict_entries(c, "items"))
    items = backend.dict_entries(c, "values")
    if kind == Kind.DEQUE:
        return deque(items, None if limit < 0 else limit)
    return items


class _Part(NamedTuple):
    """Some entries of a container, in its order: the items of a sequence, or keys and values."""

    version: bytes
    length: int
    items: list[bytes] | None
    keys: list[bytes]
    originals: list[bytes | None] | None
    values: list[bytes] | None


class ValkeyScan:
    """The entries of a container as they were when the scan began.

    They are read some at a time, and again from the start if the container has changed meanwhile;
    if it changes always, all in one script. They are decoded when they are asked for.
    """

    def __init__(self, backend: ValkeyBackend, c: int, what: str, reverse: bool = False) -> None:
        self._backend, self._number = backend, c
        self._with_values = int(what != "keys")
        self._entries = self._decoded(self._read_whole(), what, reverse)

    # -- reading ----------------------------------------------------------------------------------

    def _read_whole(self) -> list[_Part]:
        for _ in range(TRIES):
            found = self._read_in_parts()
            if found:
                return found
        return [self._read(0, 1 << 40)]

    def _read_in_parts(self) -> list[_Part]:
        """Return all parts; none if the container has changed meanwhile."""
        parts = [self._read(0, ENTRIES_PER_SCRIPT)]
        for place in range(ENTRIES_PER_SCRIPT, parts[0].length, ENTRIES_PER_SCRIPT):
            parts.append(self._read(place, ENTRIES_PER_SCRIPT))
            if parts[-1].version != parts[0].version:
                return []
        return parts

    def _read(self, place: int, count: int) -> _Part:
        version, length, items, *mapping = self._backend.run(
            "scan", self._number, place, count, self._with_values
        )
        return _Part(version, length, items, *(mapping or ([], None, None)))

    # -- decoding ---------------------------------------------------------------------------------

    def _decoded(self, parts: list[_Part], what: str, reverse: bool) -> Iterator[Any]:
        order = -1 if reverse else 1
        hooks = itertools.repeat(self._backend.hooks)
        if parts[0].items is not None:
            items = [each for part in parts for each in part.items or ()]
            self._check(parts[0], items)
            return map(_core.decode_value, items[::order], hooks)
        found = [each for part in parts for each in part.keys]
        self._check(parts[0], found)
        originals = [each or b"" for part in parts for each in _column(part, part.originals)]
        keys = map(_core.decode_key, found[::order], originals[::order], hooks)
        if what == "keys":
            return keys
        stored = [each for part in parts for each in part.values or ()]
        values: Iterator[Any] = map(_core.decode_value, stored[::order], hooks)
        if parts[0].values is None:  # a set
            values = iter([None] * len(found))
        else:
            self._check(parts[0], stored)
        return values if what == "values" else zip(keys, values, strict=True)

    def _check(self, part: _Part, column: list[bytes]) -> None:
        """Raise unless there is something for each entry."""
        if len(column) != part.length or None in column:
            raise self._backend.values.corrupt(f"container {self._number} has lost entries")

    def next(self, n: int, /) -> list[Any]:
        """Return the next entries, so many at most."""
        try:
            return list(itertools.islice(self._entries, n))
        except ValueUnreadable:
            raise
        except (ValueError, TypeError, LookupError) as error:
            raise self._backend.values.corrupt(f"an entry: {error}") from error

    def close(self) -> None:
        """Drop what was read."""
        self._entries = iter(())

    def __iter__(self) -> ValkeyScan:
        return self

    def __next__(self) -> Any:
        found = self.next(1)
        if not found:
            raise StopIteration
        return found[0]


def _column(part: _Part, column: list[bytes | None] | None) -> list[bytes | None]:
    return [None] * len(part.keys) if column is None else column
