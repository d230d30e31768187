"""Where peers come in, and stay strangers until they have proved that they know the key.

There are never more than so many strangers; the oldest makes room. So those who connect and say
nothing push each other out, and who says at once what is to be said is in long before its turn.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.net._address import Address, listening, parsed, peer_of
from garrison.net._handshake import BUSY, refusal
from garrison.net._session import Session

if TYPE_CHECKING:
    from garrison.net._event_loop import EventLoop

__all__ = ["Doors", "name_of", "raise_descriptor_limit"]

ACCEPTS_IN_TURN = 128
SPARE = 8
"""Descriptors that are left to the rest of the program."""
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Doors:
    """The listening sockets of a loop, and its strangers."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.strangers: dict[Session, None] = {}
        """The oldest first."""
        self.listeners: dict[int, socket.socket] = {}
        self._paths: list[str] = []
        self._last_fd = raise_descriptor_limit() - SPARE
        self._spare = _any_descriptor()

    def listen(self, address: Any) -> Address:
        """Listen at an address, and return the one that it turned out to be."""
        sock = listening(parsed(address), self.loop.limits)
        self.open(sock)
        name = name_of(sock)
        if isinstance(name, str) and not name.startswith("\0"):
            self._paths.append(name)
        return name

    def open(self, sock: socket.socket) -> None:
        """Let in who connects to this socket."""
        sock.setblocking(False)
        fd = sock.fileno()
        self.listeners[fd] = sock
        self.loop.register(fd, lambda _mask: self._accept(sock))

    def shut(self) -> None:
        """Let nobody in any more."""
        for fd, sock in self.listeners.items():
            self.loop.forget(fd)
            sock.close()
        self.listeners.clear()
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - an address
        self._paths.clear()

    def close(self) -> None:
        """Give back what is kept for bad times."""
        self.shut()
        os.close(self._spare)

    # --- Coming in ------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        now = time.monotonic()
        for _ in range(ACCEPTS_IN_TURN):
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in FULL and not self._make_room(listener, error):
                    return
            else:
                self._receive(sock, name, now)

    def _receive(self, sock: socket.socket, name: Any, now: float) -> None:
        sock.setblocking(False)
        scarce = sock.fileno() > self._last_fd
        if scarce and not self.strangers:
            self._turn_away(sock, name, "hardly a descriptor is left (ulimit -n)")
            return
        sessions = len(self.loop.sessions)
        if sessions >= self.loop.limits.connections:
            self._turn_away(sock, name, f"there are {sessions} connections already")
            return
        if scarce:
            self._drop_oldest("a descriptor was needed for a newer one")
        self.admit(Session(self.loop, sock, peer_of(sock, name), now))

    def _make_room(self, listener: socket.socket, error: OSError) -> bool:
        """Close one connection, new or old, where no descriptor is left.

        Some kernels have thrown the connection away when they say so, others keep it for later.
        """
        self._last_fd = raise_descriptor_limit() - SPARE
        if self.strangers:
            self._drop_oldest("a descriptor was needed for a newer one")
            return True
        os.close(self._spare)
        try:
            sock, name = listener.accept()
        except OSError:
            self.loop.notices.say("a connection was refused: %s", error)
            return False
        else:
            self._turn_away(sock, name, f"no descriptor is left: {error}")
            return True
        finally:
            self._spare = _any_descriptor()

    def _turn_away(self, sock: socket.socket, name: Any, why: str) -> None:
        self.loop.notices.say("%s was refused: %s", peer_of(sock, name), why)
        with contextlib.suppress(OSError):
            sock.send(refusal(BUSY), socket.MSG_NOSIGNAL)
        sock.close()

    # --- Strangers ------------------------------------------------------------------------

    def admit(self, session: Session) -> None:
        """Watch a new connection, for as long as a stranger may stay."""
        strangers, limits = self.strangers, self.loop.limits
        if not strangers:
            self.loop.call_later(limits.seconds_to_authenticate, self._drop_late)
        strangers[session] = None
        self.loop.register(session.fd, session.on_event)
        if len(strangers) > limits.strangers:
            self._drop_oldest("it was the oldest of too many without a key")

    def _drop_late(self) -> None:
        patience = self.loop.limits.seconds_to_authenticate
        now = time.monotonic()
        while self.strangers:
            oldest = next(iter(self.strangers))
            left = oldest.accepted_at + patience - now
            if left > 0:
                self.loop.call_later(left, self._drop_late)
                return
            oldest.drop(f"it did not prove within {patience:g} s that it has the key")

    def _drop_oldest(self, reason: str) -> None:
        next(iter(self.strangers)).drop(reason)


def _any_descriptor() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def name_of(sock: socket.socket) -> Address:
    """Return the address that a socket listens at."""
    name = sock.getsockname()
    if isinstance(name, bytes):
        return os.fsdecode(name)
    return name if isinstance(name, str) else (name[0], name[1])


def raise_descriptor_limit() -> int:
    """Have as many descriptors as the system allows this process, and return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 30
