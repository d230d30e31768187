"""Iteration over a container of a store on another machine."""

from __future__ import annotations

from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ManagerLost
from garrison.net import RemoteFailure, Verb, format_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.client._remote_backend import RemoteBackend

__all__ = ["RemoteScan"]

BATCH = 512
"""Entries that come in one answer."""


class RemoteScan:
    """The entries of a container as they were when the scan began; the server keeps that state."""

    def __init__(self, backend: RemoteBackend, container_id: int, what: str, reverse: bool) -> None:
        values = backend.values
        self._decode: Callable[[Any], Any]
        self._decode = values.decode_pair if what == "items" else values.decode
        # The server keeps the state for one connection.
        self._connection, _, self._check = backend.route()
        self._error = backend.error
        self._generation = 0
        self._number, first = self._ask("scan", container_id, what, reverse, BATCH, idempotent=True)
        self._generation = self._connection.generation
        self._ahead = deque(first)
        self._over = len(first) < BATCH

    def _ask(self, name: str, *fields: Any, idempotent: bool = False) -> Any:
        try:
            return self._connection.ask(
                Verb.STORE, name, *fields, idempotent=idempotent, check=self._check_connection
            )
        except RemoteFailure as failure:
            raise self._error(failure) from None

    def _check_connection(self) -> None:
        self._check()
        if self._generation and self._connection.generation != self._generation:
            where = format_address(self._connection.address)
            raise ManagerLost(
                f"the connection to {where} was lost in the middle of an iteration: begin it again"
            )

    def next(self, count: int) -> list[Any]:
        """Return the next entries; none if it is over."""
        while len(self._ahead) < count and not self._over:
            (more,) = self._ask("scan_next", self._number, BATCH)
            self._over = len(more) < BATCH
            self._ahead.extend(more)
        taken = min(count, len(self._ahead))
        return [self._decode(self._ahead.popleft()) for _ in range(taken)]

    def close(self) -> None:
        """Let the server drop the state. This does not wait: a finalizer calls it."""
        if not self._over:
            self._over = True
            self._ahead.clear()
            if self._connection.generation == self._generation:
                self._connection.send_oneway(Verb.STORE, "scan_close", self._number)

    def __iter__(self) -> RemoteScan:
        return self

    def __next__(self) -> Any:
        found = self.next(1)
        if not found:
            raise StopIteration
        return found[0]

    def __del__(self) -> None:
        try:  # noqa: SIM105 - at the end of an interpreter this module may be empty already
            self.close()
        except Exception:  # noqa: S110
            pass
