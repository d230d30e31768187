"""Sessions that wait for a container to change.

One thread waits for changes by other processes of this machine, while there are such sessions.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import StoreCorrupt

if TYPE_CHECKING:
    from garrison.manager.server._dispatch import ClientSession
    from garrison.net import EventLoop, Timer

__all__ = ["ChangeWaiters"]

MAX_WAITS = 1024
"""Waits of one session: its threads wait, and after each change every waited container is asked."""

LIVENESS_CHECK_INTERVAL_S = 0.5
"""Seconds that the thread waits at a time, and so outlives the server at most."""


@dataclass(eq=False)
class _PendingWait:
    peer: ClientSession
    request_id: int
    container_id: int
    seen: int
    timer: Timer | None = None


class ChangeWaiters:
    """Answers the sessions that wait for a container's change count to change."""

    def __init__(self, loop: EventLoop, backend: Any) -> None:
        self._loop = loop
        self._backend = backend
        self._waits: dict[int, dict[_PendingWait, None]] = {}
        """By container."""
        self._of: dict[Any, dict[int, _PendingWait]] = {}
        """By session and request."""
        self._watcher: threading.Thread | None = None
        self._wanted = threading.Event()
        self._over = False

    def wait(
        self,
        peer: ClientSession,
        request_id: int,
        container_id: int,
        seen: int,
        timeout: float | None,
    ) -> None:
        """Reply when the change count is not `seen` any more, or when the time is over."""
        if not request_id:
            raise ValueError("a wait without a number, of which any number could wait")
        if self._backend.change_count(container_id) != seen:
            peer.session.reply(request_id, True)
            return
        own = self._of.get(peer.session, {})
        if len(own) >= MAX_WAITS:
            raise ValueError(f"{MAX_WAITS} requests of this client wait for changes already")
        self._backend.metadata(container_id)  # or raise: there is no such container
        wait = _PendingWait(peer, request_id, container_id, seen)
        self._waits.setdefault(container_id, {})[wait] = None
        self._of.setdefault(peer.session, own)[request_id] = wait
        if timeout is not None:
            wait.timer = self._loop.call_later(max(0.0, timeout), self._answer, wait, False)
        self._watch()

    def _answer(self, wait: _PendingWait, changed: bool) -> None:
        waits = self._waits.get(wait.container_id, {})
        if wait not in waits:
            return
        del waits[wait]
        own = self._of[wait.peer.session]
        del own[wait.request_id]
        if not own:
            del self._of[wait.peer.session]
        if wait.timer is not None:
            wait.timer.cancel()
        if not waits:
            del self._waits[wait.container_id]
        if not self._waits:
            self._wanted.clear()
        if wait.peer.alive:
            wait.peer.session.reply(wait.request_id, changed)

    def notify_changed(self) -> None:
        """Answer the sessions whose container has changed."""
        for container_id, waits in list(self._waits.items()):
            now = self._backend.change_count(container_id)
            for wait in [each for each in waits if each.seen != now]:
                self._answer(wait, True)

    def _all(self) -> list[_PendingWait]:
        return [each for waits in self._waits.values() for each in waits]

    @property
    def count(self) -> int:
        """How many sessions wait."""
        return sum(len(waits) for waits in self._waits.values())

    def answer_all(self) -> None:
        """Answer all of them: the server stops."""
        for wait in self._all():
            self._answer(wait, True)

    def forget(self, peer: ClientSession, request_id: int | None = None) -> None:
        """Drop the waits of a session, or one of them."""
        own = self._of.get(peer.session, {})
        found = list(own.values()) if request_id is None else [own.get(request_id)]
        for wait in found:
            if wait is not None:
                self._answer(wait, False)

    # -- the thread -------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._wanted.set()
        if self._watcher is None:
            self._watcher = threading.Thread(
                target=self._watch_store, name="garrison changes", daemon=True
            )
            self._watcher.start()

    def _watch_store(self) -> None:
        while self._wanted.wait() and not self._over:
            with contextlib.suppress(StoreCorrupt):
                seen = self._backend.global_change_count()
                self._loop.call_soon_threadsafe(self.notify_changed)
                self._backend.wait_for_any_change(seen, LIVENESS_CHECK_INTERVAL_S)

    def close(self) -> None:
        """Let the thread end."""
        self._over = True
        self._wanted.set()
