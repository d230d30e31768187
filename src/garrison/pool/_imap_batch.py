"""A batch of `imap`: items that share a cell, and then their results."""

from __future__ import annotations

from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._encoding import ItemError

if TYPE_CHECKING:
    from garrison.pool._backend import Backend, TaskHandle

__all__ = ["Batch", "CellOutcome"]

DECODED_TOGETHER = 256
"""Results that are rebuilt together."""
MAX_RESULTS = 4096
"""Results of one batch."""


class CellOutcome:
    """The outcome of a whole cell: of its only item, or of all items of a chunk."""

    __slots__ = ("_raw", "_value")

    def __init__(self, raw: Any | None, value: Any = None) -> None:
        self._raw, self._value = raw, value

    def decode(self, backend: Backend) -> Any:
        """Rebuild the result, or an `ItemError`."""
        if self._raw is not None:
            success, value, _, *facts = backend.decode(self._raw)
            self._value = value if success else ItemError(value, *facts)
            self._raw = None
        return self._value


_NOTHING: tuple[int, deque[Any]] = (0, deque())
Origins = tuple[tuple[int, int], ...]
_FIRST: Origins = ((0, 0),)


class Batch:
    """Items that share a cell, then their results."""

    __slots__ = (
        "_read",
        "brought",
        "count",
        "entries",
        "items",
        "loss",
        "origins",
        "replacement",
        "size",
        "skipped",
        "taken_order",
        "task",
        "was_loaded",
        "whole",
    )

    def __init__(
        self,
        items: Any,
        count: int,
        task: TaskHandle | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.whole: bool = whole
        """Whether the items are not encoded one by one: the cell has all of them in one pickle."""
        self.items: Any = items
        """The items, which may have to be submitted again: values if it is `whole`, else encoded.
        Empty if the batch is one item."""
        self.count: int = count
        """The number of results not handed out; set when it is taken."""
        self.task: Any = task
        self.skipped: int = 0
        """Results of the cell's first items, which are in another batch."""
        self.entries: list[Any] | None = None
        """The raw results, item by item."""
        self.size: int = 0
        """Their bytes."""
        self.taken_order: int = 0
        """Its place among the batches that were taken."""
        self.was_loaded: bool = True
        """Whether a worker could decode the items."""
        self.loss: tuple[list[Any], int] | None = None
        """If the worker was lost: results of finished items, the index of the one at work."""
        self.brought: Any = None
        """What was taken out of the cell: see `TaskHandle.take_items_into`."""
        self.replacement: list[Batch] | None = None
        """The batches that take the place of this one."""
        self.origins: Origins = _FIRST
        """The index in the input of the first result, and of each that does not follow the one
        before it: (place, index)."""
        self._read = _NOTHING
        """The number of decoded entries, and the results that were not handed out."""

    @classmethod
    def failed(cls, error: BaseException, count: int = 1) -> Batch:
        """Return a batch of items that have all failed with this error."""
        batch = cls([], count)
        batch.entries = [CellOutcome(None, ItemError(error))] * count
        return batch

    @classmethod
    def joined(cls, first: Batch, second: Batch) -> Batch:
        """Return one batch with the results of both, of which none was handed out."""
        batch = cls([], first.count + second.count)
        batch.entries = [*(first.entries or ()), *(second.entries or ())]
        batch.size = first.size + second.size
        batch.taken_order = second.taken_order
        moved = [(first.count + place, index) for place, index in second.origins]
        batch.origins = (*first.origins, *moved)
        return batch

    @property
    def taken(self) -> bool:
        """Whether the results were taken, and the cell is free."""
        return self.entries is not None

    @property
    def was_taken(self) -> bool:
        """Whether it was in the list of batches once, and its cell was emptied there."""
        return bool(self.taken_order) or not self.count

    @property
    def ended(self) -> bool:
        """Whether the results are available."""
        task = self.task
        return task is None or task.ended()

    @property
    def is_final(self) -> bool:
        """Whether none of its items may have to be submitted again."""
        return self.entries is not None or not len(self.items)

    @property
    def untouched(self) -> bool:
        """Whether none of its results was decoded."""
        return not self._read[0]

    @property
    def left(self) -> int:
        """Results that were not handed out."""
        read, values = self._read
        return self.count - read + len(values)

    def close(self, entries: list[Any], size: int, taken_order: int) -> None:
        """Store the raw results, and drop the cell."""
        self.items, self.count, self.size = [], len(entries), size
        self.taken_order = taken_order
        self.entries = entries
        self.brought = None
        # Last: other threads ask whether it has ended.
        self.task = None

    def discard(self) -> None:
        """Forget all: others have taken its place."""
        self.close([], 0, 0)

    @property
    def has_more(self) -> bool:
        """Whether there are results that were not handed out."""
        read, values = self._read
        return self.entries is not None and (read < self.count or bool(values))

    def results(self, backend: Backend) -> deque[Any]:
        """Decode the next results, of which there are some: code of the user runs."""
        read, values = self._read
        if values or self.entries is None:
            return values
        some = self.entries[read : read + DECODED_TOGETHER]
        decoded = _decoded(backend, some)
        if decoded is not some:
            self._number_failures(decoded, read)
        # One store: an interrupt neither loses nor repeats a result.
        self._read = (read + len(some), deque(decoded))
        return self._read[1]

    def _number_failures(self, values: list[Any], first: int) -> None:
        for place, value in enumerate(values, start=first):
            if type(value) is ItemError:
                start, index = max(origin for origin in self.origins if origin[0] <= place)
                # A copy: the items of a chunk that has failed as a whole share one.
                values[place - first] = own = ItemError(value.error, value.facts)
                own.index = index + place - start


def _decoded(backend: Backend, entries: list[Any]) -> list[Any]:
    if len(entries) == 1:
        entry = entries[0]
        if type(entry) is CellOutcome:
            return [entry.decode(backend)]
    if CellOutcome not in map(type, entries):
        values: list[Any] = backend.decode_items(entries)
        return values
    return [
        entry.decode(backend) if type(entry) is CellOutcome else backend.decode_items([entry])[0]
        for entry in entries
    ]
