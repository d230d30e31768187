"""Requests that are sent together, and the replies to come."""

from __future__ import annotations

from garrison._core import PendingReply
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.errors import LinkBroken
    from garrison.net._connection import Connection

__all__ = ["PendingReply", "RemoteFailure", "RequestBatch"]


class RemoteFailure(GarrisonError):
    """The server has answered a request with a failure.

    Attributes
    ----------
    kind : str
        The name of the exception there.
    text : str
        Its text.
    data : bytes
        Data of the request handler, such as a pickled exception.
    """

    def __init__(self, kind: str, text: str, data: bytes = b"") -> None:
        super().__init__(kind, text, data)
        self.kind: str = kind
        self.text: str = text
        self.data: bytes = data

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class RequestBatch:
    """Requests that are sent together, when the context ends or when there are many.

    Examples
    --------
    ``with connection.batch() as batch: a = batch.ask(3); b = batch.ask(4)``, and then
    ``a.get()``, ``b.get()``.
    """

    __slots__ = ("_check", "connection")

    def __init__(self, connection: Connection, check: Callable[[], object] | None = None) -> None:
        self.connection: Connection = connection
        self._check = check

    def __enter__(self) -> RequestBatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def ask(self, verb: int, *fields: Any, idempotent: bool = False) -> PendingReply:
        """Queue a request, as `Connection.ask`; ``get()`` of what is returned waits for the reply.

        If the returned reply is discarded, so is the reply, or the failure.
        """
        link = self.connection._link
        if self._check is not None:
            self._check()  # after reading the link: see `Connection.ask`
        return PendingReply(link, verb, fields, idempotent, self)

    def flush(self) -> None:
        """Send the queued requests."""
        link = self.connection._link
        if link is not None:
            link.flush()

    def _refused(self, fields: list[Any]) -> RemoteFailure:
        return RemoteFailure(*fields)

    def _repair(
        self, reply: PendingReply, broken: LinkBroken | None, timeout: float | None
    ) -> list[Any] | Exception:
        """Repeat a request alone, if that is allowed."""
        connection, verb, idempotent = self.connection, reply.verb, reply.idempotent
        try:
            if broken is not None:
                connection._raise_if_unsafe_to_retry(broken, verb, idempotent)
            return connection._ask_again(verb, reply.fields, timeout, idempotent, self._check)
        except TimeoutError:
            raise
        except Exception as error:  # such as a check's
            return error.with_traceback(None)
