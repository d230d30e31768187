"""`Server`: a listener, a loop, and what it does for those who come."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from garrison.manager import _clients
from garrison.manager._limits import Limits
from garrison.manager._listener import Listener
from garrison.manager._loop import Loop
from garrison.manager._objects import Objects
from garrison.manager._serializers import serializer as find_serializer
from garrison.manager._service import ObjectPart, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from garrison.manager._objects import Registered

__all__ = ["Server"]

DRAIN = 5.0
"""Seconds that a server that was told to stop works on what it had taken."""


class Server:
    """Serves the objects of a manager in the process that runs it.

    Attributes
    ----------
    address
        Where it listens.
    listener
        The socket.

    Raises
    ------
    OSError
        If the address cannot be had.
    TypeError
        If the key is not bytes.
    """

    def __init__(
        self,
        registry: Mapping[str, Registered],
        address: Any,
        authkey: bytes,
        serializer: str = "pickle",
        limits: Limits | None = None,
    ) -> None:
        if not isinstance(authkey, bytes):
            msg = f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes"
            raise TypeError(msg)
        self._registry = dict(registry)
        self._key = bytes(authkey)
        self._serializer = serializer
        self._limits = limits or Limits()
        if not isinstance(address, Listener):
            address = Listener(address, self._limits)
        self.listener = address
        self.address = self.listener.address

    def serve_forever(self, *, parent: int | None = None) -> None:
        """Serve until somebody says `shutdown`, or this process is told to stop; then exit.

        Parameters
        ----------
        parent : int, optional
            The process without which nobody needs this server.
        """
        try:
            self.run(parent)
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            self.listener.unlink()
        sys.exit(0)

    def run(self, parent: int | None = None, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until it is over; `ready` is called when a signal would end it in good order."""
        objects = Objects(self._registry)
        service = Service()
        loop = Loop(service, self._key, self._limits)
        try:
            # Who is told to stop while it opens its store is to finish that first.
            with _ended_with(loop, parent), _stopped_by_signals(loop, parent):
                self._furnish(loop, service, objects)
                ready()
                loop.run()
        finally:
            service.ended()
            self.listener.socket.close()
            _clients.serve_no_more(self.address)

    def _furnish(self, loop: Loop, service: Service, objects: Objects) -> None:
        """Give a loop all that this server does."""
        loop.add_listener(self.listener.socket)
        # Whoever has no key must not have anything of his unpickled.
        if self._key:
            service.add(ObjectPart(loop, service, objects, find_serializer(self._serializer)))
        for part in self._more(loop):
            service.add(part)
        _clients.serve_here(self.address, objects, lambda: loop.stop(0.0, for_good=True))
        _clients.know_key(self.address, self._key)

    def _more(self, loop: Loop) -> tuple[Any, ...]:  # noqa: ARG002 - for those who have more
        """Return what else this server does."""
        return ()


@contextlib.contextmanager
def _ended_with(loop: Loop, parent: int | None) -> Iterator[None]:
    """Stop the loop when a process ends."""
    if parent is None:
        yield
        return
    fd = -1

    def orphaned(_: int = 0) -> None:
        nonlocal fd
        if fd >= 0:
            loop.forget(fd)
            os.close(fd)
            fd = -1
        loop.stop(0.0, for_good=True)

    try:
        fd = os.pidfd_open(parent)
        loop.register(fd, orphaned)
    except ProcessLookupError:
        orphaned()
    try:
        yield
    finally:
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def _stopped_by_signals(loop: Loop, parent: int | None) -> Iterator[None]:
    """Let SIGTERM, and Ctrl-C where it is not ignored, end a loop in good order."""
    before: dict[signal.Signals, Any] = {}

    def stop(*_: object) -> None:
        # What a program has started for itself nobody starts again.
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
