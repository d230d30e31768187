"""The server's event loop: one thread, one wait, whatever the number of peers.

::

      ┌────────────────────────────────────────────────────────────┐
      │ wait     sockets | a call from another thread | the next timer
      │ events   accept; read, open, serve; write
      │ calls    what other threads and timers have asked for
      │ busy     peers that have sent more than one turn's worth
      │ flush    one write for each peer that is owed something
      └────────────────────────────────────────────────────────────┘
    stop   nothing new; what was taken is finished; last words; the rest of the output
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import select
import socket
import struct
import threading
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.net._acceptor import Doors, name_of
from garrison.net._address import shown
from garrison.net._limits import Limits
from garrison.net._rate_limited_log import Notices, log
from garrison.net._session import IN, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.net._address import Address
    from garrison.net._session import Service

__all__ = ["EventLoop", "Timer"]

EVENTS_IN_TURN = 256
LAST_WORDS = 2.0
"""Seconds that clients have to take what is owed to them, and the last words."""
SWEEP = 1.0
"""Seconds between two looks at who does not take what is owed to it."""


class Timer:
    """A call that is due at some time, unless it is cancelled."""

    __slots__ = ("_call", "when")

    def __init__(self, when: float, call: Callable[[], Any]) -> None:
        self.when = when
        self._call: Callable[[], Any] | None = call

    def cancel(self) -> None:
        """Do not call."""
        self._call = None

    def fire(self) -> None:
        """Call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class _Bell:
    """Wakes the loop, from any thread and from a signal handler."""

    def __init__(self) -> None:
        self.fd, self._write = _open_bell()
        # A number that is closed may be another file's at once. Re-entrant for signal handlers.
        self._closing = threading.RLock()

    def ring(self) -> None:
        """Wake the loop, now or when it next would wait."""
        with self._closing:
            if self.fd >= 0:
                with contextlib.suppress(BlockingIOError):  # rung often enough
                    os.write(self._write, _RING)

    def on_event(self, _mask: int) -> None:
        """Be quiet again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Nobody is woken any more."""
        with self._closing:
            fds, self.fd, self._write = {self.fd, self._write}, -1, -1
            for fd in fds:
                os.close(fd)


_RING = struct.pack("Q", 1)
"""What an eventfd counts; a pipe takes anything."""


def _open_bell() -> tuple[int, int]:
    """Return where to wait and where to write: an eventfd, or a pipe where there is none."""
    try:
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    except AttributeError:  # Python was built for an older system
        return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise
        return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    return fd, fd


class EventLoop:
    """Serves a `Service` on any number of listening sockets.

    Parameters
    ----------
    service : Service
        Called in the thread of `run`.
    key : bytes
        What clients must have.
    limits : Limits, optional
    """

    def __init__(self, service: Service, key: bytes, limits: Limits | None = None) -> None:
        self.service = service
        self.key = bytes(key)
        self.limits = limits or Limits()
        self.epoch = os.urandom(16)
        """Which life of the server this is."""
        self.sessions: dict[Session, None] = {}
        """Who has proved that it knows the key."""
        self.dirty: list[Session] = []
        self.busy: dict[Session, None] = {}
        self.stopping = False
        self.notices = Notices(self.call_later)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._over = False
        self._slow: dict[Session, tuple[int, float]] = {}
        self._farewell = ("the server has stopped", False)
        self._epoll = select.epoll()
        self.doors = Doors(self)
        self._bell = _Bell()
        self.register(self._bell.fd, self._bell.on_event)

    def __repr__(self) -> str:
        where = (
            ", ".join(shown(name_of(sock)) for sock in self.doors.listeners.values()) or "nowhere"
        )
        return f"<Loop at {where}, {len(self.sessions)} sessions>"

    # --- Sockets --------------------------------------------------------------------------

    def listen(self, address: Any) -> Address:
        """Listen at an address, and return the one that it turned out to be."""
        return self.doors.listen(address)

    def add_listener(self, sock: socket.socket) -> None:
        """Serve a socket that listens already."""
        self.doors.open(sock)

    def adopt(self, sock: socket.socket, peer: str = "a local process") -> Session:
        """Serve a connection that was made elsewhere."""
        sock.setblocking(False)
        session = Session(self, sock, peer, time.monotonic())
        self.doors.admit(session)
        return session

    def register(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call a handler when a descriptor can be read."""
        self._handlers[fd] = handler
        self._epoll.register(fd, IN)

    def forget(self, fd: int) -> None:
        """Do not call for a descriptor that is about to be closed."""
        del self._handlers[fd]

    def watch(self, session: Session, mask: int) -> None:
        """Change what a session's socket is watched for."""
        self._epoll.modify(session.fd, mask)

    def introduced(self, session: Session) -> None:
        """Hear that a stranger has proved that it knows the key."""
        del self.doors.strangers[session]
        self.sessions[session] = None
        self.service.opened(session)

    def drop(self, session: Session, reason: str) -> None:
        """End a connection; a reason makes a line in the log."""
        if session.fd < 0:
            return
        if reason:
            verb = "was dropped" if session.proved else "was refused"
            self.notices.say("%s %s: %s", session.peer, verb, reason)
        self.forget(session.fd)
        self.doors.strangers.pop(session, None)
        self.busy.pop(session, None)
        self._slow.pop(session, None)
        session.close()  # which takes it out of the epoll as well
        if self.sessions.pop(session, session) is None:
            self._guarded(self.service.closed, session)

    # --- Calls ----------------------------------------------------------------------------

    def call_soon_threadsafe(self, function: Callable[..., Any], *args: Any) -> None:
        """Call something in the loop's thread; from any thread, or a signal handler."""
        self._calls.append((function, args))
        self._bell.ring()

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> Timer:
        """Call something in so many seconds; in the loop's thread only."""
        timer = Timer(time.monotonic() + seconds, lambda: function(*args))
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    # --- Turns ----------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop`."""
        self._sweep()
        try:
            while not self._over:
                self.turn()
        finally:
            self.close()

    def turn(self, timeout: float | None = None) -> None:
        """Wait once, and do what there is to do."""
        handlers = self._handlers
        for fd, mask in self._epoll.poll(self._time_to_wait(timeout), EVENTS_IN_TURN):
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(mask)
                except Exception:
                    self._failed(handler)
        if self._calls:
            self._run_calls()
        if self._timers:
            self._run_timers()
        if self.busy:
            self._serve_busy()
        if self.dirty:
            dirty, self.dirty = self.dirty, []
            for session in dirty:
                session.flush()
        if self.stopping:
            self._stop_further()

    def _serve_busy(self) -> None:
        busy, self.busy = self.busy, {}
        for session in busy:
            if session.fd >= 0:
                try:
                    session.serve_some()
                except Exception:
                    self._failed(session.on_event)

    def _failed(self, handler: Callable[[int], None]) -> None:
        """Go on without the one peer that something went wrong with on our side."""
        log.exception("an event in the server's loop could not be dealt with")
        session = getattr(handler, "__self__", None)
        if isinstance(session, Session):
            self.drop(session, "something went wrong with it in the server; see above")

    def _time_to_wait(self, timeout: float | None) -> float | None:
        if self._calls or self.busy or self.dirty:
            return 0
        if not self._timers:
            return timeout
        wait = max(0.0, self._timers[0][0] - time.monotonic())
        return wait if timeout is None else min(wait, timeout)

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):
            function, args = self._calls.popleft()
            self._guarded(function, *args)

    def _run_timers(self) -> None:
        now = time.monotonic()
        timers = self._timers
        while timers and timers[0][0] <= now:
            self._guarded(heapq.heappop(timers)[2].fire)

    def _guarded(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            function(*args)
        except Exception:
            log.exception("a call in the server's loop failed")

    def _sweep(self) -> None:
        """Drop who is owed much and has taken nothing of it for long."""
        self.call_later(min(SWEEP, self.limits.stall), self._sweep)
        now = time.monotonic()
        for session in list(self.sessions):
            if session.owed <= self.limits.output:
                self._slow.pop(session, None)
                continue
            sent, since = self._slow.get(session, (-1, now))
            if sent != session.progress:
                self._slow[session] = (session.progress, now)
            elif now - since > self.limits.stall:
                session.drop(
                    f"it has taken nothing of {session.owed} bytes for {self.limits.stall:g} s"
                )

    # --- The end --------------------------------------------------------------------------

    def stop(self, drain: float = 5.0, *, for_good: bool = False) -> None:
        """Stop accepting, finish what was taken, say so to the clients, and end `run`.

        Parameters
        ----------
        drain : float
            Seconds for requests that are not replied to yet.
        for_good : bool
            Tell clients that there is no point in reconnecting.
        """
        self.call_soon_threadsafe(self._begin_to_stop, drain, for_good)

    def _begin_to_stop(self, drain: float, for_good: bool) -> None:
        if self.stopping:
            return
        self.stopping = True
        self._farewell = ("the server has stopped", for_good)
        self.doors.shut()
        self.service.stopping()
        for session in list(self.doors.strangers):
            self.drop(session, "the server stops")
        for session in list(self.sessions):
            session.settle()
        self.call_later(drain, self._say_farewell)

    def _stop_further(self) -> None:
        if all(session.idle for session in self.sessions):
            self._say_farewell()
        if not self.sessions:
            self._over = True

    def _say_farewell(self) -> None:
        text, for_good = self._farewell
        staying = [session for session in self.sessions if not session.leaving]
        if staying:
            self.call_later(LAST_WORDS, self._end)
        for session in staying:
            session.leave(text, for_good=for_good)

    def _end(self) -> None:
        self._over = True

    def close(self) -> None:
        """Close everything at once."""
        self._over = True
        for session in [*self.doors.strangers, *self.sessions]:
            self.drop(session, "")
        if not self._epoll.closed:
            self.doors.close()
            self._bell.close()
            self._epoll.close()
