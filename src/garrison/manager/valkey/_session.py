"""The sign of life of a process: a lease on the server that ends unless it is renewed.

What a process holds there names its session. Once its lease is over, by the server's clock, the
scripts of other processes give these things to the next ones. One thread renews the session, from
its first use until it is closed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import threading
import time
import weakref
from multiprocessing import util

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.manager.valkey._lock_scripts import LOCK_SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison.manager.valkey._connection import Link
    from garrison.manager.valkey._url import ValkeyUrl

__all__ = ["PATIENCE", "Session", "in_a_hurry"]

RENEWALS_PER_LEASE = 3
END_TIMEOUT_S = 0.5
"""Seconds for which a renewal, and the end of a process, wait for a server that is gone."""
END_PRIORITY = -50
"""Finalizers of the program's own come first: they may still use its locks."""


class _Patience(threading.local):
    """How long a thread waits, at most, for a server that is gone to come back."""

    seconds = float("inf")


PATIENCE = _Patience()


@contextlib.contextmanager
def in_a_hurry() -> Iterator[None]:
    """Let this thread not wait for a server that is gone."""
    before, PATIENCE.seconds = PATIENCE.seconds, END_TIMEOUT_S
    try:
        yield
    finally:
        PATIENCE.seconds = before


class Session:
    """The session of one process on a server.

    Attributes
    ----------
    on_renew : list of callable
        Called in the thread that renews it, after each time, also if the session was over.
    on_end : list of callable
        Called before it is closed: they release what this process holds.
    """

    def __init__(self, link: Link) -> None:
        self._link = weakref.proxy(link)
        self.lease_ms = int(link.url.lease * 1000)
        self.first_number = 0
        """A number below those of all leases that the session has had."""
        self.on_renew: list[Callable[[], object]] = []
        self.on_end: list[Callable[[], object]] = []
        self._id = ""
        self._starting = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._finalizer: util.Finalize | None = None
        self.pid = os.getpid()

    @property
    def id(self) -> str:
        """The session's id. It is alive at the return, and renewed from now on."""
        return self._id or self._begin()

    @property
    def is_alive(self) -> bool:
        """Whether it has begun, and is not over as far as this process knows."""
        return bool(self._id)

    def later(self, work: Callable[[], object]) -> None:
        """Let the thread that renews it call something soon; also from a finalizer."""
        if self._id:
            self._work.put(work)

    def _begin(self) -> str:
        with self._starting:
            if not self._id:
                made = secrets.token_hex(8)
                (self.first_number,) = self._run("begin", made, self.lease_ms)
                self._work = queue.SimpleQueue()
                _Renewal(self, made, self._work).start()
                if self._finalizer is None:
                    self._finalizer = util.Finalize(
                        self, _end, (weakref.ref(self),), exitpriority=END_PRIORITY
                    )
                self._id = made
            return self._id

    def _run(self, operation: str, name: str, *args: Any) -> Any:
        arguments = (operation, name, "", *args)
        return self._link.run_script(LOCK_SCRIPTS[operation], [self._link.tag], arguments)

    def renew(self, name: str) -> bool:
        """Make it last for another lease; return False if it is over."""
        (is_alive,) = self._run("renew", name, self.lease_ms)
        if not is_alive:
            self.abandon(name)
        return bool(is_alive)

    def abandon(self, name: str) -> None:
        """Begin another session with the next use, and let this one end with its lease."""
        if self._id == name:
            self._id = ""
            self._work.put(None)

    def close(self) -> None:
        """Release what this process holds, and end the session."""
        name = self._id
        if name and self.pid == os.getpid():
            # If the server is gone and comes back, the lease ends by itself.
            with contextlib.suppress(GarrisonError, OSError, ReferenceError), in_a_hurry():
                for end in self.on_end:
                    end()
                self._run("end", name)
        self.abandon(name)

    def after_fork(self) -> None:
        """In a child: it has a session of its own once it needs one."""
        self._id = ""
        self._starting = threading.Lock()
        self._work = queue.SimpleQueue()
        self.on_renew, self.on_end = [], []
        self.pid = os.getpid()
        self._finalizer = None  # util clears its registry in children


def _end(session: weakref.ref[Session]) -> None:
    found = session()
    if found is not None:
        found.close()


def _end_from_elsewhere(url: ValkeyUrl, name: str) -> None:
    """End a session whose connections are gone."""
    from garrison.manager.valkey._connection import Link  # late: it has a session

    link = Link(url)
    try:
        link.run_script(LOCK_SCRIPTS["end"], [link.tag], ("end", name, ""))
    finally:
        link.drop()


class _Renewal(threading.Thread):
    """Renews a session until it is closed, or over, or not used any more."""

    def __init__(self, session: Session, name: str, work: queue.SimpleQueue[Any]) -> None:
        super().__init__(name="garrison-valkey-lease", daemon=True)
        self._session = weakref.ref(session, lambda _: work.put(None))
        self._id, self._work = name, work
        self._url = session._link.url
        self._interval = session.lease_ms / 1000 / RENEWALS_PER_LEASE

    def run(self) -> None:
        """Renew it, and do what is left to this thread."""
        PATIENCE.seconds = END_TIMEOUT_S  # a renewal that fails is repeated anyway
        due = time.monotonic() + self._interval
        while True:
            try:
                work = self._work.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                work = self._renew
                due = time.monotonic() + self._interval
            if work is None:
                self._end_if_dropped()
                return
            # What could not be done now: the lease may last until the server is there again.
            with contextlib.suppress(GarrisonError, OSError, ReferenceError):
                work()
            del work

    def _end_if_dropped(self) -> None:
        """End the session of a link that this process has dropped without closing it."""
        if self._session() is None:
            with contextlib.suppress(GarrisonError, OSError):
                _end_from_elsewhere(self._url, self._id)

    def _renew(self) -> None:
        session = self._session()
        if session is not None:
            session.renew(self._id)
            for call in list(session.on_renew):  # also if it is over: they begin another one
                call()
