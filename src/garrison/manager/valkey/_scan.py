"""Iteration over a container of a store on a Valkey server."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.valkey._backend import ValkeyBackend

__all__ = ["ValkeyScan"]

ENTRIES_PER_SCRIPT = 4096
"""While a script runs, the server does nothing else."""
TRIES = 8


class ValkeyScan:
    """The entries of a container as they were when the scan began.

    They are read some at a time, and again from the start if the container has changed meanwhile;
    if it changes always, all in one script. They are decoded when they are asked for.
    """

    def __init__(self, backend: ValkeyBackend, c: int, what: str, reverse: bool) -> None:
        self._backend, self._number = backend, c
        self._with_values = what != "keys"
        width, read, is_mapping = self._read_whole()
        self._decode = self._decoder(what, width if is_mapping else 0)
        entries = [read[i : i + width] for i in range(0, len(read), width)] if width > 1 else read
        if reverse:
            entries.reverse()
        self._entries = iter(entries)

    def _read_whole(self) -> tuple[int, list[Any], bool]:
        for tries in range(TRIES + 1):
            found = self._read_in_parts(ENTRIES_PER_SCRIPT if tries < TRIES else 1 << 40)
            if found is not None:
                return found
        raise AssertionError  # one script reads all

    def _read_in_parts(self, size: int) -> tuple[int, list[Any], bool] | None:
        """Return the length of an entry, and all entries; None if they have changed meanwhile."""
        begun: bytes
        begun, count, width, *read = self._read_part(0, size)
        for place in range(size, count, size):
            version, _, _, *entries = self._read_part(place, size)
            if version != begun:
                return None
            read += entries
        if len(read) != count * width:
            raise self._backend.values.corrupt(f"container {self._number} has lost entries")
        return width, read, width > 1

    def _read_part(self, place: int, size: int) -> list[Any]:
        """Return the change count, the number of entries, the parts of one, and some entries."""
        found: list[Any] = self._backend.run(
            "scan", self._number, place, size, int(self._with_values)
        )
        return found

    def _decoder(self, what: str, width: int) -> Callable[[Any], Any]:
        values = self._backend.values
        decode, decode_key = values.decode, values.decode_key
        if not width:
            return decode
        if what == "keys":
            return lambda entry: decode_key(*entry[:2])
        if what == "values":
            return lambda entry: None if entry[2] is None else decode(entry[2])

        def pair(entry: list[Any]) -> tuple[Any, Any]:
            return decode_key(*entry[:2]), None if entry[2] is None else decode(entry[2])

        return pair

    def next(self, n: int, /) -> list[Any]:
        """Return the next entries, so many at most."""
        return [self._decode(entry) for _, entry in zip(range(n), self._entries, strict=False)]

    def close(self) -> None:
        """Drop what was read."""
        self._entries = iter(())

    def __iter__(self) -> ValkeyScan:
        return self

    def __next__(self) -> Any:
        return self._decode(next(self._entries))
