"""What `imap` has under way: items that share a cell, and then their results."""

from __future__ import annotations

from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _encoding

if TYPE_CHECKING:
    from garrison import _core

__all__ = ["Batch", "Whole"]

AT_ONCE = 256
"""Results that are rebuilt together."""
LARGEST = 4096
"""Results that are kept in one batch."""


class Whole:
    """One outcome as it was taken from a cell: of its only item, or of all that it stands for."""

    __slots__ = ("_taken", "_value")

    def __init__(self, taken: tuple[Any, ...] | None, value: Any = None) -> None:
        self._taken, self._value = taken, value

    def decode(self, engine: Any) -> Any:
        """Rebuild the result, or a `Raise`."""
        if self._taken is not None:
            success, value, _ = engine.decode(self._taken)
            self._value = value if success else _encoding.Raise(value)
            self._taken = None
        return self._value


_NOTHING: tuple[int, deque[Any]] = (0, deque())


class Batch:
    """Items that share a cell, then their results."""

    __slots__ = ("_read", "count", "entries", "items", "known", "size", "ticket", "turn")

    def __init__(self, items: list[Any], count: int, ticket: _core.Ticket | None = None) -> None:
        self.items = items
        """What can be submitted again; nothing if the batch is one item."""
        self.count = count
        """Results that are still to come out of it; set when it is taken."""
        self.ticket: Any = ticket
        self.known = 0
        """Results of the cell's first items, which another batch has taken over."""
        self.entries: list[Any] | None = None
        """What was taken from the cell, item by item."""
        self.size = 0
        """Bytes of it."""
        self.turn = 0
        """Its place among those that were taken."""
        self._read = _NOTHING
        """How many entries were rebuilt, and those results that were not handed out."""

    @classmethod
    def failed(cls, error: BaseException, count: int = 1) -> Batch:
        """Return a batch whose items all have this outcome already."""
        batch = cls([], count)
        batch.entries = [Whole(None, _encoding.Raise(error))] * count
        return batch

    @classmethod
    def joined(cls, first: Batch, second: Batch) -> Batch:
        """Return one batch with the results of both, of which none was handed out."""
        batch = cls([], first.count + second.count)
        batch.entries = [*(first.entries or ()), *(second.entries or ())]
        batch.size, batch.turn = first.size + second.size, second.turn
        return batch

    @property
    def taken(self) -> bool:
        """Whether the results are here, and the cell is free."""
        return self.entries is not None

    @property
    def ended(self) -> bool:
        """Whether the results are there."""
        ticket = self.ticket
        return ticket is None or ticket.ended()

    @property
    def settled(self) -> bool:
        """Whether nothing of it can have to be submitted again."""
        return self.entries is not None or not self.items

    @property
    def untouched(self) -> bool:
        """Whether none of its results was rebuilt."""
        return not self._read[0]

    @property
    def left(self) -> int:
        """Results that were not handed out."""
        read, values = self._read
        return self.count - read + len(values)

    def close(self, entries: list[Any], size: int, turn: int) -> None:
        """Keep what was taken from the cell, and let go of the cell."""
        self.items, self.count, self.size, self.turn = [], len(entries), size, turn
        self.entries = entries
        # Last: other threads ask whether it has ended.
        self.ticket = None

    @property
    def has_more(self) -> bool:
        """Whether there are results that were not handed out."""
        read, values = self._read
        return self.entries is not None and (read < self.count or bool(values))

    def results(self, engine: Any) -> deque[Any]:
        """Rebuild the next results, of which there are some: code of the user runs."""
        read, values = self._read
        if values or self.entries is None:
            return values
        some = self.entries[read : read + AT_ONCE]
        # One store: an interrupt loses nothing and doubles nothing.
        self._read = (read + len(some), deque(_decoded(engine, some)))
        return self._read[1]


def _decoded(engine: Any, entries: list[Any]) -> list[Any]:
    if len(entries) == 1 and type(entries[0]) is Whole:
        return [entries[0].decode(engine)]
    if not any(type(entry) is Whole for entry in entries):
        values: list[Any] = engine.decode_entries(entries)
        return values
    return [
        entry.decode(engine) if type(entry) is Whole else engine.decode_entries([entry])[0]
        for entry in entries
    ]
