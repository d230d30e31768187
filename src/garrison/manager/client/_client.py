"""The client of a server's objects: one for each server that a process uses."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import weakref
from multiprocessing import context, process

from garrison import _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ChannelError, ManagerLost
from garrison.manager._auth_keys import KNOWN_FINGERPRINTS, KNOWN_KEYS, note_server
from garrison.manager._remote_errors import is_failure, raise_decoded, raise_failure
from garrison.manager._serializers import WITHOUT_KEY, get_serializer
from garrison.manager._types import IN_PROCESS_CLIENTS, ObjectRef
from garrison.manager.client._shm_calls import SharedMemoryCaller
from garrison.net import Connection, Key, RemoteFailure, Verb, format_address, public_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, overload

    from garrison.manager._types import ObjectClient
    from garrison.net import Limits

    Address = Any

__all__ = ["Client", "get_client"]

_clients: weakref.WeakValueDictionary[tuple[Any, ...], Client] = weakref.WeakValueDictionary()
"""Each lives as long as a manager, a proxy or a container uses it."""
_making = threading.Lock()


def _forget_after_fork() -> None:
    global _making  # noqa: PLW0603 - another thread may have held it when the process forked
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)


if TYPE_CHECKING:

    @overload
    def get_client(
        address: Address,
        key: bytes | None,
        name: str = "pickle",
        limits: Limits | None = None,
        *,
        local: Literal[False],
        fingerprint: str | None = None,
    ) -> Client: ...
    @overload
    def get_client(
        address: Address,
        key: bytes | None,
        name: str = "pickle",
        limits: Limits | None = None,
        *,
        local: bool = True,
        fingerprint: str | None = None,
    ) -> ObjectClient: ...


def get_client(
    address: Address,
    key: bytes | None,
    name: str = "pickle",
    limits: Limits | None = None,
    *,
    local: bool = True,
    fingerprint: str | None = None,
) -> ObjectClient:
    """Return this process's client of the server at an address.

    In the server's own process it calls the objects directly, unless `local` is false.
    """
    if local and address in IN_PROCESS_CLIENTS:
        return IN_PROCESS_CLIENTS[address]
    chosen = KNOWN_KEYS.get(address) if key is None else key
    if chosen is None:
        chosen = process.current_process().authkey
    fingerprint = fingerprint or KNOWN_FINGERPRINTS.get(address)
    place = (address, bytes(chosen), name, fingerprint)
    with _making:
        found = _clients.get(place)
        if found is None:
            found = _clients[place] = Client(address, bytes(chosen), name, limits, fingerprint)
        return found


class Client:
    """The objects of a server in another process."""

    def __init__(
        self,
        address: Address,
        key: bytes,
        name: str,
        limits: Limits | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.address = address
        self._key = Key(key)
        self._limits = limits
        self._fingerprint = fingerprint
        self._connection: Connection | None = None
        self._connecting = threading.Lock()
        self._serializer = get_serializer(name) if key else WITHOUT_KEY
        self._name: tuple[int, bytes] = (0, b"")
        self._server: tuple[int, str, bool] = (0, "", False)
        self._local = threading.local()
        self._extra_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._shm_callers: weakref.WeakSet[SharedMemoryCaller] = weakref.WeakSet()

    @property
    def connection(self) -> Connection:
        """The connection, made when it is first needed."""
        if self._connection is None:
            with self._connecting:
                if self._connection is None:
                    made = self._new_connection()
                    made.on_reconnect.append(_hello_hook(weakref.ref(self)))
                    self._connection = made
        return self._connection

    def _new_connection(self, **options: Any) -> Connection:
        return Connection(
            self.address,
            self._key,
            fingerprint=self._fingerprint,
            limits=self._limits,
            **options,
        )

    @property
    def is_connected(self) -> bool:
        """Whether this process has ever connected to the server."""
        return self._connection is not None

    @property
    def client_id(self) -> bytes:
        """The name under which this process holds references; a forked child has another."""
        pid, name = self._name
        if pid != os.getpid():
            name = secrets.token_bytes(16)
            self._name = os.getpid(), name
            self._send_hello()
        return name

    def _send_hello(self) -> None:
        answer = self.connection.ask(
            Verb.HELLO, self._name[1], os.getpid(), _os.boot_id(), idempotent=True
        )
        if [type(each) for each in answer] != [int, str, bool]:
            raise ChannelError(f"{format_address(self.address)} gave a wrong answer to a HELLO")
        self._server = (answer[0], answer[1], answer[2])

    def ask(self, verb: int, *fields: Any, idempotent: bool = False) -> list[Any]:
        """Send a request; return the fields of its reply."""
        _ = self.client_id
        try:
            return self.connection.ask(verb, *fields, idempotent=idempotent)
        except RemoteFailure as refusal:
            raise_failure(refusal, self._serializer)

    def open_extra_connection(self) -> Connection:
        """Return one more connection to the same server."""
        # Connects later: the server may just be restarting.
        made = self._new_connection(timeout=self.connection.timeout, lazy=True)
        self._extra_connections.add(made)
        return made

    @property
    def has_key(self) -> bool:
        """Whether the server has proved that it has a key."""
        return bool(self._key)

    @property
    def allows_pickle(self) -> bool:
        """Whether pickles are sent to the server, and read from it."""
        _ = self.client_id
        return self.has_key and self._server[2]

    def credentials(self) -> tuple[Any, ...]:
        """Return the arguments with which another process makes the same client.

        Only a spawned child gets the key.
        """
        is_child = context.get_spawning_popen() is not None
        return (bytes(self._key) if is_child else None, self._fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.address, *self.credentials())

    def connect(self) -> None:
        """Raise unless the server is reachable and has the same key."""
        _ = self.client_id
        self._send_hello()

    def shutdown(self) -> None:
        """Stop the server, if that is allowed; a lost one has ended already."""
        with contextlib.suppress(ManagerLost, OSError, EOFError):
            self.ask(Verb.SHUTDOWN)

    def close(self) -> None:
        """Disconnect."""
        for place in [place for place, each in list(_clients.items()) if each is self]:
            del _clients[place]
        for ring in list(self._shm_callers):
            ring.close()
        for other in list(self._extra_connections):
            other.close()
        if self._connection is not None:
            self._connection.close()

    # -- objects ----------------------------------------------------------------------------------

    def create(self, typeid: str, args: Any, kwds: Any) -> ObjectRef:
        """Make an object; this process holds a reference."""
        payload = self._serializer.dumps((args, kwds))
        ident, exposed = self.ask(Verb.CREATE, typeid, payload, threading.get_ident())
        return ObjectRef(typeid, ident, tuple(exposed))

    def call(
        self, ident: str, method: str, args: Any, kwds: Any
    ) -> tuple[Any, ObjectRef | None, Any]:
        """Call a method; return its result, or a reference to it and its proxy type."""
        payload = self._serializer.dumps((args, kwds)) if args or kwds else b""
        ring = self._shm_caller()
        if ring is None:
            answer: Any = self.ask(Verb.CALL, ident, method, payload, threading.get_ident())
        else:
            answer = ring.call(ident, method, payload)
            if is_failure(answer):
                raise_decoded(answer, self._serializer)
        return self._answer(answer)

    def _shm_caller(self) -> SharedMemoryCaller | None:
        """Return this thread's calls through shared memory, if the server is on this machine."""
        ring, pid = getattr(self._local, "ring", (None, 0))
        if pid == os.getpid() and not (ring is not None and ring.closed):
            return ring
        _ = self.client_id
        near = (
            self.has_key and isinstance(self.address, str) and _os.is_same_machine(self._server[1])
        )
        ring = SharedMemoryCaller(self, self._server[0]) if near else None
        if ring is not None:
            self._shm_callers.add(ring)
        self._local.ring = (ring, os.getpid())
        return ring

    def serialize(self, value: Any) -> bytes:
        """Pickle a value for the server."""
        return self._serializer.dumps(value)

    def _answer(self, answer: Any) -> tuple[Any, ObjectRef | None, Any]:
        if answer[0] == 0:
            return self._serializer.loads(answer[1]), None, None
        _, typeid, ident, exposed, written = answer
        proxytype = self._serializer.loads(written) if written else None
        return None, ObjectRef(typeid, ident, tuple(exposed)), proxytype

    def acquire_ref(self, ident: str) -> None:
        """Add a reference to an object."""
        self.ask(Verb.ACQUIRE_REF, ident)

    def release_ref(self, ident: str) -> None:
        """Release a reference. A forked child that has not connected holds none."""
        if self._name[0] == os.getpid() and self._connection is not None:
            self._connection.send_oneway(Verb.RELEASE_REFS, [ident])

    def begin_transfer(self, ident: str) -> bytes:
        """Keep an object until the receiver of a pickled proxy has confirmed."""
        self.ask(Verb.BEGIN_TRANSFER, ident)
        return public_name(self.client_id)

    def confirm_transfer(self, ident: str, sender: bytes) -> None:
        """Add a reference to an object that another process has sent."""
        self.ask(Verb.CONFIRM_TRANSFER, ident, sender)

    def methods(self, ident: str) -> tuple[str, ...]:
        """Return the names of the exposed methods."""
        (exposed,) = self.ask(Verb.METHODS, ident, idempotent=True)
        return tuple(exposed)


def _rebuild(address: Address, *credentials: Any) -> Any:
    note_server(address, *credentials)
    return get_client(address, None, local=False)


def _hello_hook(client: weakref.ref[Client]) -> Callable[[Connection], None]:
    """Return a hook that sends the client's name on a new connection; it holds no reference."""

    def greet(_: Connection) -> None:
        found = client()
        if found is not None:
            found._send_hello()

    return greet
