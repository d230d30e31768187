"""The operations of a store on a Valkey or Redis server: each is one script."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError, StoreCorrupt, StoreVersion
from garrison.manager.valkey._batch import Batch
from garrison.manager.valkey._errors import ServerRefused
from garrison.manager.valkey._operations import MISSING, OPERATIONS, pairs_of
from garrison.manager.valkey._ownership import Ownership
from garrison.manager.valkey._refusals import Emptied, Held, Inexact, Large, Slow, refusal_error
from garrison.manager.valkey._scan import ValkeyScan, large_snapshot
from garrison.manager.valkey._scripts import SCRIPTS
from garrison.manager.valkey._transactions import ThreadState, TransactionsAndWaits
from garrison.manager.valkey._values import Values
from garrison.store import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.valkey._connection import Link
    from garrison.manager.valkey._operations import Request

__all__ = ["ValkeyBackend", "open_store"]

QUEUES = (Kind.QUEUE, Kind.JOINABLE_QUEUE)
ENTRIES_PER_SCRIPT = 1 << 12
"""Larger ones are several scripts of one transaction: the server serves others in between."""


READ_NOW = "now"
"""In the place of a request's number: the reader has waited already."""
READER_WAITS_S = 2.0

FORMAT = b"1"
"""Another one is read by another version of garrison."""
UUID_LEN = 16


def open_store(link: Link, uuid: bytes | None = None) -> bytes:
    """Return the id of a server's store; make the store if there is none.

    Raises
    ------
    StoreVersion
        If another version of garrison has made it.
    StoreCorrupt
        If what is there is no store.
    """
    made = FORMAT, uuid or secrets.token_bytes(UUID_LEN), (1 << 44) + secrets.randbits(44)
    try:
        version, found = link.run_script(
            SCRIPTS["open"].full, (f"{link.tag}s:",), ("", "0", "", *made)
        )
    except ServerRefused as refusal:
        raise StoreCorrupt(f"the store at {link.url} is damaged: {refusal}") from None
    if version != FORMAT:
        raise StoreVersion(
            f"the store at {link.url} has format {version.decode(errors='replace')!r}, and this "
            f"garrison reads format {FORMAT.decode()}: use the garrison that has made it, or "
            "another prefix: ?prefix=NAME"
        )
    if len(found) != UUID_LEN:
        raise StoreCorrupt(f"the store at {link.url} is damaged: it has no id")
    return bytes(found)


class ValkeyBackend(Ownership, TransactionsAndWaits):
    """A `RemoteStoreBackend` over the connections of one process to a server.

    Parameters
    ----------
    link : Link
        The connections.
    hooks : garrison.store.Codec
        What needs Python.
    """

    optimistic = True

    def __init__(self, link: Link, hooks: Any) -> None:
        self.hooks, self.uuid = hooks, hooks.uuid
        self._link = link
        self._keys = (f"{link.tag}s:",)
        self.lease_ms = int(link.url.lease * 1000)
        self.values = Values(hooks, str(link.url), self.lease_ms)
        self._thread = ThreadState()
        self.after_fork()

    def __reduce__(self) -> tuple[Any, ...]:
        return _backend_of, (self.hooks.store,)

    # -- running scripts --------------------------------------------------------------------------

    def run(self, name: str, *args: Any) -> Any:
        """Run a script that reads, or that may be run twice."""
        return self._reply(name, args, MISSING, "")

    def write(self, name: str, *args: Any) -> Any:
        """Run a script that changes something: once, also if a connection breaks."""
        return self._send(name, args, MISSING, self._thread.next_request())

    def _send(self, name: str, args: tuple[Any, ...], key: Any, request: str) -> Any:
        writes = request not in {"", READ_NOW}
        owner = self.owner if writes or self._session_id else "0"
        fence = self.fence
        sent = (fence, owner, request, *args)
        scripts = SCRIPTS[name]
        try:
            return self._link.run_script(scripts.full if fence else scripts.quick, self._keys, sent)
        except ServerRefused as refusal:
            error = refusal_error(self.values, refusal, args, key)
        if isinstance(error, Slow):
            try:
                return self._link.run_script(scripts.full, self._keys, sent)
            except ServerRefused as refusal:
                error = refusal_error(self.values, refusal, args, key)
        if not isinstance(error, Emptied):
            raise error
        self.begin_anew()
        return self._send(name, args, key, request)

    def addressed(self, name: str, args: tuple[Any, ...]) -> tuple[Any, Any]:
        """Return the keys and the arguments of an operation that a pipeline sends."""
        writes = SCRIPTS[name].writes
        number = self._thread.next_request() if writes else ""
        return self._keys, (self.fence, self.owner if writes else self._owner, number, *args)

    def batch(self) -> Batch:
        """Return a batch for the operations of a pipeline."""
        return Batch(self)

    def begin_anew(self) -> None:
        """Make the store again on a server that has lost it; its containers are gone."""
        self.uuid = self.hooks.uuid = self.hooks.store.uuid = open_store(self._link, self.uuid)

    def request(self, made: Request) -> Any:
        """Run an operation; wait while another client has a transaction open."""
        name, args, decode, key = made
        return self._decoded(decode, self._reply(name, args, key, self._number_of(name)))

    def _number_of(self, name: str) -> str:
        return self._thread.next_request() if SCRIPTS[name].writes else ""

    def _reply(self, name: str, args: tuple[Any, ...], key: Any, number: str) -> Any:
        """Run a script; wait while another client's transaction is in its way.

        A reader does not wait for ever: the transaction may wait for what its thread does next.
        """
        while True:
            try:
                return self._send(name, args, key, number)
            except Held as held:
                is_over = self.wait_for_end(held, None if number else READER_WAITS_S)
                if not number and not is_over:
                    number = READ_NOW

    def take(self, made: Request, put_back: Callable[[Any], object]) -> Any:
        """Run an operation that takes an item; put it back if its reply is interrupted."""
        name, args, decode, key = made
        number = self._number_of(name)
        try:
            return self._decoded(decode, self._reply(name, args, key, number))
        except Exception:
            raise
        except BaseException:
            if not self.fence:
                with contextlib.suppress(GarrisonError, OSError):
                    is_done, *answer = self.run("settle", number)
                    if is_done:
                        put_back(decode(*answer))
            raise

    def _decoded(self, decode: Callable[[Any], Any], reply: Any) -> Any:
        try:
            return decode(reply)
        except (ValueError, TypeError) as error:
            raise self.values.corrupt(f"a reply to read: {error}") from error

    @property
    def fence(self) -> str:
        """The number of this thread's transaction, or nothing."""
        mine = self._thread
        return mine.fence if not mine.fence or mine.pid == os.getpid() else ""

    def wake_key(self) -> str:
        """Return the name of a list for one wait."""
        return f"{self._keys[0]}wake:{self.owner}:{next(self._wake_numbers)}"

    # -- containers -------------------------------------------------------------------------------

    def named(
        self, name: str, kind: int, limit: int = -1, typecode: bytes = b""
    ) -> tuple[int, bool]:
        """Return the container of that name, and whether it was made just now."""
        # A user that only reads opens what there is, and nobody waits for that.
        known = self.run("find_name", name.encode())
        if known is not None and known.split(b" ")[0] == str(int(kind)).encode():
            with contextlib.suppress(ValueError):
                return int(known.split(b" ")[1]), False
        made: tuple[int, bool] = self.request(
            OPERATIONS["named"](self.values, name, kind, limit, typecode)
        )
        return made

    def create(self, kind: int, limit: int = -1, typecode: bytes = b"") -> int:
        """Return a new container, to which this owner has a reference."""
        args = (int(kind), limit, typecode, self.lease_ms)
        return int(self.request(("create", args, int, MISSING)))

    def statistics(self) -> dict[str, int]:
        """Return how many names, owners and containers to be freed there are."""
        return dict(zip(("names", "owners", "garbage"), self.run("statistics"), strict=True))

    # -- not one script ---------------------------------------------------------------------------

    def scan(self, c: int, what: str = "keys", reverse: bool = False) -> ValkeyScan:
        """Iterate over the present state of a container."""
        return ValkeyScan(self, c, what, reverse)

    def snapshot(self, c: int) -> Any:
        """Return a plain object: its nested containers are plain as well."""
        try:
            return self.request(OPERATIONS["snapshot"](self.values, c))
        except Large as large:
            return large_snapshot(self, c, large.kind, large.limit)

    def dict_entries(self, c: int, what: str) -> list[Any]:
        """Return all keys, values or items."""
        return self.scan(c, what).next(sys.maxsize)

    def dict_get_many(self, c: int, keys: list[Any], missing: Any = None) -> list[Any]:
        """Return the values of keys as they are at one moment, however many."""
        with self._one_step(len(keys)):
            found = [
                each
                for at in range(0, len(keys), ENTRIES_PER_SCRIPT)
                for each in self.dict_encoded_many(c, keys[at : at + ENTRIES_PER_SCRIPT])
            ]
        return [missing if each is None else self.values.decode(each) for each in found]

    def dict_update(self, c: int, pairs: Any) -> None:
        """Set all pairs at once."""
        pairs = pairs_of(pairs)
        with self._one_step(len(pairs)):
            for at in range(0, len(pairs) or 1, ENTRIES_PER_SCRIPT):
                self._some("dict_update", c, pairs[at : at + ENTRIES_PER_SCRIPT])

    def list_extend(self, c: int, values: list[Any], left: bool = False) -> None:
        """Add all values at once, at the end or at the front."""
        with self._one_step(len(values)):
            for at in range(0, len(values) or 1, ENTRIES_PER_SCRIPT):
                self._some("list_extend", c, values[at : at + ENTRIES_PER_SCRIPT], left)

    def list_replace(self, c: int, start: int, stop: int, values: list[Any]) -> None:
        """Put values in place of a slice."""
        # Children may move within it: of them one script has to know all.
        if len(values) <= ENTRIES_PER_SCRIPT or self.run("has_links", c):
            self._some("list_replace", c, start, stop, values)
            return
        with self._one_step(len(values)):
            self._some("list_replace", c, start, stop, values[:ENTRIES_PER_SCRIPT])
            for done in range(ENTRIES_PER_SCRIPT, len(values), ENTRIES_PER_SCRIPT):
                place, piece = start + done, values[done : done + ENTRIES_PER_SCRIPT]
                self._some("list_replace", c, place, place, piece)

    def _some(self, name: str, *args: Any) -> None:
        self.request(OPERATIONS[name](self.values, *args))

    def _one_step(self, count: int) -> Any:
        return self.transaction() if count > ENTRIES_PER_SCRIPT else contextlib.nullcontext()

    def claim_first(self, c: int) -> tuple[int, Any]:
        """Return ticket and value of the first item."""
        made = OPERATIONS["claim_first"](self.values, c)
        claim: tuple[int, Any] = self.take(made, lambda claim: self.return_claim(c, claim[0]))
        return claim

    def list_pop(self, c: int, i: int = -1) -> Any:
        """Remove and return an item; the first one is not lost in an interrupt."""
        made = OPERATIONS["list_pop"](self.values, c, i)
        return self.request(made) if i else self.take(made, lambda item: self._put_back(c, item))

    def _put_back(self, c: int, item: Any) -> None:
        self.list_appendleft(c, item)
        if self.metadata(c)[0] in QUEUES:
            self.counter_add(c, -1)  # it has been counted when it was put

    def dict_add(self, c: int, key: Any, delta: Any, initial: Any = None) -> Any:
        """Add to a number, and return the sum."""
        made = OPERATIONS["dict_add"](self.values, c, key, delta, initial)
        try:
            return self.request(made)
        except Inexact:
            return self._add_here(
                lambda: self.dict_encoded(c, key),
                lambda old, new: self.dict_compare_and_set(c, key, old, new),
                delta,
                initial,
            )

    def list_add(self, c: int, i: int, delta: Any) -> Any:
        """Add to a number, and return the sum."""
        try:
            return self.request(OPERATIONS["list_add"](self.values, c, i, delta))
        except Inexact:
            return self._add_here(
                lambda: self.list_encoded(c, i),
                lambda old, new: self.list_compare_and_set(c, i, old, new),
                delta,
                None,
            )

    def _add_here(self, read: Any, replace: Any, delta: Any, initial: Any) -> Any:
        """Add in Python; again if another client has changed the number meanwhile."""
        while True:
            old = read()
            before = initial if old is None else self.decode(old)
            if type(before) not in {int, float, bool}:
                raise TypeError(
                    "only int and float can be added to; use a transaction for values of other "
                    "types"
                )
            try:
                total = before + delta
            except OverflowError as error:
                raise ValueError(str(error)) from None
            if replace(old, self.encode(total)):
                return total

    def encode(self, obj: Any) -> bytes:
        """Encode a value."""
        return _core.encode_value(obj, self.hooks)

    def decode(self, encoded: bytes) -> Any:
        """Decode a value."""
        return self.values.decode(encoded)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def _backend_of(store: Any) -> Any:
    return store.backend


def _method(name: str) -> Callable[..., Any]:
    make = OPERATIONS[name]

    def method(self: ValkeyBackend, *args: Any) -> Any:
        return self.request(make(self.values, *args))

    method.__name__ = name
    return method


for _name in OPERATIONS:
    if _name not in vars(ValkeyBackend):
        setattr(ValkeyBackend, _name, _method(_name))
del _name
