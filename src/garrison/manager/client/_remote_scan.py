"""An iteration over a store on another machine."""

from __future__ import annotations

from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ManagerLost
from garrison.net import RemoteFailure, Verb, format_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.client._remote_backend import FarEngine

__all__ = ["FarScan"]

STORE = Verb.STORE
BATCH = 512
"""Entries of an iteration that come in one answer."""


class FarScan:
    """An iteration over a state of a container, which the server keeps."""

    def __init__(self, engine: FarEngine, c: int, what: str, reverse: bool) -> None:
        coding = engine.coding
        self._decode: Callable[[Any], Any] = coding.pair if what == "items" else coding.value
        # What goes on must go on there: the state is kept for one connection.
        self._connection, _, self._check = engine.way()
        self._error = engine.error
        self._links = 0
        self._number, first = self._ask("scan", c, what, reverse, BATCH, idempotent=True)
        self._links = self._connection.generation
        self._ahead = deque(first)
        self._over = len(first) < BATCH

    def _ask(self, name: str, *fields: Any, idempotent: bool = False) -> Any:
        try:
            return self._connection.ask(
                STORE, name, *fields, idempotent=idempotent, check=self._check_way
            )
        except RemoteFailure as refusal:
            raise self._error(refusal) from None

    def _check_way(self) -> None:
        self._check()
        if self._links and self._connection.generation != self._links:
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
        """Let the server forget it. It does not wait, so that a finalizer may do it."""
        if not self._over:
            self._over = True
            self._ahead.clear()
            if self._connection.generation == self._links:
                self._connection.send_oneway(STORE, "scan_close", self._number)

    def __iter__(self) -> FarScan:
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
