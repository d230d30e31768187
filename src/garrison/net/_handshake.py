"""One end of a connection without any socket: bytes in, messages out, and back.

::

    client                                     server
    greeting: "garrison" version 0 length,
      handshake (the key, a fresh one)   ───▶  another version or key: a greeting that says so
                                         ◀───  greeting, handshake (a fresh key, its epoch)
    first record: HELLO (who this is)    ───▶  only now it is known: whoever replays an old
    requests                             ───▶  handshake cannot write a record

Lengths are checked before anything is kept, and until a peer has proved that it knows the key it
can have 256 bytes of memory. Nothing here is ever unpickled.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from multiprocessing import AuthenticationError

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any, TypeAlias
from garrison.errors import ChannelError

if TYPE_CHECKING:
    from garrison.net._limits import Limits

__all__ = [
    "BYE",
    "CANCEL",
    "DONE",
    "HELLO",
    "REFUSED",
    "VERSION",
    "Channel",
    "ClientChannel",
    "Message",
    "ServerChannel",
    "psk_of",
    "refusal",
]

Message: TypeAlias = "tuple[int, int, list[Any]]"
"""Number of the request, verb or status, fields."""

MAGIC = b"garrison"
VERSION = 1
GREETING = struct.Struct(">8sHBH")
WELCOME, WRONG_KEY, WRONG_VERSION, BUSY = range(4)
FIRST_FRAME = 256
"""Bytes that a peer can make us keep before it has proved that it knows the key."""
EPOCH = 16

DONE, REFUSED, BYE = range(3)
"""Statuses of replies."""
HELLO, CANCEL = 0x7E, 0x7F
"""Verbs that are not the service's."""

LONG_KEY = 32
SALT = b"garrison, a short key"


@functools.lru_cache(maxsize=64)
def psk_of(key: bytes) -> bytes:
    """Return the 32 bytes that both ends must have: what is guessable is made slow to guess."""
    if len(key) >= LONG_KEY:
        return hashlib.blake2b(key, digest_size=32, person=b"garrison psk").digest()
    return hashlib.scrypt(key, salt=SALT, n=1 << 14, r=8, p=1, dklen=32)


class Channel:
    """What both ends have in common."""

    __slots__ = ("_buffer", "_limits", "_psk", "established", "noise", "outgoing")

    def __init__(self, key: bytes, limits: Limits) -> None:
        self._psk = psk_of(bytes(key))
        self._limits = limits
        self._buffer = b""
        self.noise: Any = None
        self.established = False
        self.outgoing = b""
        """Bytes of the handshake that are to be sent."""

    def receive(self, data: bytes) -> list[Message]:
        """Take in bytes and return the messages that they complete.

        Raises
        ------
        ChannelError
            If this is not what the protocol allows; the channel is of no use after that.
        multiprocessing.AuthenticationError
            If the other side has another key.
        """
        if self.established:
            messages: list[Message] = self.noise.feed(data)
            return messages
        self._buffer += data
        return self._advance()

    def put(self, number: int, verb: int, fields: Any) -> None:
        """Queue a message."""
        self.noise.put(number, verb, fields)

    def take(self) -> bytes:
        """Return bytes to be sent; none if there is nothing."""
        if self.outgoing:
            data, self.outgoing = self.outgoing, b""
            return data
        return self.noise.take() if self.established else b""

    def _advance(self) -> list[Message]:
        raise NotImplementedError

    def _fresh_noise(self, *, initiator: bool) -> Any:
        limits = self._limits
        prologue = MAGIC + VERSION.to_bytes(2, "big")
        return _core.Noise(initiator, self._psk, prologue, limits.max_frame, limits.max_message)

    def _greeting(self) -> tuple[int, int, bytes] | None:
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


class ClientChannel(Channel):
    """The end that begins: `take` what it has to say first."""

    __slots__ = ("_hello", "epoch")

    def __init__(self, key: bytes, limits: Limits, hello: tuple[Any, ...] = ()) -> None:
        super().__init__(key, limits)
        self._hello = hello
        self.epoch = b""
        """Which life of the server this is: another one after a restart."""
        self.noise = self._fresh_noise(initiator=True)
        self.outgoing = _greeted(WELCOME, self.noise.write_handshake())

    def _advance(self) -> list[Message]:
        greeting = self._greeting()
        if greeting is None:
            return []
        version, status, handshake = greeting
        _check_version(version, "the server")
        if status == WRONG_KEY:
            raise AuthenticationError("the server has another key")
        if status == BUSY:
            raise ChannelError("the server has no room for another connection; try again later")
        if status != WELCOME:
            raise ChannelError(f"a greeting of a kind that does not exist ({status})")
        try:
            self.epoch = self.noise.read_handshake(handshake)
        except ChannelError:
            raise AuthenticationError("the server did not prove that it has the key") from None
        if len(self.epoch) != EPOCH:
            raise ChannelError("the server does not say which of its lives this is")
        self.established = True
        self.noise.put(0, HELLO, list(self._hello))
        self.outgoing = self.noise.take()
        if len(self.outgoing) > FIRST_FRAME:
            raise ValueError(f"hello must fit into {FIRST_FRAME} bytes, not {self._hello!r}")
        rest, self._buffer = self._buffer, b""
        messages: list[Message] = self.noise.feed(rest)
        return messages


class ServerChannel(Channel):
    """The end that answers."""

    __slots__ = ("_epoch", "hello")

    def __init__(self, key: bytes, limits: Limits, epoch: bytes) -> None:
        super().__init__(key, limits)
        self._epoch = epoch
        self.hello: list[Any] = []
        """What the client says of itself."""

    def _advance(self) -> list[Message]:
        if self.noise is None and not self._answer():
            return []
        return self._first_record()

    def _answer(self) -> bool:
        try:
            greeting = self._greeting()
        except ChannelError:
            self.outgoing = refusal(WELCOME)
            raise
        if greeting is None:
            return False
        version, _, handshake = greeting
        if version != VERSION:
            self.outgoing = refusal(WRONG_VERSION)
        _check_version(version, "the client")
        noise = self._fresh_noise(initiator=False)
        try:
            noise.read_handshake(handshake)
        except ChannelError:
            self.outgoing = refusal(WRONG_KEY)
            raise AuthenticationError("the client has another key") from None
        self.outgoing = _greeted(WELCOME, noise.write_handshake(self._epoch))
        self.noise = noise
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
        messages: list[Message] = self.noise.feed(buffer)
        if not messages or messages[0][:2] != (0, HELLO):
            raise ChannelError("the client does not begin with who it is")
        self.hello = messages[0][2]
        self.established = True
        return messages[1:]


def refusal(status: int) -> bytes:
    """Return the greeting of a server that goes no further."""
    return _greeted(status, b"")


def _greeted(status: int, handshake: bytes) -> bytes:
    return GREETING.pack(MAGIC, VERSION, status, len(handshake)) + handshake


def _check_version(version: int, whose: str) -> None:
    if version != VERSION:
        raise ChannelError(
            f"{whose} speaks version {version} of garrison's protocol, and this side version "
            f"{VERSION}; install the same release on both"
        )
