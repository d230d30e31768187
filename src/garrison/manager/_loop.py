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
import resource
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from garrison.manager._addresses import Address, listening, parsed, peer_of, shown
from garrison.manager._channel import BUSY, refusal
from garrison.manager._limits import Limits
from garrison.manager._notices import Notices, log
from garrison.manager._session import IN, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager._session import Service

__all__ = ["Loop", "Timer"]

ACCEPTS_IN_TURN = 128
EVENTS_IN_TURN = 512
LAST_WORDS = 2.0
"""Seconds that clients have to take what is owed to them, and the last words."""
SWEEP = 1.0
"""Seconds between two looks at who does not take what is owed to it."""
SPARE = 8
"""Descriptors that are left to the rest of the program."""
FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


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
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # A number that is closed may be another file's at once. Re-entrant for signal handlers.
        self._closing = threading.RLock()

    def ring(self) -> None:
        """Wake the loop, now or when it next would wait."""
        with self._closing:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)

    def on_event(self, _mask: int) -> None:
        """Be quiet again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def close(self) -> None:
        """Nobody is woken any more."""
        with self._closing:
            fd, self.fd = self.fd, -1
            os.close(fd)


class Loop:
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
        self._strangers: dict[Session, None] = {}
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._paths: list[str] = []
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._over = False
        self._progress: dict[Session, tuple[int, float]] = {}
        self._farewell = ("the server has stopped", False)
        self._epoll = select.epoll()
        self._last_fd = raise_descriptor_limit() - SPARE
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._bell = _Bell()
        self._register(self._bell.fd, self._bell.on_event)

    def __repr__(self) -> str:
        where = ", ".join(shown(_name(sock)) for sock in self._listeners.values()) or "nowhere"
        return f"<Loop at {where}, {len(self.sessions)} sessions>"

    # --- Sockets --------------------------------------------------------------------------

    def listen(self, address: Any) -> Address:
        """Listen at an address, and return the one that it turned out to be."""
        self._last_fd = raise_descriptor_limit() - SPARE
        sock = listening(parsed(address), self.limits)
        self.add_listener(sock)
        name = _name(sock)
        if isinstance(name, str) and not name.startswith("\0"):
            self._paths.append(name)
        return name

    def add_listener(self, sock: socket.socket) -> None:
        """Serve a socket that listens already."""
        sock.setblocking(False)
        fd = sock.fileno()
        self._listeners[fd] = sock
        self._register(fd, lambda _mask: self._accept(sock))

    def adopt(self, sock: socket.socket, peer: str = "a local process") -> Session:
        """Serve a connection that was made elsewhere."""
        sock.setblocking(False)
        session = Session(self, sock, peer, time.monotonic())
        self._admit(session)
        return session

    def _register(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, IN)

    def on_readable(self, fd: int, function: Callable[[], Any]) -> None:
        """Call something whenever a descriptor can be read."""
        self._register(fd, lambda _mask: function())

    def forget(self, fd: int) -> None:
        """Call nothing more for a descriptor."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def watch(self, session: Session, mask: int) -> None:
        """Change what a session's socket is watched for."""
        self._epoll.modify(session.fd, mask)

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
                self._receive_newcomer(sock, name, now)

    def _receive_newcomer(self, sock: socket.socket, name: Any, now: float) -> None:
        sock.setblocking(False)
        scarce = sock.fileno() > self._last_fd
        if scarce and not self._strangers:
            self._turn_away(sock, name, "hardly a descriptor is left (ulimit -n)")
            return
        if len(self.sessions) >= self.limits.connections:
            self._turn_away(sock, name, f"there are {len(self.sessions)} connections already")
            return
        if scarce:
            self._drop_oldest_stranger("a descriptor was needed for a newer one")
        self._admit(Session(self, sock, peer_of(sock, name), now))

    def _make_room(self, listener: socket.socket, error: OSError) -> bool:
        """Close one connection, new or old, where no descriptor is left.

        Some kernels have thrown the connection away when they say so, others keep it for later.
        """
        self._last_fd = raise_descriptor_limit() - SPARE
        if self._strangers:
            self._drop_oldest_stranger("a descriptor was needed for a newer one")
            return True
        os.close(self._spare)
        try:
            sock, name = listener.accept()
        except OSError:
            self.notices.say("a connection was refused: %s", error)
            return False
        else:
            self._turn_away(sock, name, f"no descriptor is left: {error}")
            return True
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _drop_oldest_stranger(self, reason: str) -> None:
        self.drop(next(iter(self._strangers)), reason)

    def _turn_away(self, sock: socket.socket, name: Any, why: str) -> None:
        self.notices.say("%s was refused: %s", peer_of(sock, name), why)
        with contextlib.suppress(OSError):
            sock.send(refusal(BUSY))
        sock.close()

    def _admit(self, session: Session) -> None:
        strangers = self._strangers
        if not strangers:
            self.call_later(self.limits.seconds_to_authenticate, self._drop_late_strangers)
        strangers[session] = None
        self._register(session.fd, session.on_event)
        if len(strangers) > self.limits.strangers:
            self._drop_oldest_stranger("it was the oldest of too many without a key")

    def _drop_late_strangers(self) -> None:
        patience = self.limits.seconds_to_authenticate
        now = time.monotonic()
        while self._strangers:
            oldest = next(iter(self._strangers))
            left = oldest.accepted_at + patience - now
            if left > 0:
                self.call_later(left, self._drop_late_strangers)
                return
            self.drop(oldest, f"it did not prove within {patience:g} s that it has the key")

    def introduced(self, session: Session) -> None:
        """Hear that a stranger has proved that it knows the key."""
        del self._strangers[session]
        self.sessions[session] = None
        self.service.opened(session)

    def drop(self, session: Session, reason: str) -> None:
        """End a connection; a reason makes a line in the log."""
        if session.fd < 0:
            return
        if reason:
            verb = "was dropped" if session.proved else "was refused"
            self.notices.say("%s %s: %s", session.peer, verb, reason)
        del self._handlers[session.fd]
        self._strangers.pop(session, None)
        self.busy.pop(session, None)
        self._progress.pop(session, None)
        session.close()  # which takes it out of the epoll as well
        if self.sessions.pop(session, session) is None:
            self.service.closed(session)

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
                handler(mask)
        if self._calls:
            self._run_calls()
        if self._timers:
            self._run_timers()
        if self.busy:
            busy, self.busy = self.busy, {}
            for session in busy:
                if session.fd >= 0:
                    session.serve_some()
        if self.dirty:
            dirty, self.dirty = self.dirty, []
            for session in dirty:
                session.flush()
        if self.stopping:
            self._stop_further()

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
                self._progress.pop(session, None)
                continue
            sent, since = self._progress.get(session, (-1, now))
            if sent != session.progress:
                self._progress[session] = (session.progress, now)
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
        self._close_listeners()
        for session in list(self._strangers):
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

    def _close_listeners(self) -> None:
        for fd, sock in self._listeners.items():
            del self._handlers[fd]
            sock.close()
        self._listeners.clear()
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - an address
        self._paths.clear()

    def close(self) -> None:
        """Close everything at once."""
        self._over = True
        self._close_listeners()
        for session in [*self._strangers, *self.sessions]:
            self.drop(session, "")
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._spare)
            self._bell.close()


def _name(sock: socket.socket) -> Address:
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
