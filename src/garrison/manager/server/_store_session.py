"""What a session has of a store, and how answers and mistakes are told to it."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, ShutDown, StoreFull, TransactionFailed, WrongKind
from garrison.manager._remote_errors import REMOTE
from garrison.manager.server._store_clients import Guest

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.server._dispatch import ClientSession

__all__ = ["ENDED", "NONE", "OPEN", "READ", "Visit", "listed", "told"]

log = logging.getLogger("garrison.manager")

CLAIMS = 64
"""Claims that are remembered, in case that nobody has heard of them."""
NONE, OPEN, ENDED = range(3)
"""A session's transaction: ended is one that the server has undone and the client does not know."""


@dataclass(eq=False)
class Visit:
    """What a session has of the store."""

    peer: ClientSession
    owner: int
    view: Any
    name: bytes = b""
    guest: Guest = field(default_factory=lambda: Guest(0))
    waiting: deque[tuple[int, list[Any]]] = field(default_factory=deque)
    batch: list[tuple[int, list[Any]]] | None = None
    calls: dict[str, tuple[Any, int, list[Any]]] = field(default_factory=dict)
    scans: dict[int, Any] = field(default_factory=dict)
    last_scan: int = 0
    claims: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=CLAIMS))
    """Number of the request, container, ticket."""
    transaction: int = NONE
    touched: float = 0.0
    is_watched: bool = False
    late: int = 0
    """The request to begin a transaction that has a time limit running."""


READ: dict[str, Callable[[Any], Any]] = {
    "k": tuple,
    "P": lambda pairs: [(tuple(key), value) for key, value in pairs],
}
"""How arguments are read that are not as they came, by their letters in the table."""


def listed(value: Any) -> Any:
    """Return an answer as it is sent."""
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (tuple, list)):
        return [listed(each) for each in value]
    return value


_TOLD: tuple[type[Exception], ...] = (
    *(KeyError, IndexError, ContainerGone, WrongKind, StoreFull, TransactionFailed),
    *(TimeoutError, TypeError, ValueError, LookupError, ShutDown),
)


def told(error: BaseException) -> tuple[str, str, bytes]:
    """Return kind and text of what went wrong; the client has the same kinds."""
    for kind in _TOLD:
        if isinstance(error, kind):
            return kind.__name__, str(error.args[0] if error.args else ""), b""
    log.error("an operation has failed", exc_info=error)
    return REMOTE, f"{type(error).__name__}: {error}", b""
