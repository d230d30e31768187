"""What a store can do: the one contract of the engine at home and of the one across a network.

A container is a number, `c`. Each operation is atomic; in a transaction it is a part of that.
A kind is a number as well, and part of the format: it never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol

from garrison._typing import Any

__all__ = ["NAMES", "Block", "Hooks", "Optimistic", "Scan", "Store"]

DICT, LIST, SET, DEQUE, NAMESPACE, VALUE, ARRAY, QUEUE, JOINABLE_QUEUE, COUNTER = range(1, 11)
NAMES = {
    DICT: "Dict",
    LIST: "List",
    SET: "Set",
    DEQUE: "Deque",
    NAMESPACE: "Namespace",
    VALUE: "Value",
    ARRAY: "Array",
    QUEUE: "Queue",
    JOINABLE_QUEUE: "JoinableQueue",
    COUNTER: "Counter",
}

END = 2**63 - 1
"""Behind the last position of every sequence."""


class Hooks(Protocol):
    """What an engine leaves to Python."""

    @property
    def uuid(self) -> bytes:
        """16 bytes that no other store has."""

    def dumps(self, obj: Any, /) -> bytes:
        """Write down what is no plain value."""

    def loads(self, data: bytes, /) -> Any:
        """Rebuild it."""

    def key(self, obj: Any, /) -> bytes:
        """Return bytes that are equal for equal keys; raise TypeError for what is unhashable."""

    def container(self, kind: int, c: int, is_ref: bool, /) -> Any:
        """Return the face of a container that lies in another."""


class Scan(Protocol):
    """The entries of a container as they were when the scan began."""

    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def next(self, n: int, /) -> list[Any]:
        """Return the next `n` entries at most; none when it is over."""

    def close(self) -> None:
        """Let go of the snapshot."""


class Block(Protocol):
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
    """One for each thread. An operation outside of one is one of its own."""

    def begin(self, timeout: float | None = None) -> None:
        """Wait until nobody else writes, and begin."""

    def commit(self) -> None:
        """Make all of it visible at once."""

    def abort(self) -> None:
        """Make none of it visible."""

    def block(self, timeout: float | None = None, gentle: bool = False, /) -> Block:
        """Return a block that is one step; `PythonBlock` is one for engines in Python.

        A `gentle` one may fail as a part of another without the other failing.
        """

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has one open, in this process."""


class Mappings(Protocol):
    """Of dicts, sets, namespaces and counters. Keys are equal as in a dict, in order of arrival."""

    def dict_get(self, c: int, key: Any, /) -> Any:
        """Return a value, or raise KeyError."""

    def dict_get_or(self, c: int, key: Any, default: Any, /) -> Any: ...
    def dict_contains(self, c: int, key: Any, /) -> bool: ...
    def dict_set(self, c: int, key: Any, value: Any, /) -> None: ...
    def dict_delete(self, c: int, key: Any, /) -> None: ...
    def dict_setdefault(self, c: int, key: Any, value: Any, /) -> Any: ...
    def dict_pop(self, c: int, key: Any, /) -> Any:
        """Remove and return; a nested container comes as a plain copy."""

    def dict_popitem(self, c: int, last: bool = True, /) -> tuple[Any, Any]: ...
    def dict_update(self, c: int, pairs: list[tuple[Any, Any]], /) -> None: ...
    def dict_add(self, c: int, key: Any, delta: Any, initial: Any = None, /) -> Any:
        """Return the new number."""

    def set_add(self, c: int, key: Any, /) -> bool:
        """Return whether it is new."""

    def set_discard(self, c: int, key: Any, /) -> bool:
        """Return whether it was there."""


class Sequences(Protocol):
    """Of lists, deques, values, arrays and queues. Indexes and slices as those of a list."""

    def list_get(self, c: int, i: int, /) -> Any: ...
    def list_set(self, c: int, i: int, value: Any, /) -> None: ...
    def list_append(self, c: int, value: Any, /) -> None: ...
    def list_appendleft(self, c: int, value: Any, /) -> None: ...
    def list_extend(self, c: int, values: list[Any], left: bool = False, /) -> None: ...
    def list_insert(self, c: int, i: int, value: Any, /) -> None: ...
    def list_delete(self, c: int, i: int, /) -> None: ...
    def list_pop(self, c: int, i: int = -1, /) -> Any:
        """Remove and return; a nested container comes as a plain copy."""

    def list_slice(self, c: int, start: int, stop: int, /) -> list[Any]: ...
    def list_replace(self, c: int, start: int, stop: int, values: list[Any], /) -> None:
        """Put values in place of a slice. Nested containers of the slice may be among them."""

    def list_add(self, c: int, i: int, delta: Any, /) -> Any:
        """Return the new number."""

    def claim(self, c: int, /) -> tuple[int, Any]:
        """Take the first item, signed for; it comes back if its owner dies."""

    def settle(self, c: int, ticket: int, /) -> bool:
        """Forget a claimed item; return whether it was still claimed."""

    def give_back(self, c: int, ticket: int, /) -> bool:
        """Put a claimed item back to the front; return whether it was still claimed."""


class Store(Transactions, Mappings, Sequences, Protocol):
    """All that the faces need."""

    @property
    def uuid(self) -> bytes:
        """16 bytes that no other store has."""

    def create(self, kind: int, aux: int = -1, info: bytes = b"", hold: bool = True) -> int: ...
    def named(self, name: str, kind: int, aux: int = -1, info: bytes = b"") -> tuple[int, bool]:
        """Return the container of that name, and whether it was made just now."""

    def names(self) -> list[tuple[str, int, int]]:
        """Return all names, with kind and number."""

    def head(self, c: int, /) -> tuple[int, int, int, int, int, bytes]:
        """Return kind, length, references, aux, count and info."""

    def length(self, c: int, /) -> int: ...
    def clear(self, c: int, /) -> None: ...
    def queue_shut(self, c: int, immediate: bool, /) -> None:
        """Have a queue take no more items, and drop those that it has if `immediate`."""

    def count_add(self, c: int, delta: int, floor: int | None = None, /) -> int:
        """Return the new count, or raise ValueError if it would be below `floor`."""

    def scan(self, c: int, what: str = "keys", reverse: bool = False) -> Scan: ...
    def snapshot(self, c: int, /) -> Any:
        """Return a plain object: its nested containers are plain as well."""

    def bell(self, c: int, /) -> int:
        """Return a number that is another one after every change."""

    def wait_bell(self, c: int, seen: int, timeout: float | None = None, /) -> bool:
        """Wait until the bell's number is not `seen`; return whether it is so."""


class Optimistic(Store, Protocol):
    """A store far away, where a step that calls Python is tried until nobody came between."""

    def dict_encoded(self, c: int, key: Any, /) -> bytes | None: ...
    def dict_compare_and_set(
        self, c: int, key: Any, expected: bytes | None, value: bytes | None, /
    ) -> bool: ...
    def list_encoded(self, c: int, i: int, /) -> bytes: ...
    def list_compare_and_set(self, c: int, i: int, expected: bytes, value: bytes, /) -> bool: ...
    def encode(self, obj: Any, /) -> bytes: ...
    def decode(self, encoded: bytes, /) -> Any: ...
