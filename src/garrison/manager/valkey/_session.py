"""The sign of life of a process: a key on the server that expires unless it is renewed.

What a process holds there (locks, waits, claimed items) names its session. Once the session's key
has expired, by the server's clock, scripts of other processes give these to the next ones. One
thread renews the session, from its first use until it is closed.
"""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from multiprocessing import util

from garrison._typing import TYPE_CHECKING
from garrison.errors import GarrisonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.valkey._connection import Link

__all__ = ["Session"]

RENEWALS_PER_LEASE = 3
END_PRIORITY = 5
"""The locks are released at the end of a process before its queues are flushed."""


class Session:
    """The session of one process on a server."""

    def __init__(self, link: Link) -> None:
        self._link = weakref.proxy(link)
        self.lease_ms = int(link.url.lease * 1000)
        self.on_end: list[Callable[[str], object]] = []
        """Called with the session's id before it ends: they release what it holds."""
        self._id = ""
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._finalizer: util.Finalize | None = None
        self.pid = os.getpid()

    @property
    def id(self) -> str:
        """The session's id. It is alive at the return, and renewed from now on."""
        return self._id or self._begin()

    @property
    def is_alive(self) -> bool:
        """Whether it has begun, and has not expired as far as this process knows."""
        return bool(self._id)

    def key(self) -> str:
        """Return the key that expires: ``session:ID``."""
        return str(self._link.key("session", self.id))

    def _begin(self) -> str:
        with self._starting:
            if not self._id:
                made = secrets.token_hex(8)
                self._set(made)
                self._stop = threading.Event()
                _Renewal(self, made, self._stop).start()
                self._finalizer = util.Finalize(
                    self, _end, (weakref.ref(self),), exitpriority=END_PRIORITY
                )
                self._id = made
            return self._id

    def _set(self, made: str) -> None:
        key = self._link.key("session", made)
        self._link.execute("SET", key, os.getpid(), "PX", self.lease_ms, idempotent=True, key=key)

    def renew(self, name: str) -> bool:
        """Make it last for another lease; return False if it has expired."""
        key = self._link.key("session", name)
        renewed = self._link.execute("PEXPIRE", key, self.lease_ms, idempotent=True, key=key)
        if not renewed and self._id == name:
            self._id = ""
        return bool(renewed)

    def close(self) -> None:
        """Release what this process holds, and end the session."""
        name, self._id = self._id, ""
        self._stop.set()
        if not name or self.pid != os.getpid():
            return
        try:
            for end in self.on_end:
                end(name)
            self._link.execute("DEL", self._link.key("session", name), idempotent=True)
        except (GarrisonError, OSError):
            return  # the server is gone; if it comes back, the session expires

    def after_fork(self) -> None:
        """In a child: it has a session of its own once it needs one."""
        self._id = ""
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self.on_end = []
        self.pid = os.getpid()
        if self._finalizer is not None:
            self._finalizer.cancel()


def _end(session: weakref.ref[Session]) -> None:
    found = session()
    if found is not None:
        found.close()


class _Renewal(threading.Thread):
    """Renews a session until it is closed, or has expired, or is not used any more."""

    def __init__(self, session: Session, name: str, stop: threading.Event) -> None:
        super().__init__(name="garrison-valkey-lease", daemon=True)
        self._session = weakref.ref(session, lambda _: stop.set())
        self._id, self._stop_event = name, stop
        self._interval = session.lease_ms / 1000 / RENEWALS_PER_LEASE

    def run(self) -> None:
        """Renew it."""
        while not self._stop_event.wait(self._interval):
            session = self._session()
            if session is None:
                return
            try:
                if not session.renew(self._id):
                    return
            except (GarrisonError, OSError, ReferenceError):
                pass  # it is tried again: the server may be there before the lease is over
            del session
