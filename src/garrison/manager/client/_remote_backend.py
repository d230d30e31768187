"""The operations of a store on another machine: each is a request to its server.

The methods for single operations come from the table in `garrison.manager._store_operations`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ManagerLost
from garrison.manager._remote_errors import RemoteError
from garrison.manager._store_operations import ERRORS, OPERATIONS
from garrison.manager.client._operation_codec import MISSING, OperationCodec, ValueCodec, pairs_of
from garrison.manager.client._pipeline import OperationBatch
from garrison.manager.client._remote_scan import RemoteScan
from garrison.net import RemoteFailure, Verb, format_address
from garrison.store import PythonTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison.net import Connection

__all__ = ["RemoteBackend"]

STORE = Verb.STORE
ENTRIES_PER_REQUEST = 1 << 14
"""A server accepts requests of bounded size, and serves others between two of them."""


class RemoteBackend:
    """A `RemoteStoreBackend` over the connections of one client."""

    optimistic = True

    def __init__(self, client: Any, hooks: Any, check: Callable[[], object]) -> None:
        self.uuid: bytes = hooks.uuid
        self.hooks = hooks
        self.values = ValueCodec(hooks)
        self.codecs = {name: OperationCodec(each, self.values) for name, each in OPERATIONS.items()}
        self._client = client
        self._check = check
        self._local = threading.local()
        self._spare: deque[Connection] = deque()

    def __reduce__(self) -> tuple[Any, ...]:
        return _backend_of, (self.hooks.store,)

    def ask(self, name: str, *fields: Any, idempotent: bool = False) -> Any:
        """Send a request that is not in the table."""
        connection, again, check = self.route()
        try:
            return connection.ask(STORE, name, *fields, idempotent=again or idempotent, check=check)
        except RemoteFailure as failure:
            raise self.error(failure) from None

    def route(self) -> tuple[Any, bool, Callable[[], object]]:
        """Return this thread's connection, whether requests may be repeated there, and its check.

        In a transaction they may: the check fails on a new connection, and nothing of the
        transaction was done on the old one.
        """
        mine = self.transaction_connection
        if mine is not None:
            return mine.connection, True, mine.check
        client = self._client
        _ = client.client_id
        return client.connection, False, self._check

    @staticmethod
    def error(failure: RemoteFailure, key: Any = MISSING) -> Exception:
        """Return the exception for a failure."""
        kind = ERRORS.get(failure.kind)
        if kind is KeyError and key is not MISSING:
            return KeyError(key)
        return RemoteError(f"{failure.text}\n") if kind is None else kind(failure.text)

    # -- transactions: each has its own connection, so other threads are not in it ----------------

    @property
    def transaction_connection(self) -> _TransactionConnection | None:
        """The connection of this thread's transaction, if there is one."""
        mine: _TransactionConnection | None = getattr(self._local, "connection", None)
        return None if mine is None or mine.pid != os.getpid() else mine

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in one."""
        return self.transaction_connection is not None

    def begin(self, timeout: float | None = None) -> None:
        """Begin a transaction; other writers wait until it is over."""
        self._check()
        name = self._client.client_id
        try:
            connection = self._spare.pop()
        except IndexError:
            connection = self._client.open_extra_connection()
        try:
            # May be repeated: a transaction is aborted when its connection is lost.
            connection.ask(STORE, "begin", name, timeout, idempotent=True)
        except RemoteFailure as failure:
            self._spare.append(connection)
            raise self.error(failure) from None
        except BaseException:
            connection.close()
            raise
        self._local.connection = _TransactionConnection(connection)

    def commit(self) -> None:
        """Make what was done visible."""
        mine: _TransactionConnection = self._local.connection
        try:
            # Not idempotent: if the connection breaks here, the outcome is unknown.
            mine.connection.ask(STORE, "commit", check=mine.check)
        except RemoteFailure as failure:
            raise self.error(failure) from None
        finally:
            self._leave()

    def abort(self) -> None:
        """Undo what was done."""
        try:
            with contextlib.suppress(ManagerLost):
                self.ask("abort")
        finally:
            self._leave()

    def _leave(self) -> None:
        connection, self._local.connection = self._local.connection.connection, None
        if connection.is_open:
            self._spare.append(connection)
        else:
            connection.close()

    # -- not in the table -------------------------------------------------------------------------

    def scan(self, container_id: int, what: str = "keys", reverse: bool = False) -> Iterator[Any]:
        """Iterate over the present state of a container."""
        return RemoteScan(self, container_id, what, reverse)

    def wait_for_change(self, container_id: int, seen: int, timeout: float | None = None) -> bool:
        """Wait for a container to change. If the connection breaks, the caller looks again."""
        connection, _, check = self.route()
        try:
            (changed,) = connection.ask(
                STORE, "wait_for_change", container_id, seen, timeout, check=check
            )
        except RemoteFailure as failure:
            raise self.error(failure) from None
        except ManagerLost:
            return True
        return bool(changed)

    def encode(self, obj: Any) -> bytes:
        """Encode a value."""
        return _core.encode_value(obj, self.hooks)

    def decode(self, encoded: bytes) -> Any:
        """Decode a value."""
        return _core.decode_value(encoded, self.hooks)

    def batch(self) -> OperationBatch:
        """Return a batch for the operations of a pipeline."""
        return OperationBatch(self)

    def transaction(
        self, timeout: float | None = None, nested_failure_ok: bool = False
    ) -> PythonTransaction:
        """Return a block of operations that are one step."""
        return PythonTransaction(self, timeout, nested_failure_ok)


def _backend_of(store: Any) -> Any:
    return store.backend


class _TransactionConnection:
    """The connection of a transaction; its requests must not go to another one."""

    __slots__ = ("connection", "generation", "pid")

    def __init__(self, connection: Connection) -> None:
        self.connection, self.generation = connection, connection.generation
        self.pid = os.getpid()

    def check(self) -> None:
        """Raise if the link was replaced or lost."""
        if self.connection.generation != self.generation or not self.connection.is_open:
            where = format_address(self.connection.address)
            raise ManagerLost(
                f"the connection to {where} was lost, and with it the transaction: "
                "nothing of it was done"
            )


# -- the table, as methods ------------------------------------------------------------------------


def _method(name: str) -> Callable[..., Any]:
    def method(self: RemoteBackend, *args: Any) -> Any:
        codec = self.codecs[name]
        fields = codec.encode(args)
        connection, again, check = self.route()
        try:
            (answer,) = connection.ask(
                STORE, name, *fields, idempotent=again or codec.idempotent, check=check
            )
        except RemoteFailure as failure:
            raise self.error(failure, args[1] if codec.has_key else MISSING) from None
        return codec.decode(answer)

    method.__name__ = name
    return method


def _dict_get_or(self: Any, container_id: int, key: Any, default: Any) -> Any:
    try:
        return self.dict_get(container_id, key)
    except KeyError:
        return default


def _dict_get_many(self: Any, container_id: int, keys: list[Any], missing: Any = None) -> list[Any]:
    """Ask for some keys at a time; for all of them as they are at one moment."""
    pieces = [
        keys[begin : begin + ENTRIES_PER_REQUEST]
        for begin in range(0, len(keys), ENTRIES_PER_REQUEST)
    ]
    with self.transaction() if len(pieces) > 1 else contextlib.nullcontext():
        found = [each for piece in pieces for each in self.dict_encoded_many(container_id, piece)]
    return [missing if each is None else self.decode(each) for each in found]


def _dict_entries(self: RemoteBackend, container_id: int, what: str) -> list[Any]:
    return list(self.scan(container_id, what))


def _in_pieces(name: str) -> Callable[..., None]:
    """Return a method that sends many entries as several requests of one transaction."""
    send = _method(name)

    def method(self: RemoteBackend, container_id: int, entries: Any, *more: Any) -> None:
        entries = pairs_of(entries)
        if len(entries) <= ENTRIES_PER_REQUEST:
            send(self, container_id, entries, *more)
            return
        with self.transaction():
            for begin in range(0, len(entries), ENTRIES_PER_REQUEST):
                send(self, container_id, entries[begin : begin + ENTRIES_PER_REQUEST], *more)

    method.__name__ = name
    return method


def _list_replace(
    self: RemoteBackend, container_id: int, begin: int, end: int, values: Any
) -> None:
    if len(values) <= ENTRIES_PER_REQUEST:
        _replace(self, container_id, begin, end, values)
        return
    with self.transaction():
        _replace(self, container_id, begin, end, values[:ENTRIES_PER_REQUEST])
        for done in range(ENTRIES_PER_REQUEST, len(values), ENTRIES_PER_REQUEST):
            place = begin + done
            piece = values[done : done + ENTRIES_PER_REQUEST]
            _replace(self, container_id, place, place, piece)


_replace = _method("list_replace")
for _name in OPERATIONS:
    setattr(RemoteBackend, _name, _method(_name))
for _name in ("dict_update", "list_extend"):
    setattr(RemoteBackend, _name, _in_pieces(_name))
RemoteBackend.list_replace = _list_replace  # type: ignore[attr-defined]
RemoteBackend.dict_get_or = _dict_get_or  # type: ignore[attr-defined]
RemoteBackend.dict_get_many = _dict_get_many  # type: ignore[attr-defined]
RemoteBackend.dict_entries = _dict_entries  # type: ignore[attr-defined]
