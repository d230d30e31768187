"""The encrypted channel of a connection."""

from typing import Any

def generate_identity() -> tuple[bytes, bytes]:
    """A new key pair of a server: private and public key."""

class SecureChannel:
    """One end of a connection: its handshake, then records, then frames."""

    def __init__(
        self,
        initiator: bool,
        psk: bytes,
        prologue: bytes,
        max_frame: int = 268435456,
        max_message: int = 4294967296,
        max_values: int = 33554432,
        private: bytes | None = None,
    ) -> None: ...
    @property
    def server(self) -> bytes | None:
        """The server's public key, at the client's end after the handshake."""

    @property
    def finished(self) -> bool:
        """Whether the handshake is done."""

    @property
    def pending(self) -> int:
        """Bytes that are queued and not sent yet."""

    @property
    def excess(self) -> int:
        """Bytes that are queued and not sent yet, less those of the largest message."""

    @property
    def buffered(self) -> int:
        """Bytes of messages that have arrived in part."""

    def is_stalled(self, seconds: float) -> bool:
        """Whether a message that has arrived in part has grown by less than 1 MiB for so long.

        Progress is noticed only when this is called.
        """

    def write_handshake(self, payload: bytes = b"") -> bytes:
        """The next message of the handshake."""

    def read_handshake(self, message: bytes) -> bytes:
        """Read the other side's; its payload."""

    def seal(self, data: bytes) -> bytes:
        """Seal bytes, without frames."""

    def open(self, data: bytes) -> bytes:
        """The bytes in the complete records of what came, without frames."""

    def put(self, number: int, verb: int, fields: tuple[Any, ...] | list[Any]) -> None:
        """Queue a frame."""

    def take(self) -> bytes:
        """Sealed bytes of the queued frames, some at a time; none if there are none."""

    def send(self, fd: int) -> int:
        """Send what goes without waiting; how many bytes went."""

    def receive(self, fd: int) -> list[tuple[int, int, list[Any]]] | None:
        """Receive once and feed that; None if there was nothing to receive."""

    def feed(self, data: bytes) -> list[tuple[int, int, list[Any]]]:
        """Take in what came; the messages that it completes, as (number, verb, fields)."""
