"""`Server`: a listener, an event loop, and its services."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import weakref
from multiprocessing import process

from garrison import _standard
from garrison._os.process_watch import CHECK_INTERVAL_S, NO_DESCRIPTOR, ProcessWatch
from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import UntrustedFile
from garrison.manager._auth_keys import is_loopback, note_served
from garrison.manager._serializers import get_serializer as find_serializer
from garrison.manager._types import IN_PROCESS_CLIENTS
from garrison.net import (
    Access,
    Key,
    Limits,
    Listener,
    ServerKeys,
    kept_identity,
    server_log,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from garrison.manager._types import RegisteredType
    from garrison.manager.server._dispatch import Dispatcher
    from garrison.manager.server._object_table import ObjectTable
    from garrison.net import EventLoop, Identity

__all__ = ["Server"]

HERE = b"server"
"""The holder of the references of the server's own process."""
DRAIN = 5.0
"""Seconds that a stopping server works on accepted requests."""


class StopEvent(threading.Event):
    """Ends the server when it is set."""

    def __init__(self, stop: Callable[[], object]) -> None:
        super().__init__()
        self._stop = weakref.WeakMethod(stop)

    def set(self) -> None:
        """End the server."""
        super().set()
        stop = self._stop()
        if stop is not None:
            stop()


class Server(managers.Server):
    """Serves the objects of a manager in the process that runs it.

    Attributes
    ----------
    address
        Where it listens.
    listener
        The socket.
    registry
        The registered types.
    stop_event
        Set it to end the server.

    Raises
    ------
    OSError
        If the address cannot be had.
    TypeError
        If the key is not bytes.
    """

    def __init__(
        self,
        registry: Mapping[str, RegisteredType],
        address: Any,
        authkey: bytes,
        serializer: str = "pickle",
        limits: Limits | None = None,
        *,
        allow_pickle: bool = True,
        allow_shutdown: bool = True,
        keys_file: str | None = None,
    ) -> None:
        if not isinstance(authkey, bytes):
            msg = f"Authkey is type {type(authkey)!s}, not bytes"
            raise TypeError(msg)
        self.registry: Any = dict(registry)
        self.authkey: bytes = Key(authkey)
        self.allow_pickle: bool = allow_pickle and bool(authkey)
        """Whether clients may send and get what has to be unpickled. Never without a key."""
        self._prepare()
        self._serializer = serializer
        self._limits = limits or Limits()
        has_listener = isinstance(address, Listener)
        self.address: Any = address.address if has_listener else address
        # First: what is wrong with the files of the keys is told here, to the caller.
        self._keys: ServerKeys = self._read_keys(keys_file, allow_shutdown=allow_shutdown)
        self.listener: Listener = address if has_listener else Listener(address, self._limits)
        self.address = self.listener.address

    def _prepare(self) -> None:
        self._objects: ObjectTable | None = None
        self._loop: EventLoop | None = None
        self.stop_event: StopEvent = StopEvent(self._stop)

    @property
    def objects(self) -> ObjectTable:
        """The objects, and who holds them."""
        # Late, as all that serves: the program starts a server that it does not run itself.
        from garrison.manager.server._object_table import ObjectTable

        if self._objects is None:
            self._objects = ObjectTable(self.registry)
        return self._objects

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the state that a spawned server makes anew."""
        made = {"_objects", "_loop", "stop_event"}
        return {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    def serve_forever(self, *, parent: int | None = None) -> None:
        """Serve until `shutdown` or a signal; then exit.

        Parameters
        ----------
        parent : int, optional
            The process with which this server ends.
        """
        process.current_process()._manager_server = self  # type: ignore[attr-defined]
        try:
            self.run(parent)
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            self.listener.unlink()
        sys.exit(0)

    def run(self, parent: int | None = None, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until the end; `ready` is called once a signal would end it in order."""
        from garrison.manager.server._dispatch import Dispatcher
        from garrison.net import EventLoop, watch_keys

        service = Dispatcher()
        self._loop = loop = EventLoop(service, self._keys, self._limits)
        if self._keys.has_file:
            watch_keys(loop)
        if self.stop_event.is_set():
            self._stop()
        try:
            # A signal during the opening of the store takes effect after it.
            with _stop_when_parent_exits(loop, parent), _stopped_by_signals(loop, parent):
                self._install_services(loop, service)
                ready()
                loop.run()
        finally:
            self._loop = None
            service.ended()
            self.listener.socket.close()
            IN_PROCESS_CLIENTS.pop(self.address, None)

    def _read_keys(self, file: str | None, *, allow_shutdown: bool) -> ServerKeys:
        """Return the keys of this server, with the identity that its clients will know."""
        kept = None if is_loopback(self.address) else _kept_identity_if_possible()
        access = Access.OWNER if allow_shutdown else Access.FULL
        return ServerKeys(bytes(self.authkey), kept, access=access, file=file)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its identity: what ``garrison.connect(fingerprint=...)`` takes."""
        return self._keys.identity.fingerprint

    def _install_services(self, loop: EventLoop, service: Dispatcher) -> None:
        """Give the loop the services of this server."""
        loop.add_listener(self.listener.socket)
        service.allows_pickle = self.allow_pickle
        if self.allow_pickle:
            from garrison.manager.server._dispatch import ObjectService

            chosen = find_serializer(self._serializer)
            service.add(ObjectService(loop, service, self.objects, chosen))
        for part in self._extra_services(loop):
            service.add(part)
        from garrison.manager.server._in_process_client import InProcessClient

        client = InProcessClient(self.objects, self.stop_event.set)
        IN_PROCESS_CLIENTS[self.address] = client
        note_served(self.address, bytes(self.authkey))

    def _extra_services(self, loop: EventLoop) -> tuple[Any, ...]:  # noqa: ARG002 - subclasses use it
        """Return the services of a subclass."""
        return ()

    def _stop(self) -> None:
        loop = self._loop
        if loop is not None:
            loop.stop(0.0, for_good=True)

    # -- what the standard library's class does for a connection, which is None here --------------

    def create(self, c: Any, typeid: str, /, *args: Any, **kwds: Any) -> tuple[str, Any]:  # noqa: ARG002
        """Make an object; return its id and the names of its methods."""
        made = self.objects.create(HERE, typeid, args, kwds)
        return made.ident, made.exposed

    def get_methods(self, c: Any, token: Any) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of the exposed methods."""
        return tuple(sorted(self.objects.find(token.id).exposed))

    def incref(self, c: Any, ident: str) -> None:  # noqa: ARG002
        """Add a reference."""
        self.objects.acquire_ref(HERE, ident)

    def decref(self, c: Any, ident: str) -> None:  # noqa: ARG002
        """Undo one `incref`, or `create`."""
        self.objects.release_ref(HERE, ident)

    def number_of_objects(self, c: Any) -> int:  # noqa: ARG002
        """Return the number of objects in use."""
        return len(self.objects)

    def debug_info(self, c: Any) -> str:  # noqa: ARG002
        """Describe the objects in use."""
        return self.objects.debug_info()

    def shutdown(self, c: Any) -> None:  # noqa: ARG002
        """End the server."""
        self.stop_event.set()


_standard.hide(Server, "one loop serves all connections", ("public", "fallback_mapping"))


def _kept_identity_if_possible() -> Identity | None:
    """Return the identity of this user's servers; None if it cannot be kept, for one of this run.

    Raises
    ------
    ValueError, UntrustedFile
        If it is damaged, or others can read or change it: clients know another one.
    """
    try:
        return kept_identity()
    except UntrustedFile:
        raise
    except OSError as error:
        server_log().warning(
            "the identity of this server is for this run only (%s): clients that know another one "
            "will refuse it",
            error,
        )
        return None


@contextlib.contextmanager
def _stop_when_parent_exits(loop: EventLoop, parent: int | None) -> Iterator[None]:
    """Stop the loop when a process ends."""
    if parent is None:
        yield
        return

    def orphaned(_: int = 0) -> None:
        if watch is not None and watch.fileno() != NO_DESCRIPTOR:
            loop.forget(watch.fileno())
        loop.stop(0.0, for_good=True)

    def look() -> None:
        if watch is not None and watch.has_ended():
            orphaned()
        else:
            loop.call_later(CHECK_INTERVAL_S, look)

    watch: ProcessWatch | None = None
    try:
        watch = ProcessWatch(parent)
        if watch.fileno() == NO_DESCRIPTOR:
            look()
        else:
            loop.register(watch.fileno(), orphaned)
    except ProcessLookupError:
        orphaned()
    try:
        yield
    finally:
        if watch is not None:
            watch.close()


@contextlib.contextmanager
def _stopped_by_signals(loop: EventLoop, parent: int | None) -> Iterator[None]:
    """Let SIGTERM, and Ctrl-C unless ignored, end a loop in order."""
    before: dict[signal.Signals, Any] = {}

    def stop(*_: object) -> None:
        # A server that a program runs itself is not restarted.
        loop.stop(DRAIN, for_good=parent is not None)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for stopped, handler in before.items():
            signal.signal(stopped, handler)
