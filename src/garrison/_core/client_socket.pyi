"""A client's socket, and the replies that are still to come."""

from typing import Any

from garrison._core.secure_channel import SecureChannel

class ClientSocket:
    """A connection of a client, after its handshake."""

    def __init__(self, channel: SecureChannel, fd: int) -> None: ...
    @property
    def broken(self) -> str | None:
        """Why nothing can be asked any more, or None."""

    def ask(
        self, verb: int, fields: tuple[Any, ...] | list[Any], timeout: float | None = None
    ) -> tuple[int, list[Any]]:
        """Send a request and wait for its reply: its status and its fields."""

    def flush(self) -> None:
        """Send what is queued, as far as it goes without waiting; a wait sends the rest."""

    def close(self, reason: str) -> None:
        """End the connection; threads that wait for replies learn the reason."""

    def abandon(self) -> None:
        """In a forked child.

        Close this process's descriptor and leave the connection to the parent.
        """

class PendingReply:
    """The reply to a request of a pipeline."""

    def __init__(
        self,
        link: ClientSocket | None,
        verb: int,
        fields: tuple[Any, ...],
        idempotent: bool,
        pipeline: Any,
    ) -> None: ...
    @property
    def verb(self) -> int:
        """The verb of the request."""

    @property
    def fields(self) -> tuple[Any, ...]:
        """The fields of the request."""

    @property
    def idempotent(self) -> bool:
        """Whether the request may be repeated after a broken connection."""

    def get(self, timeout: float | None = None) -> list[Any]:
        """Wait for the reply and return its fields, or raise as `Connection.ask` does.

        After a `TimeoutError` it may be called again.
        """
