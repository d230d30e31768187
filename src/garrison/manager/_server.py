"""`Server`: a listener, a loop, and what it does for those who come."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from garrison.manager import _clients
from garrison.manager._listener import Listener
from garrison.manager._loop import Loop
from garrison.manager._objects import Objects
from garrison.manager._serializers import serializer as find_serializer
from garrison.manager._service import ObjectPart, Service

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    ) -> None:
        if not isinstance(authkey, bytes):
            msg = f"Authkey {authkey!r} is type {type(authkey)!s}, not bytes"
            raise TypeError(msg)
        self._registry = dict(registry)
        self._key = bytes(authkey)
        self._serializer = serializer
        self.listener = address if isinstance(address, Listener) else Listener(address)
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

    def run(self, parent: int | None = None) -> None:
        """Serve until it is over."""
        loop = self._loop()
        objects = Objects(self._registry)
        part = ObjectPart(loop, objects, find_serializer(self._serializer))
        service = Service(part, *self._more(loop))
        part.peers = lambda: list(service.peers.values())
        loop.service = service
        _clients.serve_here(self.address, objects)
        _clients.know_key(self.address, self._key)
        watched = _watch(loop, parent)
        try:
            with _stopped_by_signals(loop):
                loop.run()
        finally:
            if watched is not None:
                os.close(watched)
            _clients.serve_here(self.address, None)

    def _more(self, loop: Loop) -> tuple[Any, ...]:
        """Return what else this server does."""
        return ()

    def _loop(self) -> Loop:
        return Loop(None, [self.listener.socket], self._key)


def _watch(loop: Loop, parent: int | None) -> int | None:
    """Stop the loop when a process ends."""
    if parent is None:
        return None
    try:
        fd = os.pidfd_open(parent)
    except ProcessLookupError:
        loop.stop()
        return None
    loop.watch(fd, loop.stop)
    return fd


class _stopped_by_signals:  # noqa: N801 - used as a function
    """Let SIGTERM end a loop in good order, where this thread may say so."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._before: Any = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._loop.stop(DRAIN))

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
