"""Containers in shared memory or in a file."""

from collections.abc import Callable
from typing import Any, TypedDict

from garrison._core.codec import StoreHooks
from garrison._core.lock import Lock
from garrison._core.scan import Scan
from garrison._core.shared_block import SharedBlock

class Statistics(TypedDict):
    """What a store occupies."""

    pages_used: int
    bytes_used: int
    bytes_reserved: int
    size: int
    containers: int
    readers: int

class StoreBlock:
    """A block of operations on one store. Inside of another one it is a part of that."""

    def __enter__(self) -> StoreBlock: ...
    def __exit__(self, kind: object, error: object, traceback: object) -> None: ...

class Store:
    """Containers in shared memory or in a file; every method that works on one is a single step."""

    def __init__(
        self,
        place: Callable[[], str | tuple[int, int]],
        hooks: StoreHooks,
        lock: Lock,
        change_words: SharedBlock,
        *,
        size: int,
        in_memory: bool,
        sync: bool,
        owner: int,
        alone: bool = False,
    ) -> None: ...
    @property
    def owner(self) -> int:
        """The owner in whose name this view references and claims."""

    @owner.setter
    def owner(self, owner: int) -> None: ...
    @property
    def hooks(self) -> Any:
        """What the core asks of Python."""

    @property
    def encoded(self) -> bool:
        """Whether values are passed as they are stored, not as objects."""

    @property
    def uuid(self) -> bytes:
        """The identity of the store."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""

    def session(self, owner: int, encoded: bool = True, blocking: bool = False) -> Store:
        """The same store under another owner.

        A session of a server, or another id of this process.
        """

    def begin(self, timeout: float | None = None) -> None:
        """Begin a transaction of this thread; all its operations through this view belong to it."""

    def commit(self) -> None:
        """Commit this thread's transaction: others see all of it at once."""

    def abort(self) -> None:
        """Undo all of this thread's transaction."""

    def transaction(
        self, timeout: float | None = None, nested_failure_ok: bool = False
    ) -> StoreBlock:
        """Return a block whose operations are one step."""

    def close(self) -> None:
        """Let go of the files. A transaction that is open is aborted."""

    def create(self, kind: int, aux: int = -1, info: bytes | None = None, hold: bool = True) -> int:
        """Create a container of a kind; return its number."""

    def named(
        self, name: str, kind: int, aux: int = -1, info: bytes | None = None
    ) -> tuple[int, bool]:
        """The container of this name, made if there is none; and whether it was."""

    def find_name(self, name: str) -> tuple[int, int] | None:
        """Kind and number of the container of this name, if there is one."""

    def names(self) -> list[tuple[str, int, int]]:
        """Return the named containers: (name, kind, number)."""

    def remove_name(self, name: str) -> bool:
        """Remove a name; False if there is none."""

    def metadata(self, c: int) -> tuple[int, int, int, int, int, bytes]:
        """Return (kind, length, references, aux, count, info) of a container."""

    def acquire_ref(self, c: int) -> None:
        """Reference a container in the name of this owner."""

    def release_ref(self, c: int) -> None:
        """Give up one of this owner's references to a container."""

    def release_owner(self, owner: int) -> None:
        """Give up all that an owner references, and give back all that it has claimed."""

    def owners(self) -> list[int]:
        """All owners of references or claims."""

    def new_owner(self) -> int:
        """A number that no owner has had."""

    def release_claims(self, owner: int) -> None:
        """Give back all that an owner has claimed."""

    def garbage(self) -> list[int]:
        """The containers that nobody wants."""

    def collect_garbage(self, limit: int = 1000, among: list[int] | None = None) -> int:
        """Free what nobody wants, all or some of it, so many records.

        How many containers are left to be freed.
        """

    def collect_cycles(self) -> int:
        """Find containers that only refer to each other, for the next sweep; how many there are."""

    def statistics(self) -> Statistics:
        """Return what the store occupies."""

    def audit(self) -> list[str]:
        """What is wrong in the store, a line each; there is never anything."""

    def length(self, c: int) -> int:
        """Return how many items a container has."""

    def clear(self, c: int) -> None:
        """Remove all items."""

    def dict_get(self, c: int, key: Any) -> Any:
        """Return the value of a key, or raise `KeyError`."""

    def dict_get_or(self, c: int, key: Any, default: Any) -> Any:
        """Return the value of a key, or `default`."""

    def dict_contains(self, c: int, key: Any) -> bool:
        """Return whether there is the key."""

    def dict_encoded(self, c: int, key: Any) -> bytes | None:
        """Return the value of a key as it is stored; None if there is no such key."""

    def dict_encoded_many(self, c: int, keys: list[Any]) -> list[bytes | None]:
        """Return the values of many keys as they are stored, with None for those not there."""

    def dict_set(self, c: int, key: Any, value: Any) -> None:
        """Set the value of a key."""

    def dict_delete(self, c: int, key: Any) -> None:
        """Remove a key, or raise `KeyError`."""

    def dict_setdefault(self, c: int, key: Any, value: Any) -> Any:
        """Return the value of a key, which is `value` from now on if there was none."""

    def dict_pop(self, c: int, key: Any) -> Any:
        """Remove a key and return its value, or raise `KeyError`."""

    def dict_popitem(self, c: int, last: bool = True) -> tuple[Any, Any]:
        """Remove and return the last item, or the first one; of a set the key and None."""

    def dict_update(self, c: int, pairs: dict[Any, Any] | list[tuple[Any, Any]]) -> None:
        """Set many keys, all of them at once."""

    def dict_get_many(self, c: int, keys: list[Any], missing: Any = None) -> list[Any]:
        """Return the values of many keys, with `missing` for those that are not there."""

    def dict_entries(self, c: int, what: str) -> list[Any]:
        """Return all keys, values or items of a mapping, in its order."""

    def dict_add(self, c: int, key: Any, delta: Any, initial: Any = None) -> Any:
        """Add to the number of a key; return the sum."""

    def dict_compare_and_set(
        self, c: int, key: Any, expected: bytes | None, value: bytes | None
    ) -> bool:
        """Set, or delete, if what is stored has that encoding.

        None stands for a key that is missing.
        """

    def set_add(self, c: int, key: Any) -> bool:
        """Add a member; return whether it is new."""

    def set_discard(self, c: int, key: Any) -> bool:
        """Remove a member; return whether it was there."""

    def list_get(self, c: int, i: int) -> Any:
        """Return an item, or raise `IndexError`."""

    def list_set(self, c: int, i: int, value: Any) -> None:
        """Replace an item, or raise `IndexError`."""

    def list_append(self, c: int, value: Any) -> None:
        """Add an item at the end."""

    def list_appendleft(self, c: int, value: Any) -> None:
        """Add an item at the front."""

    def list_extend(self, c: int, values: list[Any], left: bool = False) -> None:
        """Add many items at the end, or at the front, all of them at once."""

    def list_insert(self, c: int, i: int, value: Any) -> None:
        """Insert an item before an index."""

    def list_delete(self, c: int, i: int) -> None:
        """Remove an item, or raise `IndexError`."""

    def list_pop(self, c: int, i: int = -1) -> Any:
        """Remove an item and return it, or raise `IndexError`."""

    def list_slice(self, c: int, start: int, stop: int) -> list[Any]:
        """The items from `start` to `stop`; what is negative counts from the end."""

    def list_replace(self, c: int, start: int, stop: int, values: list[Any]) -> None:
        """Replace the items from `start` to `stop` by others."""

    def list_add(self, c: int, i: int, delta: Any) -> Any:
        """Add to the number at an index; return the sum."""

    def list_compare_and_set(self, c: int, i: int, expected: bytes, value: bytes) -> bool:
        """Replace an item if what is stored has that encoding."""

    def list_encoded(self, c: int, i: int) -> bytes:
        """Return an item as it is stored."""

    def claim_first(self, c: int) -> tuple[int, Any]:
        """Take the first item and sign for it: a ticket, and the item."""

    def ack_claim(self, c: int, ticket: int) -> bool:
        """A claimed item is dealt with; False if nobody has this ticket."""

    def return_claim(self, c: int, ticket: int) -> bool:
        """A claimed item goes back to the front; False if nobody has this ticket."""

    def copy_to(self, fd: int) -> None:
        """Write the store's last state to a file that is empty."""

    def shut_down_queue(self, c: int, immediate: bool) -> None:
        """Have a queue take no more items, and drop those that it has if `immediate`."""

    def counter_add(self, c: int, delta: int, floor: int | None = None) -> int:
        """Add to the number in a container's head; the sum, which must not fall below the floor."""

    def walk(self, c: int) -> Scan:
        """Scan a sequence by index: what is changed meanwhile is seen, as in a plain list."""

    def scan(self, c: int, what: str = "keys", reverse: bool = False) -> Scan:
        """Scan a container as it is now, whatever becomes of it."""

    def snapshot(self, c: int) -> Any:
        """A deep copy.

        Plain dicts, lists, sets and deques, with faces where it refers to others.
        """

    def change_count(self, c: int) -> int:
        """A number that changes whenever the container has changed."""

    def wait_for_change(self, c: int, seen: int, timeout: float | None = None) -> bool:
        """Wait until the number is not `seen`; False if it still is at the end of that time."""

    def global_change_count(self) -> int:
        """A number that changes with every commit."""

    def wait_for_any_change(self, seen: int, timeout: float | None = None) -> bool:
        """Wait until the number of the last commit is not `seen`; False after a timeout."""

def store_bytes(fd: int) -> tuple[int, bool]:
    """Return the bytes that a store takes in its file, and whether they are all in it.

    Raises
    ------
    StoreCorrupt
        If the two heads of the file are damaged.
    """

def check_store_pages(fd: int) -> None:
    """Walk through all pages of a store's file, to which nobody writes meanwhile.

    Raises
    ------
    StoreCorrupt
        If LMDB could not read or write it.
    """

def inspect_store(
    fd: int,
) -> tuple[
    int,
    int,
    bool,
    dict[int, tuple[int, int, int, bool, list[bytes]]],
    list[tuple[str, bytes, bytes | None]],
]:
    """Return what is in a store's file, to which nobody writes meanwhile, and what is damaged.

    Returns
    -------
    tuple
        Bytes in use, records, and whether each has a sum; of each container its kind, its length,
        the items found, whether it is being freed, and its names; of each damage what it is, and
        the key from which, and that up to which, nothing is known for it.

    Raises
    ------
    StoreCorrupt
        If nothing can be found in it.
    """

def audit_store(data: int, lock: int) -> list[str]:
    """Return what does not agree in the records of a store's file, whose pages are sound.

    Parameters
    ----------
    data, lock : int
        The file, open to be read, and an empty one in memory, which is written to.
    """
