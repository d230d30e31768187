"""The server's event loop: one thread, one wait, whatever the number of peers.

::

      ┌────────────────────────────────────────────────────────────┐
      │ wait     sockets | a call from another thread | the next timer
      │ events   accept; read, open, serve; write
      │ calls    what other threads and timers have asked for
      │ requests of peers that have sent more than one turn's worth
      │ flush    one write for each peer with unsent replies
      └────────────────────────────────────────────────────────────┘
    stop   no new requests; those in progress are finished; goodbye; the rest of the output
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
import weakref
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.net._acceptor import Acceptor, bound_address
from garrison.net._address import format_address
from garrison.net._limits import Limits
from garrison.net._rate_limited_log import RateLimitedLog
from garrison.net._server_keys import ServerKeys
from garrison.net._session import IN, Session
from garrison.net._unfinished import UnfinishedMessages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.net._address import Address
    from garrison.net._session import RequestHandler

__all__ = ["EventLoop", "Timer"]

MAX_EVENTS_PER_TURN = 256
GOODBYE_TIMEOUT_S = 2.0
"""Seconds that clients have to read their last replies and the goodbye."""
STALL_CHECK_INTERVAL_S = 1.0
"""Seconds between two checks for peers that do not read their replies."""


class Timer:
    """A call that is due at some time, unless it is cancelled."""

    __slots__ = ("_call", "when")

    def __init__(self, when: float, call: Callable[[], Any]) -> None:
        self.when: float = when
        self._call: Callable[[], Any] | None = call

    def cancel(self) -> None:
        """Do not call."""
        self._call = None

    def fire(self) -> None:
        """Call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class _Waker:
    """Wakes the loop, from any thread and from a signal handler."""

    def __init__(self) -> None:
        self.fd, self._write = _open_wake_descriptors()
        # A closed descriptor's number may be reused at once. Re-entrant for signal handlers.
        self._closing = threading.RLock()

    def wake(self) -> None:
        """End the loop's present wait, or its next one."""
        with self._closing:
            if self.fd >= 0:
                with contextlib.suppress(BlockingIOError):  # a wake-up is pending already
                    os.write(self._write, _WAKE)

    def on_event(self, _mask: int) -> None:
        """Clear the wake-up."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Close the descriptors; later wake-ups do nothing."""
        with self._closing:
            fds, self.fd, self._write = {self.fd, self._write}, -1, -1
            for fd in fds:
                os.close(fd)

    def reset_after_fork(self) -> None:
        """In a forked child: close its copies of the descriptors."""
        self._closing = threading.RLock()  # the thread that held it may not exist here
        self.close()


_WAKE = struct.pack("Q", 1)
"""An eventfd adds this number; a pipe takes any bytes."""


def _open_wake_descriptors() -> tuple[int, int]:
    """Return the descriptors to wait on and to write to: of an eventfd, or of a pipe."""
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
    """Serves a `RequestHandler` on any number of listening sockets.

    Parameters
    ----------
    service : RequestHandler
        Called in the thread of `run`.
    key : bytes or ServerKeys
        The key, or the keys, of which clients must prove to have one.
    limits : Limits, optional
    """

    def __init__(
        self, service: RequestHandler, key: bytes | ServerKeys, limits: Limits | None = None
    ) -> None:
        self.service = service
        self.keys: ServerKeys = key if isinstance(key, ServerKeys) else ServerKeys(key)
        self.limits: Limits = limits or Limits()
        self.sessions: dict[Session, None] = {}
        """The authenticated connections."""
        self.pending_flush: list[Session] = []
        self.pending_requests: dict[Session, None] = {}
        self.stopping: bool = False
        self.log: RateLimitedLog = RateLimitedLog(self.call_later)
        self.unfinished: UnfinishedMessages = UnfinishedMessages(self)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._finished = False
        self._stalled_since: dict[Session, tuple[int, float]] = {}
        self._goodbye = ("the server has stopped", False)
        self._epoll = select.epoll()
        self.acceptor: Acceptor = Acceptor(self)
        self._waker = _Waker()
        self.register(self._waker.fd, self._waker.on_event)
        _loops.add(self)

    def __repr__(self) -> str:
        where = (
            ", ".join(
                format_address(bound_address(sock)) for sock in self.acceptor.listeners.values()
            )
            or "nowhere"
        )
        return f"<EventLoop at {where}, {len(self.sessions)} sessions>"

    # --- Sockets --------------------------------------------------------------------------

    def listen(self, address: Any) -> Address:
        """Listen at an address; return the address that the system has chosen."""
        return self.acceptor.listen(address)

    def add_listener(self, sock: socket.socket) -> None:
        """Accept connections from a socket that listens already."""
        self.acceptor.add_listener(sock)

    def adopt(self, sock: socket.socket, peer: str = "a local process") -> Session:
        """Serve a connection that was made elsewhere."""
        sock.setblocking(False)
        session = Session(self, sock, peer, time.monotonic())
        self.acceptor.add(session)
        return session

    def register(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call a handler when a descriptor can be read."""
        self._handlers[fd] = handler
        self._epoll.register(fd, IN)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor that is about to be closed.

        Closing alone does not suffice: a forked child may have the same socket open.
        """
        del self._handlers[fd]
        with contextlib.suppress(OSError):  # it was closed elsewhere
            self._epoll.unregister(fd)

    def watch(self, session: Session, mask: int) -> None:
        """Change what a session's socket is watched for."""
        self._epoll.modify(session.fd, mask)

    def on_authenticated(self, session: Session) -> None:
        """Move a session that has proved the key to the served ones."""
        del self.acceptor.unauthenticated[session]
        if session.key not in self.keys:
            # Since its first message.
            session.authenticated = False
            self.drop(session, "its key was revoked")
            return
        self.sessions[session] = None
        self.service.opened(session)

    def drop(self, session: Session, reason: str) -> None:
        """Close a connection; a reason is logged."""
        if session.fd < 0:
            return
        if reason:
            verb = "was dropped" if session.authenticated else "was refused"
            self.log.warning("%s %s: %s", session.peer, verb, reason)
        self.forget(session.fd)
        self.acceptor.unauthenticated.pop(session, None)
        self.pending_requests.pop(session, None)
        self._stalled_since.pop(session, None)
        self.unfinished.forget(session)
        session.close()
        if self.sessions.pop(session, session) is None:
            self._call_and_log_errors(self.service.closed, session)

    # --- Calls ----------------------------------------------------------------------------

    def call_soon_threadsafe(self, function: Callable[..., Any], *args: Any) -> None:
        """Call something in the loop's thread; from any thread, or a signal handler."""
        self._calls.append((function, args))
        self._waker.wake()

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> Timer:
        """Call something in so many seconds; in the loop's thread only."""
        if seconds != seconds:  # noqa: PLR0124 - the order of the others would be lost
            raise ValueError("a time is a number of seconds, not NaN")
        timer = Timer(time.monotonic() + seconds, lambda: function(*args))
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    # --- Turns ----------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `stop`."""
        self._drop_stalled_peers()
        try:
            while not self._finished:
                self.run_once()
        finally:
            self.close()

    def run_once(self, timeout: float | None = None) -> None:
        """Wait once, and do what there is to do."""
        handlers, wait = self._handlers, self._time_to_wait(timeout)
        # Those of the last turn: a session whose requests come in this one has one turn as well.
        busy, self.pending_requests = self.pending_requests, {}
        for fd, mask in self._epoll.poll(wait, MAX_EVENTS_PER_TURN):
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(mask)
                except Exception:
                    self._drop_after_error(handler)
        if self._calls:
            self._run_calls()
        if self._timers:
            self._run_timers()
        if busy:
            self._serve_pending_requests(busy)
        if self.pending_flush:
            dirty, self.pending_flush = self.pending_flush, []
            for session in dirty:
                session.flush()
        if self.stopping:
            self._continue_shutdown()

    def _serve_pending_requests(self, busy: Iterable[Session]) -> None:
        for session in busy:
            if session.fd >= 0:
                try:
                    session.serve_batch()
                except Exception:
                    self._drop_after_error(session.on_event)

    def _drop_after_error(self, handler: Callable[[int], None]) -> None:
        """Log an error of our own, and close the connection that it happened with."""
        self.log.failure("an event in the server's loop could not be handled")
        session = getattr(handler, "__self__", None)
        if isinstance(session, Session):
            self.drop(session, "the server has failed to handle it; see above")

    def _time_to_wait(self, timeout: float | None) -> float | None:
        if self._calls or self.pending_requests or self.pending_flush:
            return 0
        if not self._timers:
            return timeout
        wait = max(0.0, self._timers[0][0] - time.monotonic())
        return wait if timeout is None else min(wait, timeout)

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):
            function, args = self._calls.popleft()
            self._call_and_log_errors(function, *args)

    def _run_timers(self) -> None:
        now = time.monotonic()
        timers = self._timers
        while timers and timers[0][0] <= now:
            self._call_and_log_errors(heapq.heappop(timers)[2].fire)

    def _call_and_log_errors(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            function(*args)
        except Exception:
            self.log.failure("a call in the server's loop failed")

    def _drop_stalled_peers(self) -> None:
        """Close connections whose peer has read nothing of many unsent bytes for long."""
        self.call_later(
            min(STALL_CHECK_INTERVAL_S, self.limits.stalled_peer_s), self._drop_stalled_peers
        )
        now = time.monotonic()
        for session in list(self.sessions):
            if session.bytes_to_send <= self.limits.send_buffer_high:
                self._stalled_since.pop(session, None)
                continue
            sent, since = self._stalled_since.get(session, (-1, now))
            if sent != session.bytes_sent:
                self._stalled_since[session] = (session.bytes_sent, now)
            elif now - since > self.limits.stalled_peer_s:
                unsent, seconds = session.bytes_to_send, self.limits.stalled_peer_s
                session.drop(f"it has read nothing of {unsent} bytes for {seconds:g} s")

    # --- The end --------------------------------------------------------------------------

    def stop(self, drain: float = 5.0, *, for_good: bool = False) -> None:
        """Stop accepting, finish the requests in progress, say goodbye, and end `run`.

        Parameters
        ----------
        drain : float
            Seconds that requests in progress may take.
        for_good : bool
            Whether clients are told not to reconnect.
        """
        self.call_soon_threadsafe(self._begin_shutdown, drain, for_good)

    def _begin_shutdown(self, drain: float, for_good: bool) -> None:
        if self.stopping:
            return
        self.stopping = True
        self._goodbye = ("the server has stopped", for_good)
        self.acceptor.stop_listening()
        self.service.stopping()
        for session in list(self.acceptor.unauthenticated):
            self.drop(session, "the server stops")
        for session in list(self.sessions):
            session.update_interest()
        self.call_later(drain, self._send_goodbye)

    def _continue_shutdown(self) -> None:
        if all(session.idle for session in self.sessions):
            self._send_goodbye()
        if not self.sessions:
            self._finished = True

    def _send_goodbye(self) -> None:
        text, for_good = self._goodbye
        open_sessions = [session for session in self.sessions if not session.closing]
        if open_sessions:
            self.call_later(GOODBYE_TIMEOUT_S, self._finish)
        for session in open_sessions:
            session.send_goodbye(text, for_good=for_good)

    def _finish(self) -> None:
        self._finished = True

    def close(self) -> None:
        """Close everything at once."""
        self._finished = True
        for session in [*self.acceptor.unauthenticated, *self.sessions]:
            self.drop(session, "")
        if not self._epoll.closed:
            self.acceptor.close()
            self._waker.close()
            self._epoll.close()

    def _reset_after_fork(self) -> None:
        """In a forked child: close its copies of the sockets, and change nothing of the parent's.

        The child would keep connections open that the parent has closed. It must not unregister
        descriptors: both processes have the same epoll.
        """
        self._finished = True
        self._epoll.close()
        self._handlers.clear()
        self._calls.clear()
        self._timers.clear()
        for session in [*self.acceptor.unauthenticated, *self.sessions]:
            session.abandon()
        self.acceptor.reset_after_fork()
        self._waker.reset_after_fork()


_loops: weakref.WeakSet[EventLoop] = weakref.WeakSet()


def _close_in_forked_child() -> None:
    for loop in list(_loops):
        if not loop._epoll.closed:
            loop._reset_after_fork()


os.register_at_fork(after_in_child=_close_in_forked_child)
