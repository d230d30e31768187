"""The listening sockets, and the connections that have not proved the key yet.

Their number is bounded, and the oldest is closed for a newer one. So silent connections displace
each other, while a client that authenticates at once is never reached.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.net._address import (
    Address,
    SocketFile,
    describe_peer,
    listen,
    other_user,
    parse_address,
)
from garrison.net._handshake import BUSY, WRONG_KEY, reject_bytes
from garrison.net._session import Session

if TYPE_CHECKING:
    from garrison.net._event_loop import EventLoop

__all__ = ["Acceptor", "bound_address", "raise_descriptor_limit"]

MAX_ACCEPTS_PER_TURN = 128
RESERVED_DESCRIPTORS = 8
"""Descriptors that are left to the rest of the program."""
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """The listening sockets of a loop, and its unauthenticated connections."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.unauthenticated: dict[Session, None] = {}
        """The oldest first."""
        self.listeners: dict[int, socket.socket] = {}
        self._files: list[SocketFile] = []
        self._max_fd = raise_descriptor_limit() - RESERVED_DESCRIPTORS
        self._spare = _open_spare_descriptor()

    def listen(self, address: Any) -> Address:
        """Listen at an address; return the address that the system has chosen."""
        sock = listen(parse_address(address), self.loop.limits)
        self.add_listener(sock)
        name = bound_address(sock)
        if isinstance(name, str) and not name.startswith("\0"):
            self._files.append(SocketFile(name))
        return name

    def add_listener(self, sock: socket.socket) -> None:
        """Accept connections from this socket."""
        sock.setblocking(False)
        fd = sock.fileno()
        self.listeners[fd] = sock
        self.loop.register(fd, lambda _mask: self._accept(sock))

    def stop_listening(self) -> None:
        """Close the listening sockets."""
        for fd, sock in self.listeners.items():
            self.loop.forget(fd)
            sock.close()
        self.listeners.clear()
        for file in self._files:
            file.unlink()
        self._files.clear()

    def close(self) -> None:
        """Close everything, the reserved descriptor too."""
        self.stop_listening()
        os.close(self._spare)

    def reset_after_fork(self) -> None:
        """In a forked child: close its copies of the descriptors; the addresses stay."""
        for sock in self.listeners.values():
            sock.close()
        self.listeners.clear()
        self._files.clear()
        os.close(self._spare)

    # --- Accepting ------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        now = time.monotonic()
        for _ in range(MAX_ACCEPTS_PER_TURN):
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES and not self._make_room(listener, error):
                    return
            else:
                self._admit(sock, name, now)

    def _admit(self, sock: socket.socket, name: Any, now: float) -> None:
        sock.setblocking(False)
        scarce = sock.fileno() > self._max_fd
        if scarce and not self.unauthenticated:
            self._reject(sock, name, "hardly a descriptor is left (ulimit -n)")
            return
        stranger = other_user(sock) if self.loop.keys.is_open else None
        if stranger is not None:
            why = "this server has no key, and serves its own user only"
            self._reject(sock, name, why, WRONG_KEY)
            return
        sessions = len(self.loop.sessions)
        if sessions >= self.loop.limits.max_connections:
            self._reject(sock, name, f"there are {sessions} connections already")
            return
        if scarce:
            self._drop_oldest("a descriptor was needed for a newer one")
        self.add(Session(self.loop, sock, describe_peer(sock, name), now))

    def _make_room(self, listener: socket.socket, error: OSError) -> bool:
        """Close one connection, the oldest or the newest, because no descriptor is left.

        Some kernels have discarded the new connection already, others keep it for the next call.
        """
        self._max_fd = raise_descriptor_limit() - RESERVED_DESCRIPTORS
        if self.unauthenticated:
            self._drop_oldest("a descriptor was needed for a newer one")
            return True
        os.close(self._spare)
        try:
            sock, name = listener.accept()
        except OSError:
            self.loop.log.warning("a connection was refused: %s", error)
            return False
        else:
            self._reject(sock, name, f"no descriptor is left: {error}")
            return True
        finally:
            self._spare = _open_spare_descriptor()

    def _reject(self, sock: socket.socket, name: Any, why: str, status: int = BUSY) -> None:
        self.loop.log.warning("%s was refused: %s", describe_peer(sock, name), why)
        with contextlib.suppress(OSError):
            sock.send(reject_bytes(status), socket.MSG_NOSIGNAL)
        sock.close()

    # --- Unauthenticated ------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """Watch a new connection until it authenticates, for a bounded time."""
        waiting, limits = self.unauthenticated, self.loop.limits
        if not waiting:
            self.loop.call_later(limits.authentication_timeout_s, self._drop_late)
        waiting[session] = None
        self.loop.register(session.fd, session.on_event)
        if len(waiting) > limits.max_unauthenticated:
            self._drop_oldest("it was the oldest of too many without a key")

    def _drop_late(self) -> None:
        timeout = self.loop.limits.authentication_timeout_s
        now = time.monotonic()
        while self.unauthenticated:
            oldest = next(iter(self.unauthenticated))
            left = oldest.accepted_at + timeout - now
            if left > 0:
                self.loop.call_later(left, self._drop_late)
                return
            oldest.drop(f"it did not prove within {timeout:g} s that it has the key")

    def _drop_oldest(self, reason: str) -> None:
        next(iter(self.unauthenticated)).drop(reason)


def _open_spare_descriptor() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def bound_address(sock: socket.socket) -> Address:
    """Return the address that a socket listens at."""
    name = sock.getsockname()
    if isinstance(name, bytes):
        return os.fsdecode(name)
    return name if isinstance(name, str) else (name[0], name[1])


def raise_descriptor_limit() -> int:
    """Raise the limit of open descriptors to the hard limit; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 30
