"""One peer of the server: what came from it, what is owed to it.

::

    stranger ──key proved──▶ served ──stop──▶ leaving (last words, then nothing is read)
        └──────────────┬──────┴──────────────────┘
                    dropped: `closed` is called once, if `opened` was
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections import deque
from multiprocessing import AuthenticationError
from typing import Protocol

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ChannelError
from garrison.net._handshake import BYE, CANCEL, DONE, HELLO, REFUSED, ServerChannel
from garrison.net._rate_limited_log import log

if TYPE_CHECKING:
    from garrison.net._event_loop import EventLoop
    from garrison.net._handshake import Message

__all__ = ["Service", "Session"]

IN, OUT = select.EPOLLIN, select.EPOLLOUT
RECEIVE = 1 << 12


class Service(Protocol):
    """What a loop calls, in its thread. None of these may wait."""

    def opened(self, session: Session) -> None:
        """Greet a peer that has proved that it knows the key."""

    def request(self, session: Session, rid: int, verb: int, args: list[Any]) -> None:
        """Do something; `session.reply` or `session.fail` tells of it, now or later.

        Nothing is to be replied to number 0. An exception is told as a failure.
        """

    def cancelled(self, session: Session, rid: int) -> None:
        """Hear that nobody waits for this reply any more.

        It need not be given; or, if it was given already, nobody has heard it.
        """

    def closed(self, session: Session) -> None:
        """Hear that the peer is gone; nothing more can be replied."""

    def stopping(self) -> None:
        """Answer to those who wait for others: the server stops, and waits for every reply."""

    def batch_begin(self, session: Session) -> None:
        """Begin a run of requests."""

    def batch_end(self, session: Session) -> None:
        """End the run. If this raises, the peer is dropped and sees none of the run's replies."""


class Session:
    """A connection that the loop has accepted."""

    __slots__ = (
        "__weakref__",
        "_channel",
        "_inbox",
        "_loop",
        "_mask",
        "_noise",
        "_queued",
        "_sock",
        "accepted_at",
        "begun",
        "data",
        "fd",
        "leaving",
        "local",
        "peer",
        "progress",
        "proved",
    )

    def __init__(self, loop: EventLoop, sock: socket.socket, peer: str, now: float) -> None:
        self._loop = loop
        self._sock = sock
        self._channel = ServerChannel(loop.key, loop.limits, loop.epoch)
        self._noise: Any = None
        self._inbox: deque[Message] = deque()
        self._mask = IN
        self._queued = False
        self.fd = sock.fileno()
        self.peer = peer
        self.local: bool = sock.family == socket.AF_UNIX
        self.accepted_at = now
        self.proved = False
        """Whether it has shown that it knows the key."""
        self.leaving = False
        """Whether it has been told the last words."""
        self.begun: set[int] = set()
        """Requests without a reply so far."""
        self.progress = 0
        """Bytes sent."""
        self.data: Any = None
        """The service's own."""

    def __repr__(self) -> str:
        return f"<Session with {self.peer}, {len(self.begun)} requests, {self.owed} bytes to send>"

    @property
    def hello(self) -> list[Any]:
        """What the client has said of itself."""
        return self._channel.hello

    @property
    def open(self) -> bool:
        """Whether the connection stands."""
        return self.fd >= 0

    @property
    def owed(self) -> int:
        """Bytes that wait to be sent."""
        return self._noise.pending if self._noise is not None else 0

    # --- What the service says ------------------------------------------------------------

    def reply(self, rid: int, *fields: Any) -> None:
        """Answer a request."""
        if rid in self.begun:
            self._noise.put(rid, DONE, fields)
            self._settled(rid)

    def fail(self, rid: int, kind: str, text: str, data: bytes = b"") -> None:
        """Answer a request by what went wrong."""
        if rid in self.begun:
            # A message may hold what came from file names, and is no UTF-8 then.
            text = text.encode("utf-8", "backslashreplace").decode()
            self._noise.put(rid, REFUSED, (kind, text, data))
            self._settled(rid)

    def _settled(self, rid: int) -> None:
        self.begun.remove(rid)
        if not self._queued:
            self._queued = True
            self._loop.dirty.append(self)

    def drop(self, reason: str) -> None:
        """End the connection now."""
        self._loop.drop(self, reason)

    # --- What the loop says ---------------------------------------------------------------

    def on_event(self, mask: int) -> None:
        """React to a socket that can be read or written."""
        if mask & ~OUT:
            self._read()
        if mask & OUT and self.fd >= 0:
            self.flush()

    def _read(self) -> None:
        noise = self._noise
        try:
            messages = self._introduced() if noise is None else noise.receive(self.fd)
        except EOFError:
            self.drop("" if self.proved else "it closed before it had proved that it has the key")
        except (ChannelError, AuthenticationError) as error:
            self._refuse(str(error))
        except OSError as error:
            self._fail("reading", error)
        else:
            if messages and self.fd >= 0 and not self.leaving:
                self._received(messages)

    def _received(self, messages: list[Message]) -> None:
        if self._inbox or len(messages) > self._loop.limits.frames_in_turn:
            self._inbox.extend(messages)
            self.serve_some()
        else:
            self._serve(messages)

    def _introduced(self) -> list[Message]:
        try:
            data = self._sock.recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return []
        if not data:
            raise EOFError
        channel = self._channel
        messages = channel.receive(data)
        if channel.outgoing:
            self._sock.send(channel.take(), socket.MSG_NOSIGNAL)
        if channel.established:
            self._noise = channel.noise
            self.proved = True
            self._loop.introduced(self)
        return messages

    def _refuse(self, reason: str) -> None:
        # One attempt: whoever does not take it has no claim to it.
        if not self.proved and self._channel.outgoing:
            with contextlib.suppress(OSError):
                self._sock.send(self._channel.take(), socket.MSG_NOSIGNAL)
        self.drop(reason)

    def serve_some(self) -> None:
        """Serve what has come, up to one turn's worth."""
        inbox = self._inbox
        count = min(len(inbox), self._loop.limits.frames_in_turn)
        if self._noise.pending <= self._loop.limits.output:
            self._serve([inbox.popleft() for _ in range(count)])
        if self.fd >= 0:
            self.settle()

    def _serve(self, messages: list[Message]) -> None:
        service, begun, noise = self._loop.service, self.begun, self._noise
        most = self._loop.limits.output
        service.batch_begin(self)
        for at, (rid, verb, args) in enumerate(messages):
            if verb >= HELLO or rid in begun:
                self._control(rid, verb)
                continue
            if rid:
                begun.add(rid)
            try:
                service.request(self, rid, verb, args)
            except Exception as error:
                log.exception("request %d of %s failed", verb, self.peer)
                self.fail(rid, type(error).__name__, str(error))
            if self.fd < 0:
                break
            if noise.pending > most:
                # What is owed comes first.
                self._inbox.extendleft(reversed(messages[at + 1 :]))
                break
        try:
            service.batch_end(self)
        except Exception as error:
            log.exception("the end of a batch of %s failed", self.peer)
            self.drop(f"its requests could not be carried out: {error}")

    def _control(self, rid: int, verb: int) -> None:
        if verb == CANCEL:
            self.begun.discard(rid)
            self._loop.service.cancelled(self, rid)
        elif verb == HELLO:
            self.drop("it said twice who it is")
        else:
            self.drop(f"it used the number {rid} for two requests at once")

    def flush(self) -> None:
        """Send what can be sent."""
        self._queued = False
        if self.fd < 0:
            return
        noise = self._noise
        try:
            self.progress += noise.send(self.fd)
        except OSError as error:
            self._fail("writing", error)
            return
        if noise.excess > self._loop.limits.output_most:
            self.drop(f"it does not take its replies: {noise.pending} bytes wait")
        elif noise.pending or self._mask != IN or self._inbox or self.leaving:
            self.settle()

    def settle(self) -> None:
        """Watch the socket for what this session waits for now."""
        loop = self._loop
        owed = self.owed
        mask = OUT if owed else 0
        if self.leaving or not (self._inbox or owed > loop.limits.output or loop.stopping):
            mask |= IN
        if self._inbox and owed <= loop.limits.output:
            loop.busy[self] = None
        if mask != self._mask:
            self._mask = mask
            loop.watch(self, mask)
        if self.leaving and not owed:
            self._end_output()

    # --- The end --------------------------------------------------------------------------

    def _fail(self, what: str, error: OSError) -> None:
        """End a connection whose socket fails; the death of a known client is worth no warning."""
        reason = f"{what} failed: {error}"
        if self.proved and isinstance(error, ConnectionError):
            log.info("%s is gone: %s", self.peer, reason)
            reason = ""
        self.drop(reason)

    @property
    def idle(self) -> bool:
        """Whether nothing that was taken from it is unfinished."""
        return not (self.begun or self._inbox)

    def leave(self, text: str, *, for_good: bool) -> None:
        """Say the last words, and close when they are sent."""
        self._inbox.clear()
        self._noise.put(0, BYE, (text, for_good, list(self.begun)))
        self.begun.clear()
        self.leaving = True
        self.flush()

    def _end_output(self) -> None:
        # Unread bytes would make the end a reset. A client reads what came before that, but may
        # be asked not to rely on it.
        try:
            while self._sock.recv(RECEIVE):
                pass
        except OSError:
            pass
        self.drop("")

    def close(self) -> None:
        """Close the socket; for the loop."""
        self.fd = -1
        self.begun.clear()
        self._inbox.clear()
        self._sock.close()
