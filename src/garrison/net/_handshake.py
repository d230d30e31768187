"""The handshake and the messages of a connection, without a socket: bytes in, messages out.

::

    client                                     server
    greeting: "garrison" version 0 length,
      handshake (shared and fresh key)   ───▶  wrong version or key: a greeting with that status
                                         ◀───  greeting, handshake (a fresh key, the epoch)
    first record: HELLO (client's name)  ───▶  authenticated only now: a replayed handshake
    requests                             ───▶  cannot be followed by a valid record

Lengths are checked before anything is stored, and a peer that has not proved the key occupies at
most 256 bytes. Nothing here is ever unpickled.
"""

from __future__ import annotations

import struct
from multiprocessing import AuthenticationError

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any, TypeAlias
from garrison.errors import ChannelError
from garrison.net._key import derive_psk

if TYPE_CHECKING:
    from garrison.net._limits import Limits

__all__ = [
    "BUSY",
    "BYE",
    "CANCEL",
    "DONE",
    "HELLO",
    "REFUSED",
    "VERSION",
    "WRONG_KEY",
    "ClientHandshake",
    "Handshake",
    "Message",
    "ServerHandshake",
    "reject_bytes",
]

Message: TypeAlias = "tuple[int, int, list[Any]]"
"""Number of the request, verb or status, fields."""

MAGIC = b"garrison"
VERSION = 1
GREETING = struct.Struct(">8sHBH")
WELCOME, WRONG_KEY, WRONG_VERSION, BUSY = range(4)
FIRST_FRAME = 256
"""Bytes that are stored for a peer that has not proved the key."""
EPOCH = 16

DONE, REFUSED, BYE = range(3)
"""Statuses of replies."""
HELLO, CANCEL = 0x7E, 0x7F
"""Verbs of the connection itself."""


class Handshake:
    """The part that both ends share."""

    __slots__ = ("_buffer", "_limits", "_psk", "established", "outgoing", "secure_channel")

    def __init__(self, key: bytes, limits: Limits) -> None:
        self._psk = derive_psk(bytes(key))
        self._limits = limits
        self._buffer = b""
        self.secure_channel: Any = None
        self.established = False
        self.outgoing = b""
        """Handshake bytes to be sent."""

    def receive(self, data: bytes) -> list[Message]:
        """Process received bytes; return the messages that they complete.

        Raises
        ------
        ChannelError
            If the bytes violate the protocol; the connection must be closed.
        multiprocessing.AuthenticationError
            If the other side has another key.
        """
        if self.established:
            messages: list[Message] = self.secure_channel.feed(data)
            return messages
        self._buffer += data
        return self._step()

    def put(self, number: int, verb: int, fields: Any) -> None:
        """Queue a message."""
        self.secure_channel.put(number, verb, fields)

    def take(self) -> bytes:
        """Return the bytes to be sent, perhaps none."""
        if self.outgoing:
            data, self.outgoing = self.outgoing, b""
            return data
        return self.secure_channel.take() if self.established else b""

    def _step(self) -> list[Message]:
        raise NotImplementedError

    def _new_secure_channel(self, *, initiator: bool) -> Any:
        limits = self._limits
        prologue = MAGIC + VERSION.to_bytes(2, "big")
        return _core.SecureChannel(
            initiator,
            self._psk,
            prologue,
            limits.max_frame,
            limits.max_message,
            limits.max_values,
        )

    def _parse_greeting(self) -> tuple[int, int, bytes] | None:
        """Take version, status and handshake of a complete greeting off the buffer."""
        buffer = self._buffer
        if buffer[: len(MAGIC)] != MAGIC[: len(buffer)]:
            raise ChannelError(f"it does not speak garrison's protocol (it says {buffer[:24]!r})")
        if len(buffer) < GREETING.size:
            return None
        _, version, status, length = GREETING.unpack_from(buffer)
        if length > FIRST_FRAME:
            raise ChannelError(f"a handshake of {length} bytes, and {FIRST_FRAME} are the limit")
        end = GREETING.size + length
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        return version, status, buffer[GREETING.size : end]


class ClientHandshake(Handshake):
    """The client's end; `take` returns its greeting first."""

    __slots__ = ("_hello", "epoch")

    def __init__(self, key: bytes, limits: Limits, hello: tuple[Any, ...] = ()) -> None:
        super().__init__(key, limits)
        self._hello = hello
        self.epoch = b""
        """Identifies the run of the server; a restarted server has another."""
        self.secure_channel = self._new_secure_channel(initiator=True)
        self.outgoing = _greeting_bytes(WELCOME, self.secure_channel.write_handshake())

    def _step(self) -> list[Message]:
        greeting = self._parse_greeting()
        if greeting is None:
            return []
        version, status, handshake = greeting
        _check_version(version, "the server")
        if status == WRONG_KEY:
            raise AuthenticationError("the server has another key")
        if status == BUSY:
            raise ChannelError("the server has no room for another connection; try again later")
        if status != WELCOME:
            raise ChannelError(f"a greeting with an unknown status ({status})")
        try:
            self.epoch = self.secure_channel.read_handshake(handshake)
        except ChannelError:
            raise AuthenticationError("the server did not prove that it has the key") from None
        if len(self.epoch) != EPOCH:
            raise ChannelError("the server sent no valid epoch")
        self.established = True
        self.secure_channel.put(0, HELLO, list(self._hello))
        self.outgoing = self.secure_channel.take()
        if len(self.outgoing) > FIRST_FRAME:
            raise ValueError(f"hello must fit into {FIRST_FRAME} bytes, not {self._hello!r}")
        rest, self._buffer = self._buffer, b""
        messages: list[Message] = self.secure_channel.feed(rest)
        return messages


class ServerHandshake(Handshake):
    """The server's end."""

    __slots__ = ("_epoch", "hello")

    def __init__(self, key: bytes, limits: Limits, epoch: bytes) -> None:
        super().__init__(key, limits)
        self._epoch = epoch
        self.hello: list[Any] = []
        """The fields of the client's HELLO."""

    def _step(self) -> list[Message]:
        if self.secure_channel is None and not self._answer():
            return []
        return self._first_record()

    def _answer(self) -> bool:
        try:
            greeting = self._parse_greeting()
        except ChannelError:
            self.outgoing = reject_bytes(WELCOME)
            raise
        if greeting is None:
            return False
        version, _, handshake = greeting
        if version != VERSION:
            self.outgoing = reject_bytes(WRONG_VERSION)
        _check_version(version, "the client")
        channel = self._new_secure_channel(initiator=False)
        try:
            channel.read_handshake(handshake)
        except ChannelError:
            self.outgoing = reject_bytes(WRONG_KEY)
            raise AuthenticationError("the client has another key") from None
        self.outgoing = _greeting_bytes(WELCOME, channel.write_handshake(self._epoch))
        self.secure_channel = channel
        return True

    def _first_record(self) -> list[Message]:
        buffer = self._buffer
        if len(buffer) < 2:  # noqa: PLR2004 - bytes of a length
            return []
        length = int.from_bytes(buffer[:2], "big")
        if length > FIRST_FRAME:
            raise ChannelError(f"a first record of {length} bytes; {FIRST_FRAME} are the limit")
        if len(buffer) < 2 + length:
            return []
        self._buffer = b""
        messages: list[Message] = self.secure_channel.feed(buffer)
        if not messages or messages[0][:2] != (0, HELLO):
            raise ChannelError("the client does not begin with HELLO")
        self.hello = messages[0][2]
        self.established = True
        return messages[1:]


def reject_bytes(status: int) -> bytes:
    """Return the greeting with which a server rejects a connection."""
    return _greeting_bytes(status, b"")


def _greeting_bytes(status: int, handshake: bytes) -> bytes:
    return GREETING.pack(MAGIC, VERSION, status, len(handshake)) + handshake


def _check_version(version: int, whose: str) -> None:
    if version != VERSION:
        raise ChannelError(
            f"{whose} speaks version {version} of garrison's protocol, and this side version "
            f"{VERSION}; install the same release on both"
        )
