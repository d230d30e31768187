"""The model's operations on sequences, and those that take whole containers."""

from __future__ import annotations

import operator
import time
from collections import deque
from typing import Any

from garrison.errors import ShutDown
from garrison.store import Kind

from .model_base import MAPPINGS, Base, writes
from .model_codec import decode_key, encode_value
from .model_records import Scan, total

QUEUES = {Kind.QUEUE, Kind.JOINABLE_QUEUE}


class Sequences(Base):
    def _place(self, c: int, i: int, text: str) -> tuple[list[bytes], int]:
        data = self._sequence(self._write(c) if self.in_transaction else self._read(c))
        place = operator.index(i)
        if not -(2**63) <= place < 2**63:
            raise OverflowError("Python int too large to convert to C long")
        place += len(data) if place < 0 else 0
        if not 0 <= place < len(data):
            raise IndexError(text)
        return data, place

    def list_get(self, c: int, i: int) -> Any:
        data, place = self._place(c, i, "list index out of range")
        return self._load(data[place])

    def list_encoded(self, c: int, i: int) -> bytes:
        data, place = self._place(c, i, "list index out of range")
        return data[place]

    @writes
    def list_set(self, c: int, i: int, value: Any) -> None:
        self._put_at(c, i, encode_value(value, self.hooks))

    def _put_at(self, c: int, i: int, encoded: bytes) -> None:
        data, place = self._place(c, i, "list assignment index out of range")
        removed = [data[place]]
        data[place] = self._adopt(encoded, removed)
        self._release(removed)

    def list_append(self, c: int, value: Any) -> None:
        self.list_extend(c, [value])

    def list_appendleft(self, c: int, value: Any) -> None:
        self.list_extend(c, [value], left=True)

    @writes
    def list_extend(self, c: int, values: list[Any], left: bool = False) -> None:
        self._sequence(self._read(c))
        if self._read(c).is_shut:
            raise ShutDown
        stored = [self._store(value) for value in values]
        record = self._write(c)
        record.count += len(stored) if record.kind in QUEUES else 0
        most = record.aux if record.kind == Kind.DEQUE and record.aux >= 0 else None
        if left:
            record.data[:0] = stored[::-1]
            removed = [] if most is None else record.data[most:]
        else:
            record.data += stored
            removed = [] if most is None else record.data[: max(len(record.data) - most, 0)]
        if removed:
            del record.data[slice(most, None) if left else slice(len(removed))]
        self._release(removed)

    @writes
    def list_insert(self, c: int, i: int, value: Any) -> None:
        self._sequence(self._write(c)).insert(i, self._store(value))

    @writes
    def list_delete(self, c: int, i: int) -> None:
        data, place = self._place(c, i, "list assignment index out of range")
        self._release([data.pop(place)])

    @writes
    def list_pop(self, c: int, i: int = -1) -> Any:
        self._check_shut(c)
        text = "pop index out of range" if self.length(c) else "pop from empty list"
        data, place = self._place(c, i, text)
        return self._popped(data.pop(place))

    def list_slice(self, c: int, start: int, stop: int) -> list[Any]:
        return [self._load(encoded) for encoded in self._sequence(self._read(c))[start:stop]]

    @writes
    def list_replace(self, c: int, start: int, stop: int, values: list[Any]) -> None:
        data = self._sequence(self._write(c))
        removed = data[start:stop]
        data[start:stop] = [self._store(value, removed) for value in values]
        self._release(removed)

    @writes
    def list_add(self, c: int, i: int, delta: Any) -> Any:
        new = total(self.list_get(c, i), delta)
        self.list_set(c, i, new)
        return new

    @writes
    def list_compare_and_set(self, c: int, i: int, expected: bytes, value: bytes) -> bool:
        if self.list_encoded(c, i) != expected:
            return False
        self._put_at(c, i, value)
        return True

    # --- Queues -------------------------------------------------------------------------------

    def _check_shut(self, c: int) -> None:
        record = self._read(c)
        if record.is_shut and not record.data:
            raise ShutDown

    @writes
    def shut_down_queue(self, c: int, immediate: bool) -> None:
        record = self._write(c)
        record.is_shut = True
        if immediate:
            record.count = max(record.count - len(record.data), 0)
            self._release(record.data)
            record.data = []

    # --- Claimed items ------------------------------------------------------------------------

    @writes
    def claim_first(self, c: int) -> tuple[int, Any]:
        self._check_shut(c)
        data, place = self._place(c, 0, "pop from empty list")
        ticket, encoded = next(self._tickets), data.pop(place)
        self._write(c).claims[ticket] = encoded
        return ticket, self._load(encoded)

    @writes
    def ack_claim(self, c: int, ticket: int) -> bool:
        record = self._write(c)
        encoded = record.claims.pop(ticket, None)
        record.count -= encoded is not None and record.count > 0
        self._release([] if encoded is None else [encoded])
        return encoded is not None

    @writes
    def return_claim(self, c: int, ticket: int) -> bool:
        record = self._write(c)
        encoded = record.claims.pop(ticket, None)
        if encoded is not None:
            record.data.insert(0, encoded)
        return encoded is not None

    def release_owner(self, _owner: int) -> None:
        """Give back what was claimed; here all owners are one."""
        for c, record in list(self._records.items()):
            for ticket in sorted(record.claims, reverse=True):
                self.return_claim(c, ticket)

    # --- Whole containers ---------------------------------------------------------------------

    def scan(self, c: int, what: str = "keys", reverse: bool = False) -> Scan:
        record = self._read(c)
        if record.kind in MAPPINGS:
            load = {"keys": self._load_key, "values": self._load_value, "items": self._load_item}
            entries = list(record.data.items())
            return Scan(entries[::-1] if reverse else entries, load[what])
        return Scan(record.data[::-1] if reverse else list(record.data), self._load)

    def _load_key(self, entry: Any) -> Any:
        return decode_key(entry[0], entry[1][0], self.hooks)

    def _load_value(self, entry: Any) -> Any:
        return self._load(entry[1][1])

    def _load_item(self, entry: Any) -> Any:
        return self._load_key(entry), self._load_value(entry)

    def snapshot(self, c: int) -> Any:
        record = self._read(c)
        if record.kind == Kind.SET:
            return {self._load_key(entry) for entry in record.data.items()}
        if record.kind in MAPPINGS:
            entries = record.data.items()
            return {self._load_key(entry): self._deep(entry[1][1]) for entry in entries}
        items = [self._deep(encoded) for encoded in record.data]
        if record.kind == Kind.DEQUE:
            return deque(items, None if record.aux < 0 else record.aux)
        return items

    # --- Waiting ------------------------------------------------------------------------------

    def change_count(self, c: int) -> int:
        with self._rung:
            return self._bells[c]

    def wait_for_change(self, c: int, seen: int, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._rung:
            while self._bells[c] == seen:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._rung.wait(left)
        return True
