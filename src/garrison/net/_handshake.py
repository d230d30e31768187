"""The handshake and the messages of a connection, without a socket: bytes in, messages out.

::

    client                                     server
    greeting: SALT                       ───▶  (only for a key that a person may have chosen)
                                         ◀───  greeting: SALT, the server's public key
    greeting: "garrison" version 0 length,
      handshake (shared and fresh key)   ───▶  wrong version or key: a greeting with that status
                                         ◀───  greeting, handshake (a fresh key, the server's own)
    first record: HELLO (client's name)  ───▶  authenticated only now: a replayed handshake
    requests                             ───▶  cannot be followed by a valid record

The client checks who the server is before it derives anything from a salt, and before it sends
anything. Lengths are checked before anything is stored, and a peer that has not proved the key
occupies at most 256 bytes. Nothing here is ever unpickled.
"""

from __future__ import annotations

import contextlib
import struct
from multiprocessing import AuthenticationError

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any, TypeAlias
from garrison.errors import ChannelError
from garrison.net._key import derive_psk, needs_salt

if TYPE_CHECKING:
    from garrison.net._known_servers import ServerCheck
    from garrison.net._limits import Limits
    from garrison.net._server_keys import NamedKey, ServerKeys

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
WELCOME, WRONG_KEY, WRONG_VERSION, BUSY, SALT = range(5)
FIRST_FRAME = 256
"""Bytes that are stored for a peer that has not proved the key."""
PUBLIC_KEY = 32

DONE, REFUSED, BYE = range(3)
"""Statuses of replies."""
HELLO, CANCEL = 0x7E, 0x7F
"""Verbs of the connection itself."""


class Handshake:
    """The part that both ends share."""

    __slots__ = ("_buffer", "_limits", "established", "outgoing", "secure_channel")

    def __init__(self, limits: Limits) -> None:
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

    def _new_secure_channel(self, psk: bytes, private: bytes | None = None) -> Any:
        limits = self._limits
        prologue = MAGIC + VERSION.to_bytes(2, "big")
        return _core.SecureChannel(
            private is None,
            psk,
            prologue,
            limits.max_frame,
            limits.max_message,
            limits.max_values,
            private,
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
    """The client's end; `take` returns its greeting first.

    Parameters
    ----------
    key : bytes
    limits : Limits
    hello : tuple
        The fields of its HELLO.
    expected : ServerCheck, optional
        Which servers are right; by default all that have the key.
    """

    __slots__ = ("_expected", "_hello", "_key")

    def __init__(
        self,
        key: bytes,
        limits: Limits,
        hello: tuple[Any, ...] = (),
        expected: ServerCheck | None = None,
    ) -> None:
        super().__init__(limits)
        self._key, self._hello, self._expected = bytes(key), hello, expected
        if needs_salt(self._key):
            self.outgoing = reject_bytes(SALT)
        else:
            self._begin(b"")

    def _begin(self, salt: bytes) -> None:
        self.secure_channel = self._new_secure_channel(derive_psk(self._key, salt))
        self.outgoing = _greeting_bytes(WELCOME, self.secure_channel.write_handshake())

    def _step(self) -> list[Message]:
        greeting = self._parse_greeting()
        if greeting is None:
            return []
        version, status, data = greeting
        _check_version(version, "the server")
        if status == SALT and self.secure_channel is None:
            self._take_salt(data)
            return []
        if status == WRONG_KEY:
            raise AuthenticationError("the server has another key")
        if status == BUSY:
            raise ChannelError("the server has no room for another connection; try again later")
        if status != WELCOME or self.secure_channel is None:
            raise ChannelError(f"a greeting with an unknown status ({status})")
        self._finish(data)
        rest, self._buffer = self._buffer, b""
        messages: list[Message] = self.secure_channel.feed(rest)
        return messages

    def _take_salt(self, public: bytes) -> None:
        if len(public) != PUBLIC_KEY:
            raise ChannelError("the server sent no valid salt")
        # Another server would get something to guess the key with.
        if self._expected is not None:
            self._expected.check(public)
        self._begin(public)

    def _finish(self, handshake: bytes) -> None:
        try:
            self.secure_channel.read_handshake(handshake)
        except ChannelError:
            raise AuthenticationError("the server did not prove that it has the key") from None
        if self._expected is not None:
            self._expected.accept(self.secure_channel.server)
        self.established = True
        self.secure_channel.put(0, HELLO, list(self._hello))
        self.outgoing = self.secure_channel.take()
        if len(self.outgoing) > FIRST_FRAME:
            raise ValueError(f"hello must fit into {FIRST_FRAME} bytes, not {self._hello!r}")


class ServerHandshake(Handshake):
    """The server's end."""

    __slots__ = ("_gave_salt", "_keys", "hello", "key")

    def __init__(self, keys: ServerKeys, limits: Limits) -> None:
        super().__init__(limits)
        self._keys = keys
        self._gave_salt = False
        self.key: NamedKey | None = None
        """The key that the client has."""
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
        version, status, handshake = greeting
        if version != VERSION:
            self.outgoing = reject_bytes(WRONG_VERSION)
        _check_version(version, "the client")
        if status == SALT:
            self._give_salt()
            return False
        for key, psk in self._keys.with_psks():
            channel = self._new_secure_channel(psk, self._keys.identity.private)
            with contextlib.suppress(ChannelError):
                channel.read_handshake(handshake)
                self.key = key
                break
        else:
            self.outgoing = reject_bytes(WRONG_KEY)
            raise AuthenticationError("the client has another key")
        self.outgoing = _greeting_bytes(WELCOME, channel.write_handshake())
        self.secure_channel = channel
        return True

    def _give_salt(self) -> None:
        if self._gave_salt:
            raise ChannelError("the client asks twice for the salt")
        self._gave_salt = True
        self.outgoing = _greeting_bytes(SALT, self._keys.identity.public)

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
