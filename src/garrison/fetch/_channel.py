"""One connection for each lane: jobs go out on it, outcomes come back.

A connection is also a lane's signature: what was sent on it and not answered is what
the lane holds, and its end, however it came about, is the lane's end. Sequenced
packets keep one message one message, so a killed lane leaves no half of one behind.
"""

from __future__ import annotations

import os
import pickle
import secrets
import selectors
import socket
import struct
from dataclasses import dataclass

from garrison.fetch._messages import Job, Outcome

# A packet has to fit the socket's buffer: 16 messages of 8,000 characters do.
_LARGEST = 1 << 18
_AT_ONCE = 16
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Joined:
    """A lane has come."""

    lane: int


@dataclass(frozen=True, slots=True)
class Said:
    """A lane has finished transfers."""

    lane: int
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class Left:
    """A lane has gone: sent away, or dead."""

    lane: int


Event = Joined | Said | Left


class Hub:
    """The parent's end: it listens, and waits for all lanes at once."""

    def __init__(self) -> None:
        # An abstract address leaves no file behind; the peer's user is checked instead.
        self.address = f"\0garrison-fetch-{secrets.token_hex(16)}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.address)
        self._listener.listen()
        self._bell, self._rope = socket.socketpair()
        self._rope.setblocking(False)
        self._lines: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def close(self) -> None:
        """Hang up on everyone."""
        self._selector.close()
        for line in (self._listener, self._bell, self._rope, *self._lines.values()):
            line.close()

    @property
    def lanes(self) -> list[int]:
        """The numbers of the lanes that are there."""
        return list(self._lines)

    def ring(self) -> None:
        """End a `wait` that is going on; a signal handler may call it."""
        try:
            self._rope.send(b"!")
        except BlockingIOError:
            return  # it rings already

    def wait(self, seconds: float | None) -> list[Event]:
        """Wait for something to happen, and return what did."""
        events: list[Event] = []
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listener:
                events.extend(self._admit())
            elif key.fileobj is self._bell:
                self._bell.recv(64)
            else:
                events.append(self._hear(key.data))
        return events

    def send(self, lane: int, jobs: list[Job]) -> None:
        """Hand jobs to a lane; to one that has just died, they are lost with it."""
        for first in range(0, len(jobs), _AT_ONCE):
            self._post(lane, [tuple(job) for job in jobs[first : first + _AT_ONCE]])

    def dismiss(self, lane: int) -> None:
        """Send a lane away; what it has in hand is dropped."""
        self._post(lane, None)

    def _post(self, lane: int, message: object) -> None:
        try:
            self._lines[lane].send(pickle.dumps(message, 5))
        except (BrokenPipeError, ConnectionResetError):
            return  # `wait` tells that it left

    def _admit(self) -> list[Event]:
        line, _ = self._listener.accept()
        line.settimeout(5)
        try:
            lane = _introduction(line)
        except (OSError, ValueError):
            line.close()
            return []
        line.settimeout(None)
        self._lines[lane] = line
        self._selector.register(line, selectors.EVENT_READ, lane)
        return [Joined(lane)]

    def _hear(self, lane: int) -> Event:
        line = self._lines[lane]
        try:
            message = line.recv(_LARGEST)
        except ConnectionResetError:
            message = b""
        if message:
            return Said(lane, [Outcome(*fields) for fields in pickle.loads(message)])
        self._selector.unregister(line)
        self._lines.pop(lane).close()
        return Left(lane)


def _introduction(line: socket.socket) -> int:
    """Return the number that a new lane gives."""
    _refuse_strangers(line)
    return int(line.recv(32))


def _refuse_strangers(line: socket.socket) -> None:
    """Talk to processes of this user only; the kernel says whose the other end is."""
    credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    if user != os.geteuid():
        raise PermissionError(f"the other end belongs to user {user}")


class Line:
    """The lane's end.

    Parameters
    ----------
    address
        The hub's address.
    lane
        The lane's number.
    """

    def __init__(self, address: str, lane: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(address)
        _refuse_strangers(self._socket)
        self._socket.send(str(lane).encode())

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def receive(self) -> list[Job] | None:
        """Return the next jobs; None when the lane has to go."""
        try:
            message = self._socket.recv(_LARGEST)
        except ConnectionResetError:
            return None
        jobs = pickle.loads(message) if message else None
        return None if jobs is None else [Job(*fields) for fields in jobs]

    def send(self, outcomes: list[Outcome]) -> None:
        """Tell how transfers ended."""
        for first in range(0, len(outcomes), _AT_ONCE):
            some = [tuple(outcome) for outcome in outcomes[first : first + _AT_ONCE]]
            self._socket.send(pickle.dumps(some, 5))
