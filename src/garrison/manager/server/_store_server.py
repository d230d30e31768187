"""A server with a store and locks."""

from __future__ import annotations

import os

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.server._server import Server
from garrison.net import format_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.net import EventLoop
    from garrison.store import LocalStore, ServerLock

__all__ = ["StoreServer"]


class StoreServer(Server):
    """A server with a store."""

    def __init__(
        self, *args: Any, store: LocalStore, server_lock: ServerLock | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.store = store
        self._server_lock = server_lock

    def run(self, parent: int | None = None, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until it is over."""
        try:
            super().run(parent, ready)
        finally:
            if self._server_lock is not None:
                self._server_lock.close()

    def _extra_services(self, loop: EventLoop) -> tuple[Any, ...]:
        # Late: a program that starts a server does not serve.
        from garrison.manager.server._lock_service import LockService
        from garrison.manager.server._store_service import StoreService

        self.store.ensure_current_process()
        if self._server_lock is not None:
            self._server_lock.write_owner(
                f"process {os.getpid()} at {format_address(self.address)}"
            )
        store = StoreService(loop, self.store, plain_only=not self.allow_pickle)
        return store, LockService(loop, self._first_fence())

    def _first_fence(self) -> int:
        """Return a fence larger than all that servers of this store have granted."""
        return (self.store.backend.new_owner() << 40) + 1
