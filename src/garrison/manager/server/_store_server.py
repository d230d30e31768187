"""A server that has a store, and lends locks."""

from __future__ import annotations

import os

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.server._lock_service import LockService
from garrison.manager.server._server import Server
from garrison.manager.server._store_service import StorePart
from garrison.net import format_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.net import EventLoop
    from garrison.store._local_store import Home, Tenancy

__all__ = ["StoreServer"]


class StoreServer(Server):
    """A server that has a store."""

    def __init__(
        self, *args: Any, home: Home, tenancy: Tenancy | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.home = home
        self._tenancy = tenancy

    def run(self, parent: int | None = None, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until it is over."""
        try:
            super().run(parent, ready)
        finally:
            if self._tenancy is not None:
                self._tenancy.close()

    def _extra_services(self, loop: EventLoop) -> tuple[Any, ...]:
        self.home.here()
        if self._tenancy is not None:
            self._tenancy.say(f"process {os.getpid()} at {format_address(self.address)}")
        return StorePart(loop, self.home), LockService(loop, self._first_number())

    def _first_number(self) -> int:
        """Begin beyond all numbers that a server of this store has given to loans."""
        return (self.home.engine.new_owner() << 40) + 1
