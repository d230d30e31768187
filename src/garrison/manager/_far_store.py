"""A store on another machine: the same operations, asked of its server.

`FarEngine` has the methods of the core's `Store`; the faces do not know which of the two they have.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from garrison import _core, _os
from garrison.errors import ManagerLost, SharedMemoryGone, StoreFull
from garrison.manager import _clients
from garrison.manager import _verbs as verbs
from garrison.manager._connection import Refused
from garrison.manager._operations import OPERATIONS, Operation
from garrison.manager._promises import Promise
from garrison.manager._refusals import RemoteError
from garrison.store import Codec
from garrison.store._create import FACES, make
from garrison.store._transaction import PythonBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison.manager._connection import Connection

__all__ = ["FarEngine", "FarStore", "far_or_home"]

STORE = verbs.STORE
TOGETHER = 64
"""Operations of a pipeline that are sent at once, while more are collected."""
BATCH = 512
"""Entries of an iteration that come in one answer."""

_ERRORS: dict[str, type[Exception]] = {
    "KeyError": KeyError,
    "IndexError": IndexError,
    "TypeError": TypeError,
    "ValueError": ValueError,
    "LookupError": LookupError,
    "TimeoutError": TimeoutError,
    "ContainerGone": _core.ContainerGone,
    "WrongKind": _core.WrongKind,
    "StoreFull": StoreFull,
}
_MISSING: Any = object()


def far_or_home(client: Any, *, direct: bool) -> Any:
    """Return the store of a server: in memory, if it is on this machine and may be reached."""
    if direct and isinstance(client.address, (str, tuple)):
        host, payload = client.ask(verbs.STORE, "home", idempotent=True)
        if host == _os.host():
            with contextlib.suppress(SharedMemoryGone, OSError):
                import pickle

                return pickle.loads(payload)
    return FarStore(client)


class _Hooks(Codec):
    """What is written and read here for a store that is elsewhere."""

    def __init__(self, home: FarStore) -> None:
        super().__init__(home.uuid, _core.encode_key, home.container)
        self.home = home


class FarStore:
    """A store behind a server, as `_home.Home` is one in memory."""

    is_home = False

    def __init__(self, client: Any) -> None:
        self.client = client
        self.uuid = hashlib.blake2b(repr(client.address).encode(), digest_size=16).digest()
        self.engine = FarEngine(self)

    def here(self) -> FarStore:
        """Be this process's own."""
        return self

    def track(self, face: Any) -> Any:
        """Let go of a container, which the server keeps for this process, when its face is gone."""
        tell = self.client.connection.tell
        weakref.finalize(face, tell, verbs.STORE, "drop", face._c).atexit = False
        return face

    def container(self, kind: int, c: int, is_shared: bool) -> Any:
        """Return the face of a container that was read from another one."""
        face = FACES[kind](self.engine, c)
        if not is_shared:
            return face
        self.engine.hold(c)
        return self.track(face)

    def make(self, kind: int, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Return the face of a new container, or of the one that has the name already."""
        face = make(self.engine, kind, *args, name=name, **kwargs)
        return self.track(face) if name is None else face

    def written(self, face: Any) -> tuple[Any, ...]:
        """Write a face down. The container is kept until somebody has received it."""
        self.engine.hold(face._c)
        owner = self.engine.ask("owner", idempotent=True)[0]
        return _received, (self, type(face)._KIND, face._c, owner)

    def received(self, kind: int, c: int, sender: int) -> Any:
        """Return the face of a container that another process has sent."""
        self.engine.ask("received", c, sender)
        return self.track(FACES[kind](self.engine, c))

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.client.address,)


def _received(store: FarStore, kind: int, c: int, sender: int) -> Any:
    return store.received(kind, c, sender)


_stores: weakref.WeakValueDictionary[Any, FarStore] = weakref.WeakValueDictionary()
"""Each as long as a face uses it."""


def _arrive(address: Any) -> FarStore:
    client = _clients.client(address, None)
    store = _stores.get(client)
    if store is None:
        store = _stores[client] = FarStore(client)
    return store


class FarEngine:
    """The operations of a store, each a question to its server."""

    optimistic = True

    def __init__(self, store: FarStore) -> None:
        self.home = store
        self.uuid = store.uuid
        self.hooks = _Hooks(store)
        self.coding = Coding(self.hooks)
        self.plans = {name: Plan(name, each, self.coding) for name, each in OPERATIONS.items()}
        self._local = threading.local()
        self._spare: deque[Connection] = deque()
        _engines.add(self)

    def ask(self, name: str, *fields: Any, idempotent: bool = False) -> Any:
        """Ask for something by name."""
        connection, again = self.way()
        try:
            return connection.ask(verbs.STORE, name, *fields, idempotent=again and idempotent)
        except Refused as refusal:
            raise self.error(refusal) from None

    def way(self) -> tuple[Any, bool]:
        """Return the connection for this thread, and whether anything may be repeated on it."""
        mine = getattr(self._local, "connection", None)
        if mine is not None:
            return mine, False
        client = self.home.client
        _ = client.name
        return client.connection, True

    @staticmethod
    def error(refusal: Refused, key: Any = _MISSING) -> Exception:
        """Return the exception that a refusal tells of."""
        kind = _ERRORS.get(refusal.kind)
        if kind is KeyError and key is not _MISSING:
            return KeyError(key)
        return RemoteError(f"{refusal.text}\n") if kind is None else kind(refusal.text)

    # -- transactions: each has a session of its own, so that other threads are not in it ---------

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in one."""
        return getattr(self._local, "connection", None) is not None

    def begin(self, timeout: float | None = None) -> None:
        """Begin a transaction; others' changes wait until it is over."""
        try:
            connection = self._spare.pop()
        except IndexError:
            connection = self.home.client.another()
        # On another connection it is another session's: what the first has begun ends with that.
        connection.ask(verbs.STORE, "begin", timeout, idempotent=True)
        connection.is_pinned = True
        self._local.connection = connection

    def commit(self) -> None:
        """Make what was done visible."""
        try:
            self.ask("commit")
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
        connection, self._local.connection = self._local.connection, None
        connection.is_pinned = False
        self._spare.append(connection)

    def _forked(self) -> None:
        """In a child: whatever transactions there are, they are the parent's."""
        self._local = threading.local()
        self._spare.clear()

    # -- what is not in the table -----------------------------------------------------------------

    def scan(self, c: int, what: str = "keys", reverse: bool = False) -> Iterator[Any]:
        """Iterate over a state of a container."""
        return FarScan(self, c, what, reverse)

    def wait_bell(self, c: int, seen: int, timeout: float | None) -> bool:
        """Wait for a container to change."""
        return bool(self.ask("wait_bell", c, seen, timeout, idempotent=True)[0])

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
        return PythonBlock(self, timeout, gentle)  # type: ignore[arg-type] # has more by table


_engines: weakref.WeakSet[FarEngine] = weakref.WeakSet()


def _forked() -> None:
    for engine in list(_engines):
        engine._forked()


os.register_at_fork(after_in_child=_forked)


class Batch:
    """Operations of a pipeline: sent as they come, answered at the end."""

    def __init__(self, engine: FarEngine) -> None:
        self._engine = engine
        self._plans = engine.plans
        self._begun: list[tuple[Promise[Any], Plan, Any]] = []
        self._requests: Any = None

    def add(self, name: str, args: tuple[Any, ...]) -> Promise[Any]:
        """Send an operation with others; the promise of its result."""
        default = _MISSING
        if name == "dict_get_or":
            name, args, default = "dict_get", args[:2], args[2]
        plan = self._plans[name]
        written = plan.write(args)
        if self._requests is None:
            connection, self._again = self._engine.way()
            self._requests = connection.pipeline()
        promise: Promise[Any] = Promise()
        self._requests.ask(STORE, name, *written, idempotent=self._again and plan.idempotent)
        key = args[1] if plan.has_key else _MISSING
        self._begun.append((promise, plan, (key, default)))
        if not len(self._begun) % TOGETHER:
            self._requests.flush()
        return promise

    def finish(self) -> None:
        """Wait for all answers and keep the promises."""
        begun, requests = self._begun, self._requests
        self._begun, self._requests = [], None
        if requests is None:
            return
        failed = None
        for (promise, plan, about), answer in zip(begun, requests.answers(), strict=True):
            if isinstance(answer, list):
                promise._value = plan.read(answer[0])
                continue
            self._fail(promise, answer, *about)
            if plan.read is _nothing:
                failed = failed or promise._error
        if failed is not None:
            raise failed

    def _fail(self, promise: Promise[Any], error: Exception, key: Any, default: Any) -> None:
        if isinstance(error, Refused):
            error = self._engine.error(error, key)
        if isinstance(error, KeyError) and default is not _MISSING:
            promise._value = default
        else:
            promise._error = error


class FarScan:
    """An iteration over a state of a container, which the server keeps."""

    def __init__(self, engine: FarEngine, c: int, what: str, reverse: bool) -> None:
        self._engine = engine
        coding = engine.coding
        self._decode: Callable[[Any], Any] = coding.pair if what == "items" else coding.value
        self._number, first = engine.ask("scan", c, what, reverse, BATCH, idempotent=True)
        self._ahead = deque(first)
        self._over = len(first) < BATCH

    def next(self, count: int) -> list[Any]:
        """Return the next entries; none if it is over."""
        while len(self._ahead) < count and not self._over:
            (more,) = self._engine.ask("scan_next", self._number, BATCH)
            self._over = len(more) < BATCH
            self._ahead.extend(more)
        taken = min(count, len(self._ahead))
        return [self._decode(self._ahead.popleft()) for _ in range(taken)]

    def close(self) -> None:
        """Let the server forget it."""
        if not self._over:
            self._over = True
            with contextlib.suppress(ManagerLost):
                self._engine.ask("scan_close", self._number, idempotent=True)

    def __iter__(self) -> FarScan:
        return self

    def __next__(self) -> Any:
        found = self.next(1)
        if not found:
            raise StopIteration
        return found[0]

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


# -- the table, as methods ------------------------------------------------------------------------


class Plan:
    """How one engine writes an operation's arguments and reads its answer."""

    __slots__ = ("begin", "count", "defaults", "has_key", "idempotent", "name", "read", "writers")

    def __init__(self, name: str, operation: Operation, coding: Coding) -> None:
        self.name = name
        self.begin = 0 if operation.anywhere else 1
        self.count = len(operation.takes) + self.begin
        self.defaults = _DEFAULTS.get(name, ())
        self.writers = [coding.writers.get(letter) for letter in operation.takes]
        self.has_key = operation.takes[:1] == "k"
        self.idempotent = operation.idempotent
        self.read = coding.readers.get(operation.gives, _plain)

    def write(self, args: tuple[Any, ...]) -> list[Any]:
        """Return the arguments as they are sent."""
        missing = self.count - len(args)
        written = [*args, *self.defaults[len(self.defaults) - missing :]] if missing else [*args]
        for place, writer in enumerate(self.writers, self.begin):
            if writer is not None:
                written[place] = writer(written[place])
        return written


class Coding:
    """How arguments are written and answers are read, by the letters of the table."""

    def __init__(self, hooks: Any) -> None:
        encode, decode = _core.encode_value, _core.decode_value

        def key(value: Any) -> list[bytes]:
            return list(_core.encode_key(value, hooks))

        def written(value: Any) -> bytes:
            return encode(value, hooks)

        def read(data: bytes) -> Any:
            return decode(data, hooks)

        self.value, self.pair = read, lambda pair: (read(pair[0]), read(pair[1]))
        self.writers: dict[str, Callable[[Any], Any]] = {
            "k": key,
            "v": written,
            "w": lambda value: None if value is None else written(value),
            "V": lambda values: [written(each) for each in values],
            "P": lambda pairs: [[key(k), written(v)] for k, v in pairs],
        }
        self.readers: dict[str, Callable[[Any], Any]] = {
            "-": _nothing,
            "v": read,
            "V": lambda values: [read(each) for each in values],
            "p": self.pair,
            "c": lambda pair: (pair[0], read(pair[1])),
        }


def _nothing(_: Any) -> None:
    """Read the answer of what has no result."""


def _plain(answer: Any) -> Any:
    return tuple(answer) if type(answer) is list else answer


def _method(name: str) -> Callable[..., Any]:
    def method(self: FarEngine, *args: Any) -> Any:
        plan = self.plans[name]
        written = plan.write(args)
        connection, again = self.way()
        try:
            (answer,) = connection.ask(
                STORE, name, *written, idempotent=again and plan.idempotent
            )
        except Refused as refusal:
            raise self.error(refusal, args[1] if plan.has_key else _MISSING) from None
        return plan.read(answer)

    method.__name__ = name
    return method


_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "create": (-1, b""),
    "named": (-1, b""),
    "dict_popitem": (True,),
    "dict_add": (None,),
    "list_extend": (False,),
    "list_pop": (-1,),
    "count_add": (None,),
}


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
