"""A connection to each lane: the parent sends jobs, the lane sends outcomes.

The lane holds the jobs that were sent and not answered. The end of the connection is the end of
the lane. Sequenced packets are whole or absent, so a killed lane leaves no partial message.
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

# A packet must fit the socket's buffer: 16 messages of 8,000 characters do.
_LARGEST = 1 << 18
_AT_ONCE = 16
_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class LaneConnected:
    """A lane has connected."""

    lane: int


@dataclass(frozen=True, slots=True)
class LaneResults:
    """A lane has finished transfers."""

    lane: int
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class LaneGone:
    """A lane has ended: stopped, or dead."""

    lane: int


Event = LaneConnected | LaneResults | LaneGone


class LaneServer:
    """The parent's end: accepts lanes, and waits for all of them at once."""

    def __init__(self) -> None:
        # An abstract address leaves no file behind; the peer's user is checked instead.
        self.address = f"\0garrison-fetch-{secrets.token_hex(16)}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.address)
        self._listener.listen()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._connections: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)

    def close(self) -> None:
        """Close all connections."""
        self._selector.close()
        for connection in (
            self._listener,
            self._wake_reader,
            self._wake_writer,
            *self._connections.values(),
        ):
            connection.close()

    @property
    def lanes(self) -> list[int]:
        """The numbers of the connected lanes."""
        return list(self._connections)

    def wake(self) -> None:
        """End a `wait` in progress; a signal handler may call it."""
        try:
            self._wake_writer.send(b"!")
        except BlockingIOError:
            return  # it is awake already

    def wait(self, seconds: float | None) -> list[Event]:
        """Wait for events, and return them."""
        events: list[Event] = []
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listener:
                events.extend(self._accept())
            elif key.fileobj is self._wake_reader:
                self._wake_reader.recv(64)
            else:
                events.append(self._receive(key.data))
        return events

    def send(self, lane: int, jobs: list[Job]) -> None:
        """Send jobs to a lane. If it has just died, they are lost with it."""
        for first in range(0, len(jobs), _AT_ONCE):
            self._send(lane, [tuple(job) for job in jobs[first : first + _AT_ONCE]])

    def stop_lane(self, lane: int) -> None:
        """Stop a lane; it drops its running transfers."""
        self._send(lane, None)

    def _send(self, lane: int, message: object) -> None:
        try:
            self._connections[lane].send(pickle.dumps(message, 5))
        except (BrokenPipeError, ConnectionResetError):
            return  # `wait` reports its end

    def _accept(self) -> list[Event]:
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        try:
            lane = _read_lane_number(connection)
        except (OSError, ValueError):
            connection.close()
            return []
        connection.settimeout(None)
        self._connections[lane] = connection
        self._selector.register(connection, selectors.EVENT_READ, lane)
        return [LaneConnected(lane)]

    def _receive(self, lane: int) -> Event:
        connection = self._connections[lane]
        try:
            message = connection.recv(_LARGEST)
        except ConnectionResetError:
            message = b""
        if message:
            return LaneResults(lane, [Outcome(*fields) for fields in pickle.loads(message)])  # noqa: S301 - written by our worker
        self._selector.unregister(connection)
        self._connections.pop(lane).close()
        return LaneGone(lane)


def _read_lane_number(connection: socket.socket) -> int:
    _check_same_user(connection)
    return int(connection.recv(32))


def _check_same_user(connection: socket.socket) -> None:
    """Refuse a peer of another user, as the kernel reports it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    if user != os.geteuid():
        raise PermissionError(f"the other end belongs to user {user}")


class LaneClient:
    """The lane's end of the connection.

    Parameters
    ----------
    address
        The address of the `LaneServer`.
    lane
        The lane's number.
    """

    def __init__(self, address: str, lane: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(address)
        _check_same_user(self._socket)
        self._socket.send(str(lane).encode())

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def receive(self) -> list[Job] | None:
        """Return the next jobs; None when the lane has to end."""
        try:
            message = self._socket.recv(_LARGEST)
        except ConnectionResetError:
            return None
        jobs = pickle.loads(message) if message else None  # noqa: S301 - written by the parent
        return None if jobs is None else [Job(*fields) for fields in jobs]

    def send(self, outcomes: list[Outcome]) -> None:
        """Send the outcomes of transfers."""
        for first in range(0, len(outcomes), _AT_ONCE):
            some = [tuple(outcome) for outcome in outcomes[first : first + _AT_ONCE]]
            self._socket.send(pickle.dumps(some, 5))
