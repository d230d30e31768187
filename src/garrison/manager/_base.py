"""`BaseManager`: starts a server, or finds one, and makes proxies of registered types."""

from __future__ import annotations

import os
import signal
from multiprocessing import ProcessError, connection, context, process, util

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, ClassVar
from garrison.manager._auth_keys import expecting, note_served, require_key_for_network
from garrison.manager._serializers import get_serializer as find_serializer
from garrison.manager._types import RegisteredType
from garrison.manager.client import _proxy
from garrison.manager.client._client import get_client
from garrison.manager.server._server import Server
from garrison.net import Key, Limits, Listener, Verb, format_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Self

    from garrison.manager._types import ObjectClient

__all__ = ["BaseManager", "State"]


class State:
    """The state of a manager, shared with its finalizer."""

    __slots__ = ("value",)
    INITIAL = 0
    STARTED = 1
    SHUTDOWN = 2

    def __init__(self) -> None:
        self.value = State.INITIAL


_STATE_ERRORS = {
    State.STARTED: "Already started server",
    State.SHUTDOWN: "Manager has shut down",
    State.INITIAL: "this manager has no server yet: call start() or connect(), or use with",
}


class BaseManager(managers.BaseManager):
    """Starts a server process whose objects others reach by proxy, as in `multiprocessing`.

    Parameters
    ----------
    address : tuple or str, optional
        Where the server listens: ``(host, port)`` or the path of a socket; by default a socket
        that only processes of this machine find.
    authkey : bytes, optional
        The key of the server. All traffic is encrypted with a key derived from it. By default
        the key that this process shares with its children.
    serializer : {'pickle', 'xmlrpclib'}
        How arguments and results are written.
    ctx : context, optional
        How the server process is started.
    shutdown_timeout : float
        Seconds that the server has to end before it is terminated.
    limits : Limits, optional
        How much the server accepts from its clients, and how long both wait for each other.

    Examples
    --------
    >>> from garrison.managers import BaseManager
    >>> class Tally:
    ...     def __init__(self):
    ...         self.votes = 0
    ...     def vote(self):
    ...         self.votes += 1
    ...         return self.votes
    >>> class Manager(BaseManager):
    ...     pass
    >>> Manager.register("Tally", Tally)
    >>> with Manager() as manager:
    ...     tally = manager.Tally()
    ...     tally.vote()
    ...     tally.vote()
    1
    2
    """

    _registry: ClassVar[Any] = {}
    _Server: Any = Server

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
        limits: Limits | None = None,
    ) -> None:
        self._has_key = authkey is not None
        if authkey is None:
            authkey = process.current_process().authkey
        find_serializer(serializer)
        self._address = address
        self._authkey: Any = Key(authkey)
        self._state = State()
        self._serializer = serializer
        self._ctx: Any = ctx or context._default_context
        self._shutdown_timeout = shutdown_timeout
        self._limits = limits or Limits()
        self._fingerprint: str | None = None
        self._process: Any = None
        self._client_ref: Any = None

    # -- starting, finding, ending ----------------------------------------------------------------

    def _require_state(self, wanted: int) -> None:
        if self._state.value != wanted:
            raise ProcessError(_STATE_ERRORS[self._state.value])

    def _check_key(self) -> None:
        require_key_for_network(self._address, bytes(self._authkey) if self._has_key else None)

    def get_server(self) -> Server:
        """Return a server for this process to run: see its ``serve_forever`` and ``address``."""
        self._require_state(State.INITIAL)
        self._check_key()
        server: Server = self._make_server(self._address)
        return server

    def connect(self) -> None:
        """Find the server at this manager's address.

        Raises
        ------
        AuthenticationError
            If it has another key.
        OSError
            If there is no server of garrison's.
        """
        # From now on all clients of the address in this process expect this server.
        with expecting(self._address, bytes(self._authkey), self._fingerprint):
            self._client_ref = self._client  # kept as long as this manager is
            self._client_ref.connect()
        self._state.value = State.STARTED

    @property
    def _client(self) -> ObjectClient:
        key = bytes(self._authkey)
        return get_client(
            self._address, key, self._serializer, self._limits, fingerprint=self._fingerprint
        )

    def start(
        self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
    ) -> None:
        """Start the server process.

        Clients can connect from now on, though the server may not be ready yet. With an
        `initializer`, it is ready.

        Raises
        ------
        OSError
            If the address cannot be had.
        ValueError
            If other computers reach the address, and there is no key.
        EOFError
            If the initializer fails; the server has printed why.
        """
        self._require_state(State.INITIAL)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._check_key()
        listener = Listener(self._address, self._limits)
        try:
            self._launch(listener, initializer, tuple(initargs))
        except BaseException:
            listener.close()
            listener.unlink()
            raise
        self._address = listener.address
        listener.close()
        note_served(self._address, bytes(self._authkey))
        self._state.value = State.STARTED
        self.shutdown = util.Finalize(  # type: ignore[method-assign]
            self,
            type(self)._finalize_manager,
            args=(self._process, self._client, self._state, self._shutdown_timeout, listener),
            exitpriority=0,
        )

    def _launch(self, listener: Listener, initializer: Any, initargs: tuple[Any, ...]) -> None:
        reader, writer = connection.Pipe(duplex=False)
        with reader, writer:
            self._process = self._ctx.Process(
                target=type(self)._run_server,
                args=(self._make_server(listener), os.getpid(), writer, initializer, initargs),
            )
            ident = ":".join(map(str, self._process._identity))
            self._process.name = f"{type(self).__name__}-{ident}"
            # The server begins with Ctrl-C blocked: it may come before the server can ignore it.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            writer.close()
            if initializer is not None:
                reader.recv()

    def _make_server(self, place: Any) -> Any:
        """Return a server for an address, or for a listener that another process will use."""
        return self._Server(self._registry, place, self._authkey, self._serializer, self._limits)

    @staticmethod
    def _run_server(
        server: Server, parent: int, writer: Any, initializer: Any, initargs: tuple[Any, ...]
    ) -> None:
        """Run in the server process."""
        # Ctrl-C is for the program; the server ends with it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if initializer is not None:
            initializer(*initargs)
            writer.send(None)
        writer.close()
        server.serve_forever(parent=parent)

    def shutdown(self) -> None:
        """End the server process. Only after `start`."""
        raise ProcessError("this manager has not started a server")

    @staticmethod
    def _finalize_manager(
        server: Any, client: Any, state: State, timeout: float, listener: Listener
    ) -> None:
        state.value = State.SHUTDOWN
        if server.is_alive() and client.is_connected:
            client.shutdown()
            client.close()
            server.join(timeout)
        for end in (server.terminate, server.kill):
            if server.is_alive():
                end()
                server.join(timeout)
        client.close()
        listener.unlink()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the server process to end, if this manager has started one."""
        if self._process is not None:
            self._process.join(timeout)
            if not self._process.is_alive():
                self._process = None

    def __enter__(self) -> Self:
        if self._state.value == State.INITIAL:
            self.start()
        self._require_state(State.STARTED)
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    @property
    def address(self) -> Any:
        """Where the server listens."""
        return self._address

    def __repr__(self) -> str:
        state = ("not started", "started", "shut down")[self._state.value]
        where = f" at {format_address(self._address)}" if self._address is not None else ""
        return f"<{type(self).__name__} {state}{where}>"

    # -- objects ----------------------------------------------------------------------------------

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> tuple[_proxy.Token, Any]:
        """Make an object; return its token and its methods. This process holds a reference."""
        self._require_state(State.STARTED)
        made = self._client.create(typeid, args, kwds)
        return _proxy.Token(typeid, self._address, made.ident), made.exposed

    def _debug_info(self) -> str:
        """Describe the objects in use."""
        return str(self._client.ask(Verb.DEBUG, idempotent=True)[0])

    def _number_of_objects(self) -> int:
        """Return the number of objects in use."""
        return int(self._client.ask(Verb.COUNT, idempotent=True)[0])

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,  # noqa: A002 - the standard name
        proxytype: Any = None,
        exposed: Iterable[str] | None = None,
        method_to_typeid: Mapping[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Register a type, so that managers of this class can make its objects.

        Parameters
        ----------
        typeid : str
            The type's name, and that of the method which makes an object.
        callable : callable, optional
            Makes the object, in the server. A manager that only connects needs none.
        proxytype : type, optional
            Makes the proxy; by default it has each exposed method of the object.
        exposed : iterable of str, optional
            What proxies may call; by default the methods without a leading underscore.
        method_to_typeid : mapping, optional
            For methods whose results are to be proxies: the type of each.
        create_method : bool
            Whether the class gets a method of the type's name.
        """
        if "_registry" not in cls.__dict__:
            cls._registry = dict(cls._registry)
        chosen = proxytype or _proxy.AutoProxy
        exposed = exposed or getattr(chosen, "_exposed_", None)
        types = method_to_typeid or getattr(chosen, "_method_to_typeid_", None) or None
        for name, made in (types or {}).items():
            if type(name) is not str or type(made) is not str:
                msg = f"method_to_typeid maps methods to types by name, not {name!r} to {made!r}"
                raise TypeError(msg)
        entry = RegisteredType(callable, None if exposed is None else tuple(exposed), types, chosen)
        cls._registry[typeid] = entry
        if create_method:
            setattr(cls, typeid, _maker(typeid, _proxy.adapted(chosen)))


def _maker(typeid: str, proxytype: Any) -> Callable[..., Any]:
    def make(self: BaseManager, /, *args: Any, **kwds: Any) -> Any:
        token, exposed = self._create(typeid, *args, **kwds)
        return proxytype(
            token,
            self._serializer,
            manager=self,
            authkey=self._authkey,
            exposed=exposed,
            incref=False,
        )

    make.__name__ = make.__qualname__ = typeid
    make.__doc__ = f"Return a proxy of a new {typeid} in the server."
    return make
