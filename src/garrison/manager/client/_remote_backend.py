"""The operations of a store on another machine, each a question to its server."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import (
    ContainerGone,
    ManagerLost,
    ShutDown,
    StoreFull,
    TransactionFailed,
    WrongKind,
)
from garrison.manager._remote_errors import RemoteError
from garrison.manager._store_operations import OPERATIONS
from garrison.manager.client._operation_codec import MISSING, Coding, Plan, nothing
from garrison.manager.client._pipeline import Promise
from garrison.manager.client._remote_scan import FarScan
from garrison.net import RemoteFailure, Verb, format_address
from garrison.store._transaction import PythonBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison.net import Connection

__all__ = ["FarEngine"]

STORE = Verb.STORE
TOGETHER = 64
"""Operations of a pipeline that are sent at once, while more are collected."""

_ERRORS: dict[str, type[Exception]] = {
    "KeyError": KeyError,
    "IndexError": IndexError,
    "TypeError": TypeError,
    "ValueError": ValueError,
    "LookupError": LookupError,
    "TimeoutError": TimeoutError,
    "ContainerGone": ContainerGone,
    "WrongKind": WrongKind,
    "StoreFull": StoreFull,
    "TransactionFailed": TransactionFailed,
    "ShutDown": ShutDown,
}


class FarEngine:
    """The operations of a store, each a question to its server."""

    optimistic = True

    def __init__(self, client: Any, hooks: Any, life: Any) -> None:
        self.uuid: bytes = hooks.uuid
        self.hooks = hooks
        self.coding = Coding(hooks)
        self.plans = {name: Plan(name, each, self.coding) for name, each in OPERATIONS.items()}
        self._client = client
        self._check = life.check
        self._local = threading.local()
        self._spare: deque[Connection] = deque()

    def __reduce__(self) -> tuple[Any, ...]:
        return _engine_of, (self.hooks.home,)

    def ask(self, name: str, *fields: Any, idempotent: bool = False) -> Any:
        """Ask for something by name."""
        connection, again, check = self.way()
        try:
            return connection.ask(STORE, name, *fields, idempotent=again or idempotent, check=check)
        except RemoteFailure as refusal:
            raise self.error(refusal) from None

    def way(self) -> tuple[Any, bool, Callable[[], object]]:
        """Return this thread's connection, whether it is safe to ask again, and its check.

        In a transaction it is, since the check does not let that happen: what was lost with the
        connection was not done.
        """
        mine: _Own | None = getattr(self._local, "own", None)
        if mine is not None and mine.pid == os.getpid():
            return mine.connection, True, mine.check
        client = self._client
        _ = client.client_id
        return client.connection, False, self._check

    @staticmethod
    def error(refusal: RemoteFailure, key: Any = MISSING) -> Exception:
        """Return the exception that a refusal tells of."""
        kind = _ERRORS.get(refusal.kind)
        if kind is KeyError and key is not MISSING:
            return KeyError(key)
        return RemoteError(f"{refusal.text}\n") if kind is None else kind(refusal.text)

    # -- transactions: each has a session of its own, so that other threads are not in it ---------

    @property
    def own(self) -> Any:
        """What this thread's transaction has, if there is one."""
        return getattr(self._local, "own", None)

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in one."""
        mine: _Own | None = getattr(self._local, "own", None)
        return mine is not None and mine.pid == os.getpid()

    def begin(self, timeout: float | None = None) -> None:
        """Begin a transaction; others' changes wait until it is over."""
        self._check()
        name = self._client.client_id
        try:
            connection = self._spare.pop()
        except IndexError:
            connection = self._client.open_extra_connection()
        try:
            # On a new connection it is another transaction: an old one is undone with its own.
            connection.ask(STORE, "begin", name, timeout, idempotent=True)
        except RemoteFailure as refusal:
            self._spare.append(connection)
            raise self.error(refusal) from None
        except BaseException:
            connection.close()
            raise
        self._local.own = _Own(connection)

    def commit(self) -> None:
        """Make what was done visible."""
        mine: _Own = self._local.own
        try:
            # Here alone nobody knows what has come of it if the connection is lost.
            mine.connection.ask(STORE, "commit", check=mine.check)
        except RemoteFailure as refusal:
            raise self.error(refusal) from None
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
        connection, self._local.own = self._local.own.connection, None
        if connection.is_open:
            self._spare.append(connection)
        else:
            connection.close()

    # -- what is not in the table -----------------------------------------------------------------

    def scan(self, c: int, what: str = "keys", reverse: bool = False) -> Iterator[Any]:
        """Iterate over a state of a container."""
        return FarScan(self, c, what, reverse)

    def wait_bell(self, c: int, seen: int, timeout: float | None = None) -> bool:
        """Wait for a container to change; after a break, who waits must look again."""
        connection, _, check = self.way()
        try:
            (changed,) = connection.ask(STORE, "wait_bell", c, seen, timeout, check=check)
        except RemoteFailure as refusal:
            raise self.error(refusal) from None
        except ManagerLost:
            return True
        return bool(changed)

    def encode(self, obj: Any) -> bytes:
        """Write a value."""
        return _core.encode_value(obj, self.hooks)

    def decode(self, encoded: bytes) -> Any:
        """Read a value."""
        return _core.decode_value(encoded, self.hooks)

    def batch(self) -> Batch:
        """Return what collects operations of a pipeline."""
        return Batch(self)

    def block(self, timeout: float | None = None, gentle: bool = False) -> PythonBlock:
        """Return a block of operations that are one step."""
        return PythonBlock(self, timeout, gentle)


def _engine_of(store: Any) -> Any:
    return store.engine


class _Own:
    """The connection of a transaction: nothing of it may be asked on another one."""

    __slots__ = ("connection", "links", "pid")

    def __init__(self, connection: Connection) -> None:
        self.connection, self.links, self.pid = connection, connection.generation, os.getpid()

    def check(self) -> None:
        """Raise if the connection is another one by now."""
        if self.connection.generation != self.links or not self.connection.is_open:
            where = format_address(self.connection.address)
            raise ManagerLost(
                f"the connection to {where} was lost, and with it the transaction: "
                "nothing of it was done"
            )


class Batch:
    """Operations of a pipeline: sent as they come, answered at the end."""

    def __init__(self, engine: FarEngine) -> None:
        self._engine = engine
        self._plans = engine.plans
        self._begun: list[tuple[Promise[Any], Any, Plan, Any]] = []
        self._requests: Any = None

    def add(self, name: str, args: tuple[Any, ...]) -> Promise[Any]:
        """Send an operation with others; the promise of its result."""
        default = MISSING
        if name == "dict_get_or":
            name, args, default = "dict_get", args[:2], args[2]
        plan = self._plans[name]
        written = plan.write(args)
        if self._requests is None or self._own is not self._engine.own:
            self._begin()
        request = self._requests.ask(
            STORE, name, *written, idempotent=self._again or plan.idempotent
        )
        promise: Promise[Any] = Promise()
        key = args[1] if plan.has_key else MISSING
        self._begun.append((promise, request, plan, (key, default)))
        if not len(self._begun) % TOGETHER:
            self._requests.flush()
        return promise

    def _begin(self) -> None:
        """Send on this thread's connection from now on: a transaction has another one."""
        if self._requests is not None:
            self._requests.flush()
        connection, self._again, check = self._engine.way()
        self._own = self._engine.own
        self._requests = connection.batch(check)

    def finish(self) -> None:
        """Wait for all answers and keep the promises."""
        begun, requests = self._begun, self._requests
        self._begun, self._requests = [], None
        if requests is None:
            return
        requests.flush()
        failed = None
        for promise, request, plan, about in begun:
            try:
                (answer,) = request.get()
            except Exception as error:
                self._fail(promise, error, *about)
                if plan.read is nothing:
                    failed = failed or promise._error
            else:
                promise._value = plan.read(answer)
        if failed is not None:
            raise failed

    def _fail(self, promise: Promise[Any], error: Exception, key: Any, default: Any) -> None:
        if isinstance(error, RemoteFailure):
            error = self._engine.error(error, key)
        if isinstance(error, KeyError) and default is not MISSING:
            promise._value = default
        else:
            promise._error = error


# -- the table, as methods ------------------------------------------------------------------------


def _method(name: str) -> Callable[..., Any]:
    def method(self: FarEngine, *args: Any) -> Any:
        plan = self.plans[name]
        written = plan.write(args)
        connection, again, check = self.way()
        try:
            (answer,) = connection.ask(
                STORE, name, *written, idempotent=again or plan.idempotent, check=check
            )
        except RemoteFailure as refusal:
            raise self.error(refusal, args[1] if plan.has_key else MISSING) from None
        return plan.read(answer)

    method.__name__ = name
    return method


def _or(find: Callable[[], Any], default: Any) -> Any:
    try:
        return find()
    except KeyError:
        return default


def _dict_get_or(self: FarEngine, c: int, key: Any, default: Any) -> Any:
    return _or(lambda: self.dict_get(c, key), default)  # type: ignore[attr-defined]


for _name in OPERATIONS:
    setattr(FarEngine, _name, _method(_name))
FarEngine.dict_get_or = _dict_get_or  # type: ignore[attr-defined]
