"""Requests that are sent together, and the promises of their replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from garrison._core import LinkBroken
from garrison.errors import ManagerLost
from garrison.manager._channel import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison import _core
    from garrison.manager._connection import Connection

__all__ = ["Pipeline", "Promise", "Refused"]


class Refused(Exception):
    """The service has answered with a failure.

    Attributes
    ----------
    kind : str
        The name of the exception there.
    text : str
        Its text.
    data : bytes
        Whatever the service adds.
    """

    def __init__(self, kind: str, text: str, data: bytes = b"") -> None:
        super().__init__(kind, text, data)
        self.kind, self.text, self.data = kind, text, data

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class _Request:
    """What a promise was given for, and what became of it."""

    __slots__ = ("error", "fields", "idempotent", "link", "number", "reply", "verb")

    def __init__(self, verb: int, fields: tuple[Any, ...], idempotent: bool) -> None:
        self.verb, self.fields, self.idempotent = verb, fields, idempotent
        self.link: _core.Link | None = None
        self.number = 0
        self.reply: list[Any] | None = None
        self.error: BaseException | None = None

    def settle(self, status: int, fields: list[Any]) -> None:
        """Keep what the server has answered."""
        if status == DONE:
            self.reply = fields
        else:
            self.error = Refused(*fields)


class Promise:
    """The reply to a request of a pipeline."""

    __slots__ = ("_index", "_pipeline")

    def __init__(self, pipeline: Pipeline, index: int) -> None:
        self._pipeline, self._index = pipeline, index

    def get(self, timeout: float | None = None) -> list[Any]:
        """Wait for the reply and return its fields, or raise as `Connection.ask` does."""
        request = self._pipeline._requests[self._index]
        if request.reply is None and request.error is None:
            self._pipeline._collect(self._index, timeout)
        if request.reply is None:
            assert request.error is not None  # noqa: S101 - one of the two
            raise request.error
        return request.reply


class Pipeline:
    """Requests that are sent together, when the context ends or when there are many.

    Examples
    --------
    ``with connection.pipeline() as pipeline: a = pipeline.ask(3); b = pipeline.ask(4)``, and then
    ``a.get()``, ``b.get()``.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests: list[_Request] = []

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def ask(self, verb: int, *fields: Any, idempotent: bool = False) -> Promise:
        """Queue a request, as `Connection.ask`."""
        requests = self._requests
        request = _Request(verb, fields, idempotent)
        link = self._connection._link
        if link is not None:
            request.number = link.put(verb, fields)
            request.link = link
        requests.append(request)
        return Promise(self, len(requests) - 1)

    def flush(self) -> None:
        """Send what is queued."""
        link = self._connection._link
        if link is not None:
            link.flush()

    def answers(self) -> Iterator[list[Any] | BaseException]:
        """Send the rest, and yield the fields of each reply, or why there is none, in order."""
        self.flush()
        for index, request in enumerate(self._requests):
            if request.reply is None and request.error is None:
                self._collect(index, None)
            yield request.error if request.reply is None else request.reply  # type: ignore[misc]

    def _collect(self, index: int, timeout: float | None) -> None:
        """Wait for one reply, and take in the ones behind it that have come as well."""
        request = self._requests[index]
        link = request.link
        try:
            if link is None:
                request.reply = self._ask_alone(request, timeout)
            else:
                request.settle(*link.wait(request.number, timeout))
                self._take_arrived(link, index + 1)
        except LinkBroken as broken:
            self._repair(request, broken, timeout)
        except (ManagerLost, Refused) as error:
            request.error = error

    def _take_arrived(self, link: _core.Link, start: int) -> None:
        following = self._requests[start : start + 256]
        numbers = [request.number for request in following if request.link is link]
        for request, answer in zip(following, link.arrived(numbers), strict=False):
            request.settle(*answer)

    def _repair(self, request: _Request, broken: LinkBroken, timeout: float | None) -> None:
        try:
            self._connection._check_fate(broken, request.verb, request.idempotent)
            request.reply = self._ask_alone(request, timeout)
        except (ManagerLost, Refused) as error:
            request.error = error

    def _ask_alone(self, request: _Request, timeout: float | None) -> list[Any]:
        ask = self._connection._ask_again
        return ask(request.verb, request.fields, timeout, request.idempotent)
