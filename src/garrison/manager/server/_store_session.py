"""The state of one connection in a store, and how replies and errors are sent to it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import WrongKind
from garrison.manager._remote_errors import REMOTE
from garrison.manager._store_operations import ERRORS, OPERATIONS, Arg
from garrison.manager.server._store_clients import StoreClient
from garrison.net import Access

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.server._dispatch import ClientSession

__all__ = ["ENDED", "NONE", "OPEN", "ServerCall", "StoreSession", "encode_error", "to_wire"]

MAX_REMEMBERED_CLAIMS = 64
"""Claims that are remembered, in case their reply does not arrive."""
MAX_WAITING = 1024
"""Requests that wait for the store, or for the session's turn, before no more are received."""
NONE, OPEN, ENDED = range(3)
"""States of a transaction. ENDED: the server has aborted it and the client does not know yet."""

_DECODERS: dict[Arg, Callable[[Any], Any]] = {
    Arg.KEY: tuple,
    Arg.KEYS: lambda keys: [tuple(key) for key in keys],
    Arg.PAIRS: lambda pairs: [(tuple(key), value) for key, value in pairs],
}
"""Decoders of arguments that are not passed on as received."""


def _plain(encoded: Any) -> Any:
    """Return an encoded value, or None, that nothing must be unpickled for."""
    if encoded and _core.holds_pickle(encoded):
        raise ValueError(
            "this server keeps plain values only, and this is a pickle: start it with a key and "
            "with --allow-pickle"
        )
    return encoded


def _plain_key(key: Any) -> tuple[Any, ...]:
    return (*key[:-1], _plain(key[-1]))


_PLAIN_DECODERS: dict[Arg, Callable[[Any], Any]] = {
    Arg.KEY: _plain_key,
    Arg.KEYS: lambda keys: [_plain_key(key) for key in keys],
    Arg.VALUE: _plain,
    Arg.OPTIONAL_VALUE: _plain,
    Arg.ENCODED: _plain,
    Arg.VALUES: lambda values: [_plain(value) for value in values],
    Arg.PAIRS: lambda pairs: [(_plain_key(key), _plain(value)) for key, value in pairs],
}
"""The same for a server that keeps plain values: nothing of its clients is unpickled later."""


class ReadingBackend:
    """A session's backend, for a client whose key only reads: it makes no container."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def named(self, name: str, kind: int, *_: Any) -> tuple[int, bool]:
        """Return the container of that name."""
        found = self._backend.find_name(name)
        if found is None:
            raise PermissionError(f"there is no {name!r}, and the key of this client only reads")
        if found[0] != kind:
            raise WrongKind(f"{name!r} is of another kind")
        return found[1], False


class ServerCall:
    """An operation of the table, bound to the backend of one session."""

    __slots__ = ("_decoders", "_length", "_method", "_name", "for_client")

    def __init__(self, backend: Any, name: str, *, plain_only: bool) -> None:
        operation = OPERATIONS.get(name)
        if operation is None:
            raise ValueError(f"there is no operation {name!r}")
        first = 1 if operation.no_container else 2
        self._length = first + len(operation.args)
        self._method = getattr(backend, name)
        self._name = name
        decoders = _PLAIN_DECODERS if plain_only else _DECODERS
        self._decoders = [
            (place, decoders[arg])
            for place, arg in enumerate(operation.args, first)
            if arg in decoders
        ]
        self.for_client: bool = operation.for_client

    def run(self, request: list[Any]) -> Any:
        """Decode the arguments of a request, behind its name, and call the method."""
        if len(request) != self._length:
            raise ValueError(
                f"{self._name} takes {self._length - 1} arguments, not {len(request) - 1}"
            )
        for place, decode in self._decoders:
            request[place] = decode(request[place])
        return self._method(*request[1:])


@dataclass(eq=False)
class StoreSession:
    """The state of one connection."""

    peer: ClientSession
    owner: int
    backend: Any
    plain_only: bool
    """Whether nothing may be stored that must be unpickled."""
    client_name: bytes = b""
    client: StoreClient = field(default_factory=lambda: StoreClient(0))
    waiting: deque[tuple[int, list[Any]]] = field(default_factory=deque)
    """Requests that are not done yet: id, then name and arguments."""
    is_slow: bool = False
    """Whether its requests have used up its last turn."""
    batch: list[tuple[int, list[Any]]] | None = None
    """Requests that came together; None if none are collected."""
    calls: dict[str, ServerCall] = field(default_factory=dict)
    scans: dict[int, Any] = field(default_factory=dict)
    last_scan: int = 0
    claims: deque[tuple[int, int, int]] = field(
        default_factory=lambda: deque(maxlen=MAX_REMEMBERED_CLAIMS)
    )
    """Request, container, ticket."""
    transaction: int = NONE
    began_at: float = 0.0
    active_at: float = 0.0
    """When its transaction was begun, and when something was done in it last."""
    undone_because: str = ""
    """Why the server has aborted its transaction."""
    transaction_timer_runs: bool = False
    begin_with_timeout: int = 0
    """The request to begin a transaction whose timeout is running."""

    def call(self, name: str) -> ServerCall:
        """Return an operation for this session."""
        found = self.calls.get(name)
        if found is None:
            backend = self.backend
            if self.peer.access < Access.FULL:
                backend = ReadingBackend(backend)
            found = self.calls[name] = ServerCall(backend, name, plain_only=self.plain_only)
        return found

    def limit_reading(self) -> None:
        """Receive no more requests while too many of them wait."""
        peer = self.peer.session
        if len(self.waiting) > MAX_WAITING:
            peer.hold_reading(True)
        elif peer.held and len(self.waiting) <= MAX_WAITING // 2:
            peer.hold_reading(False)

    def reply(self, request_id: int, *values: Any) -> None:
        """Send an answer."""
        self.peer.session.reply(request_id, *values)

    def fail(self, request_id: int, error: BaseException) -> None:
        """Send an error."""
        kind, text, data = encode_error(error)
        if kind == REMOTE:
            self.peer.session.log.failure("an operation has failed", error=error)
        self.peer.session.fail(request_id, kind, text, data)


def to_wire(value: Any) -> Any:
    """Return a result as it is sent: as lists."""
    if value is None or type(value) is bytes:
        return value  # what most operations return
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (tuple, list)):
        return [to_wire(each) for each in value]
    return value


def encode_error(error: BaseException) -> tuple[str, str, bytes]:
    """Return kind and text of an error; the client knows the same kinds."""
    for name, kind in ERRORS.items():
        if isinstance(error, kind):
            return name, str(error.args[0] if error.args else ""), b""
    return REMOTE, f"{type(error).__name__}: {error}", b""
