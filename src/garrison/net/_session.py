"""One connection of the server: the requests from it, and the replies to it.

::

    unauthenticated ──key proved──▶ served ──stop──▶ closing (goodbye; nothing more is read)
           └───────────────┬──────────┴─────────────────┘
                        dropped: `closed` is called once, if `opened` was
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from multiprocessing import AuthenticationError
from typing import Protocol

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ChannelError
from garrison.net._handshake import BYE, CANCEL, DONE, HELLO, REFUSED, ServerHandshake

if TYPE_CHECKING:
    from garrison.net._event_loop import EventLoop
    from garrison.net._handshake import Message
    from garrison.net._rate_limited_log import RateLimitedLog
    from garrison.net._server_keys import NamedKey

__all__ = ["RequestHandler", "Session"]

IN, OUT = select.EPOLLIN, select.EPOLLOUT
RECEIVE = 1 << 12


class RequestHandler(Protocol):
    """The methods that the event loop calls, in its thread. None of them may block."""

    def opened(self, session: Session) -> None:
        """A peer has proved the key."""

    def request(self, session: Session, rid: int, verb: int, args: list[Any]) -> None:
        """Carry out a request; `session.reply` or `session.fail` answers it, now or later.

        Request 0 has no reply. An exception is sent as a failure.
        """

    def cancelled(self, session: Session, rid: int) -> None:
        """The client no longer waits for this reply.

        A reply is not needed any more; if it was sent already, the client has not read it.
        """

    def closed(self, session: Session) -> None:
        """The peer is gone; replies are discarded."""

    def stopping(self) -> None:
        """The server stops: answer the requests that wait for other clients."""

    def batch_begin(self, session: Session) -> None:
        """Begin a run of requests that came together; one that came alone has none."""

    def batch_end(self, session: Session) -> None:
        """End the run. If this raises, the connection is closed and no reply of the run is sent."""


class Session:
    """A connection that the loop has accepted."""

    __slots__ = (
        "__weakref__",
        "_handshake",
        "_inbox",
        "_loop",
        "_mask",
        "_queued",
        "_secure_channel",
        "_sock",
        "_unfinished",
        "accepted_at",
        "authenticated",
        "bytes_sent",
        "closing",
        "data",
        "fd",
        "held",
        "in_progress",
        "local",
        "peer",
    )

    def __init__(self, loop: EventLoop, sock: socket.socket, peer: str, now: float) -> None:
        self._loop = loop
        self._sock = sock
        self._handshake = ServerHandshake(loop.keys, loop.limits)
        self._secure_channel: Any = None
        self._inbox: deque[Message] = deque()
        self._mask = IN
        self._queued = False
        self._unfinished = 0
        self.fd: int = sock.fileno()
        self.peer: str = peer
        self.local: bool = sock.family == socket.AF_UNIX
        self.accepted_at: float = now
        self.authenticated: bool = False
        """Whether the peer has proved the key."""
        self.closing: bool = False
        """Whether the goodbye was sent."""
        self.held: bool = False
        """Whether no more requests are received, for the time being."""
        self.in_progress: set[int] = set()
        """Numbers of the requests without a reply."""
        self.bytes_sent: int = 0
        """Bytes sent so far."""
        self.data: Any = None
        """For the request handler."""

    def __repr__(self) -> str:
        count, unsent = len(self.in_progress), self.bytes_to_send
        return f"<Session with {self.peer}, {count} requests, {unsent} bytes to send>"

    @property
    def hello(self) -> list[Any]:
        """The fields of the client's HELLO."""
        return self._handshake.hello

    @property
    def key(self) -> NamedKey:
        """The key that the peer has proved to have."""
        assert self._handshake.key is not None  # noqa: S101 - only of an authenticated session
        return self._handshake.key

    @property
    def open(self) -> bool:
        """Whether the connection is open."""
        return self.fd >= 0

    @property
    def log(self) -> RateLimitedLog:
        """The server's log."""
        return self._loop.log

    @property
    def bytes_to_send(self) -> int:
        """Bytes not sent yet."""
        return self._secure_channel.pending if self._secure_channel is not None else 0

    # --- For the request handler ------------------------------------------------------------

    def reply(self, rid: int, *fields: Any) -> None:
        """Send the reply of a request."""
        if rid in self.in_progress:
            self._secure_channel.put(rid, DONE, fields)
            self._reply_queued(rid)

    def fail(self, rid: int, kind: str, text: str, data: bytes = b"") -> None:
        """Send the failure of a request."""
        if rid in self.in_progress:
            # A message may contain a file name that is no valid UTF-8.
            text = text.encode("utf-8", "backslashreplace").decode()
            self._secure_channel.put(rid, REFUSED, (kind, text, data))
            self._reply_queued(rid)

    def _reply_queued(self, rid: int) -> None:
        self.in_progress.remove(rid)
        if not self._queued:
            self._queued = True
            self._loop.pending_flush.append(self)

    def hold_reading(self, held: bool) -> None:
        """Receive no more requests, or go on with it: the request handler has enough to do."""
        if self.held != held and self.fd >= 0:
            self.held = held
            self.update_interest()

    def has_stalled_message(self, seconds: float) -> bool:
        """Whether a message that has arrived in part has made no progress for so long."""
        return self._secure_channel is not None and self._secure_channel.is_stalled(seconds)

    def drop(self, reason: str) -> None:
        """Close the connection now."""
        self._loop.drop(self, reason)

    # --- For the event loop ---------------------------------------------------------------

    def on_event(self, mask: int) -> None:
        """Read or write: the socket is ready."""
        if mask & ~OUT:
            self._read()
        if mask & OUT and self.fd >= 0:
            self.flush()

    def _read(self) -> None:
        channel = self._secure_channel
        try:
            messages = self._authenticate() if channel is None else channel.receive(self.fd)
        except EOFError:
            self.drop(
                "" if self.authenticated else "it closed before it had proved that it has the key"
            )
        except (ChannelError, AuthenticationError) as error:
            self._refuse(str(error))
        except OSError as error:
            self._fail("reading", error)
        else:
            if channel is not None:
                unfinished = channel.buffered
                if unfinished != self._unfinished:
                    self._unfinished = unfinished
                    self._loop.unfinished.note(self, unfinished)
            if messages and self.fd >= 0 and not self.closing:
                self._received(messages)

    def _received(self, messages: list[Message]) -> None:
        if self._inbox or len(messages) > self._loop.limits.requests_per_turn:
            self._inbox.extend(messages)
            self.serve_batch()
        else:
            self._serve(messages)
            if self._inbox and self.fd >= 0:
                self.update_interest()

    def _authenticate(self) -> list[Message]:
        try:
            data = self._sock.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return []
        if not data:
            raise EOFError
        channel = self._handshake
        messages = channel.receive(data)
        if channel.outgoing:
            self._sock.send(channel.take(), socket.MSG_NOSIGNAL)
        if channel.established:
            self._secure_channel = channel.secure_channel
            self.authenticated = True
            self._loop.on_authenticated(self)
        return messages

    def _refuse(self, reason: str) -> None:
        # One attempt: the peer has not proved the key, so nothing may wait for it.
        if not self.authenticated and self._handshake.outgoing:
            with contextlib.suppress(OSError):
                self._sock.send(self._handshake.take(), socket.MSG_NOSIGNAL)
        self.drop(reason)

    def serve_batch(self) -> None:
        """Serve the requests received so far, up to one turn's worth."""
        inbox = self._inbox
        count = min(len(inbox), self._loop.limits.requests_per_turn)
        if not self.held and self._secure_channel.pending <= self._loop.limits.send_buffer_high:
            self._serve([inbox.popleft() for _ in range(count)])
        if self.fd >= 0:
            self.update_interest()

    def _serve(self, messages: list[Message]) -> None:
        if len(messages) == 1:
            self._request(*messages[0])
        else:
            self._serve_run(messages)
        if len(self.in_progress) > self._loop.limits.max_requests:
            self.drop(f"{len(self.in_progress)} of its requests have no reply yet")

    def _serve_run(self, messages: list[Message]) -> None:
        service, channel, limits = self._loop.service, self._secure_channel, self._loop.limits
        end = time.monotonic() + limits.turn_s
        service.batch_begin(self)
        for done, message in enumerate(messages, 1):
            self._request(*message)
            if self.fd < 0:
                break
            if channel.pending > limits.send_buffer_high or time.monotonic() > end:
                # Its unsent replies come first, or the requests of other clients.
                self._inbox.extendleft(reversed(messages[done:]))
                break
        try:
            service.batch_end(self)
        except Exception as error:
            self.log.failure("the end of a batch of %s failed", self.peer)
            self.drop(f"its requests could not be carried out: {error}")

    def _request(self, rid: int, verb: int, args: list[Any]) -> None:
        if verb >= HELLO or rid in self.in_progress:
            self._control(rid, verb)
            return
        if rid:
            self.in_progress.add(rid)
        try:
            self._loop.service.request(self, rid, verb, args)
        except Exception as error:
            self.log.failure("request %d of %s failed", verb, self.peer)
            self.fail(rid, type(error).__name__, str(error))

    def _control(self, rid: int, verb: int) -> None:
        if verb == CANCEL:
            self.in_progress.discard(rid)
            self._loop.service.cancelled(self, rid)
        elif verb == HELLO:
            self.drop("it sent a second HELLO")
        else:
            self.drop(f"it used the number {rid} for two requests at once")

    def flush(self) -> None:
        """Send as much as the socket takes."""
        self._queued = False
        if self.fd < 0:
            return
        channel = self._secure_channel
        try:
            self.bytes_sent += channel.send(self.fd)
        except OSError as error:
            self._fail("writing", error)
            return
        if channel.excess > self._loop.limits.send_buffer_max:
            self.drop(f"it does not take its replies: {channel.pending} bytes wait")
        elif channel.pending or self._mask != IN or self._inbox or self.closing:
            self.update_interest()

    def update_interest(self) -> None:
        """Watch the socket for the events that this session now waits for."""
        loop = self._loop
        unsent = self.bytes_to_send
        mask = OUT if unsent else 0
        if self.closing or not (
            self._inbox or self.held or unsent > loop.limits.send_buffer_high or loop.stopping
        ):
            mask |= IN
        if self._inbox and not self.held and unsent <= loop.limits.send_buffer_high:
            loop.pending_requests[self] = None
        if mask != self._mask:
            self._mask = mask
            loop.watch(self, mask)
        if self.closing and not unsent:
            self._end_output()

    # --- The end --------------------------------------------------------------------------

    def _fail(self, what: str, error: OSError) -> None:
        """Close a connection whose socket failed; a client's death is no warning."""
        reason = f"{what} failed: {error}"
        if self.authenticated and isinstance(error, ConnectionError):
            self.log.info("%s is gone: %s", self.peer, reason)
            reason = ""
        self.drop(reason)

    @property
    def idle(self) -> bool:
        """Whether no request is unfinished."""
        return not (self.in_progress or self._inbox)

    def send_goodbye(self, text: str, *, for_good: bool) -> None:
        """Send the goodbye, and close once it is sent."""
        self._inbox.clear()
        self._secure_channel.put(0, BYE, (text, for_good, list(self.in_progress)))
        self.in_progress.clear()
        self.closing = True
        self.flush()

    def _end_output(self) -> None:
        # Closing with unread bytes would reset the connection, and a reset may destroy replies
        # that the client has not read yet.
        try:
            while self._sock.recv(RECEIVE):
                pass
        except OSError:
            pass
        self.drop("")

    def close(self) -> None:
        """Close the connection. Only the event loop calls this."""
        with contextlib.suppress(OSError):  # the peer has closed it already
            # It ends the connection even if a forked child has the socket open.
            self._sock.shutdown(socket.SHUT_RDWR)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket in this process; free what was received and what was not sent."""
        self.fd = -1
        self.in_progress.clear()
        self._inbox.clear()
        self._sock.close()
        # The request handler's reference to this session is a cycle: these may be large.
        self._secure_channel = self._handshake.secure_channel = None
