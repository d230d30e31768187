"""The owners of references in a server's store: remote clients, and processes that have died."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, StoreBusy

if TYPE_CHECKING:
    from garrison.net import EventLoop
    from garrison.store import LocalStore

__all__ = ["RETRY_S", "StoreClient", "StoreClients"]

CHECK_INTERVAL_S = 1.0
"""Seconds between two checks which owners have died."""
RETRY_S = 0.002
"""Seconds until a busy store is tried again."""
COLLECT_BATCH = 1000
"""Records of garbage that are freed in one step."""


@dataclass(eq=False)
class StoreClient:
    """A client: one owner of references, on any number of connections."""

    owner: int
    sessions: set[Any] = field(default_factory=set)
    is_new: bool = True
    """Whether it has had no reference yet."""

    def resume(self, backend: Any, container_ids: list[int]) -> None:
        """Take the references that a client had before the server was started or had dropped it."""
        if self.is_new:
            for container_id in container_ids:
                with contextlib.suppress(ContainerGone):
                    backend.acquire_ref(container_id)
        self.is_new = False


class StoreClients:
    """The clients of a store by name, and the processes of this machine by owner's id."""

    def __init__(self, loop: EventLoop, store: LocalStore) -> None:
        self._loop = loop
        self._store = store
        self._by_name: dict[bytes, StoreClient] = {}
        self._dead: dict[int, float] = {}
        self._garbage: set[int] = set()
        self._to_collect: set[int] = set()
        loop.call_later(CHECK_INTERVAL_S, self._reap_dead_clients)

    def connected(self, name: bytes, session: Any) -> tuple[bytes, StoreClient]:
        """Add a connection to its client; one without a name is a client of its own."""
        name = name or os.urandom(16)
        client = self._by_name.get(name)
        if client is None:
            client = self._by_name[name] = StoreClient(self._store.new_client_id())
        client.sessions.add(session)
        return name, client

    def disconnected(self, name: bytes, client: StoreClient, session: Any) -> None:
        """Remove a connection; after the last one the references are kept for a while."""
        client.sessions.discard(session)
        if not client.sessions:
            self._loop.call_later(self._loop.limits.reconnect_grace_s, self._forget, name, client)

    def _forget(self, name: bytes, client: StoreClient) -> None:
        if client.sessions or self._by_name.get(name) is not client:
            return
        try:
            backend = self._store.backend.session(client.owner, encoded=True, blocking=False)
            backend.release_owner(client.owner)
        except StoreBusy:
            self._loop.call_later(RETRY_S, self._forget, name, client)
        else:
            del self._by_name[name]
            self._store.drop_client_id(client.owner)

    def _reap_dead_clients(self) -> None:
        """Return the claims of dead owners, later release their references; collect garbage."""
        self._loop.call_later(CHECK_INTERVAL_S, self._reap_dead_clients)
        backend = self._store.backend.session(0, encoded=True, blocking=False)
        with contextlib.suppress(StoreBusy):
            for owner in backend.owners():
                self._check_owner(backend, owner)
            garbage = set(backend.garbage())
            # Garbage is kept from one check to the next: a forked child needs a moment to take its
            # references.
            is_collecting = bool(self._to_collect)
            self._to_collect |= garbage & self._garbage
            self._garbage = garbage
            if not is_collecting:
                self._collect_garbage()

    def _collect_garbage(self) -> None:
        """Free containers, a little at a time: clients are served in between."""
        if not self._to_collect:
            return
        backend = self._store.backend.session(0, encoded=True, blocking=False)
        with contextlib.suppress(StoreBusy):
            # Each has a record at least, so more are not freed in one step.
            batch = list(itertools.islice(self._to_collect, COLLECT_BATCH))
            if backend.collect_garbage(COLLECT_BATCH, batch) == 0:
                self._to_collect.difference_update(batch)
        self._loop.call_later(RETRY_S, self._collect_garbage)

    def _check_owner(self, backend: Any, owner: int) -> None:
        now = time.monotonic()
        if self._store.is_alive(owner):
            self._dead.pop(owner, None)
        elif owner not in self._dead:
            backend.release_claims(owner)
            self._dead[owner] = now
        elif now - self._dead[owner] > self._loop.limits.reconnect_grace_s:
            backend.release_owner(owner)
            del self._dead[owner]
