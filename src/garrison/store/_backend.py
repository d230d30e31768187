"""The operations of a store, which the core's `Store` and `RemoteBackend` implement.

A container is a number, `c` here. Each operation is atomic; in a transaction it is a part of that.
A backend calls `garrison.store.Codec` (`hooks`) for all that needs Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Protocol

from garrison._typing import Any

__all__ = [
    "KIND_NAMES",
    "Kind",
    "Metadata",
    "RemoteStoreBackend",
    "Scan",
    "StoreBackend",
    "TransactionBlock",
]


class Kind(IntEnum):
    """The kinds of containers. Their numbers are a part of the format: they never change."""

    DICT = 1
    LIST = 2
    SET = 3
    DEQUE = 4
    NAMESPACE = 5
    VALUE = 6
    ARRAY = 7
    QUEUE = 8
    JOINABLE_QUEUE = 9
    COUNTER = 10


KIND_NAMES: dict[int, str] = {
    Kind.DICT: "Dict",
    Kind.LIST: "List",
    Kind.SET: "Set",
    Kind.DEQUE: "Deque",
    Kind.NAMESPACE: "Namespace",
    Kind.VALUE: "Value",
    Kind.ARRAY: "Array",
    Kind.QUEUE: "Queue",
    Kind.JOINABLE_QUEUE: "JoinableQueue",
    Kind.COUNTER: "Counter",
}

END = 2**63 - 1
"""Behind the last position of every sequence."""


class Metadata(NamedTuple):
    """The metadata of a container.

    Parameters
    ----------
    kind : int
        A `Kind`.
    length : int
        Its number of entries.
    references : int
        How many containers and owners refer to it.
    limit : int
        The `maxlen` of a deque, the `maxsize` of a queue; negative: none.
    unfinished : int
        Unfinished items of a queue.
    typecode : bytes
        That of a value or an array.
    """

    kind: int
    length: int
    references: int
    limit: int
    unfinished: int
    typecode: bytes


class Scan(Protocol):
    """The entries of a container as they were when the scan began."""

    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def next(self, n: int, /) -> list[Any]:
        """Return the next `n` entries at most; none when it is over."""

    def close(self) -> None:
        """Drop the snapshot."""


class TransactionBlock(Protocol):
    """The operations in a ``with`` block, as one step."""

    def __enter__(self) -> Any: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class Transactions(Protocol):
    """One transaction for each thread. An operation outside of one is a transaction of its own."""

    def begin(self, timeout: float | None = None) -> None:
        """Wait until no other transaction writes, and begin."""

    def commit(self) -> None:
        """Make all of it visible at once."""

    def abort(self) -> None:
        """Undo all of it."""

    def transaction(
        self, timeout: float | None = None, nested_failure_ok: bool = False, /
    ) -> TransactionBlock:
        """Return a block that is one step; `PythonTransaction` is one for backends in Python.

        With `nested_failure_ok` it may fail inside another block without failing that.
        """

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has one open, in this process."""


class Mappings(Protocol):
    """Dicts, sets, namespaces and counters. Keys are equal as in a dict, in order of insertion."""

    def dict_get(self, c: int, key: Any, /) -> Any:
        """Return a value, or raise KeyError."""

    def dict_get_or(self, c: int, key: Any, default: Any, /) -> Any:
        """Return a value, or `default`."""

    def dict_contains(self, c: int, key: Any, /) -> bool:
        """Return whether there is the key."""

    def dict_set(self, c: int, key: Any, value: Any, /) -> None:
        """Set the value of a key."""

    def dict_delete(self, c: int, key: Any, /) -> None:
        """Remove a key, or raise KeyError."""

    def dict_setdefault(self, c: int, key: Any, value: Any, /) -> Any:
        """Return a value, which is `value` from now on if there was none."""

    def dict_pop(self, c: int, key: Any, /) -> Any:
        """Remove and return; a nested container comes as a plain copy."""

    def dict_popitem(self, c: int, last: bool = True, /) -> tuple[Any, Any]:
        """Remove and return the last pair, or the first one; raise KeyError if there is none."""

    def dict_update(self, c: int, pairs: dict[Any, Any] | list[tuple[Any, Any]], /) -> None:
        """Set all pairs at once."""

    def dict_get_many(self, c: int, keys: list[Any], missing: Any = None, /) -> list[Any]:
        """Return the values of keys, with `missing` for those that are not there."""

    def dict_entries(self, c: int, what: str, /) -> list[Any]:
        """Return all keys, values or items, as `what` says."""

    def dict_add(self, c: int, key: Any, delta: Any, initial: Any = None, /) -> Any:
        """Return the new number."""

    def set_add(self, c: int, key: Any, /) -> bool:
        """Return whether it is new."""

    def set_discard(self, c: int, key: Any, /) -> bool:
        """Return whether it was there."""


class Sequences(Protocol):
    """Lists, deques, values, arrays and queues. Indexes and slices are those of a list."""

    def list_get(self, c: int, i: int, /) -> Any:
        """Return an item, or raise IndexError."""

    def list_set(self, c: int, i: int, value: Any, /) -> None:
        """Replace an item, or raise IndexError."""

    def list_append(self, c: int, value: Any, /) -> None:
        """Add an item at the end."""

    def list_appendleft(self, c: int, value: Any, /) -> None:
        """Add an item at the front."""

    def list_extend(self, c: int, values: list[Any], left: bool = False, /) -> None:
        """Add all values at once, at the end or at the front."""

    def list_insert(self, c: int, i: int, value: Any, /) -> None:
        """Insert an item before an index."""

    def list_delete(self, c: int, i: int, /) -> None:
        """Remove an item, or raise IndexError."""

    def list_pop(self, c: int, i: int = -1, /) -> Any:
        """Remove and return; a nested container comes as a plain copy."""

    def list_slice(self, c: int, start: int, stop: int, /) -> list[Any]:
        """Return the items of a slice."""

    def list_replace(self, c: int, start: int, stop: int, values: list[Any], /) -> None:
        """Put values in place of a slice. Nested containers of the slice may be among them."""

    def list_add(self, c: int, i: int, delta: Any, /) -> Any:
        """Return the new number."""

    def claim_first(self, c: int, /) -> tuple[int, Any]:
        """Return ticket and value of the first item. It goes back if this owner dies."""

    def ack_claim(self, c: int, ticket: int, /) -> bool:
        """Remove a claimed item; return whether it was still claimed."""

    def return_claim(self, c: int, ticket: int, /) -> bool:
        """Put a claimed item back to the front; return whether it was still claimed."""


class StoreBackend(Transactions, Mappings, Sequences, Protocol):
    """All that containers need."""

    @property
    def uuid(self) -> bytes:
        """The store's id: 16 random bytes."""

    def create(self, kind: int, limit: int = -1, typecode: bytes = b"", /) -> int:
        """Return a new container, to which this owner has a reference."""

    def named(
        self, name: str, kind: int, limit: int = -1, typecode: bytes = b"", /
    ) -> tuple[int, bool]:
        """Return the container of that name, and whether it was made just now."""

    def names(self) -> list[tuple[str, int, int]]:
        """Return all names, with kind and number."""

    def metadata(self, c: int, /) -> tuple[int, int, int, int, int, bytes]:
        """Return the fields of a `Metadata`."""

    def length(self, c: int, /) -> int:
        """Return the number of entries."""

    def clear(self, c: int, /) -> None:
        """Remove all entries."""

    def shut_down_queue(self, c: int, immediate: bool, /) -> None:
        """Let a queue take no more items; drop those that it has if `immediate`."""

    def counter_add(self, c: int, delta: int, floor: int | None = None, /) -> int:
        """Return the new count, or raise ValueError if it would be below `floor`."""

    def scan(self, c: int, what: str = "keys", reverse: bool = False) -> Scan:
        """Return a snapshot's keys, values or items, as `what` says."""

    def snapshot(self, c: int, /) -> Any:
        """Return a plain object: its nested containers are plain as well."""

    def change_count(self, c: int, /) -> int:
        """Return a number that is another one after every change."""

    def wait_for_change(self, c: int, seen: int, timeout: float | None = None, /) -> bool:
        """Wait until the change count is not `seen`; return whether it is so."""


class RemoteStoreBackend(StoreBackend, Protocol):
    """A backend where `update_with` is repeated until no other writer interferes."""

    def dict_encoded(self, c: int, key: Any, /) -> bytes | None:
        """Return a value as it is stored, or None if there is no such key."""

    def dict_encoded_many(self, c: int, keys: list[Any], /) -> list[bytes | None]:
        """Return the values of keys in the same way."""

    def dict_compare_and_set(
        self, c: int, key: Any, expected: bytes | None, value: bytes | None, /
    ) -> bool:
        """Set or remove a value if the present one is `expected`; return whether it was."""

    def list_encoded(self, c: int, i: int, /) -> bytes:
        """Return an item as it is stored."""

    def list_compare_and_set(self, c: int, i: int, expected: bytes, value: bytes, /) -> bool:
        """Replace an item if the present one is `expected`; return whether it was."""

    def encode(self, obj: Any, /) -> bytes: ...
    def decode(self, encoded: bytes, /) -> Any: ...
