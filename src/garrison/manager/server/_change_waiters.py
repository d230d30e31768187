"""Sessions that wait for a container to change, by whomever.

One thread waits for changes by processes of this machine, and only while somebody waits here.
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

__all__ = ["Bells"]

SLICE = 0.5
"""Seconds that the thread waits at a time: for so long it may outlive the server."""


@dataclass(eq=False)
class _Wait:
    peer: ClientSession
    rid: int
    c: int
    seen: int
    timer: Timer | None = None


class Bells:
    """Answers to those who wait for a container's bell to ring."""

    def __init__(self, loop: EventLoop, engine: Any) -> None:
        self._loop = loop
        self._engine = engine
        self._waits: dict[int, list[_Wait]] = {}
        self._watcher: threading.Thread | None = None
        self._wanted = threading.Event()
        self._over = False

    def wait(self, peer: ClientSession, rid: int, c: int, seen: int, timeout: float | None) -> None:
        """Reply when the bell's number is not `seen` any more, or when the time is over."""
        if self._engine.bell(c) != seen:
            peer.session.reply(rid, True)
            return
        wait = _Wait(peer, rid, c, seen)
        self._waits.setdefault(c, []).append(wait)
        if timeout is not None:
            wait.timer = self._loop.call_later(max(0.0, timeout), self._answer, wait, False)
        self._watch()

    def _answer(self, wait: _Wait, changed: bool) -> None:
        waits = self._waits.get(wait.c, [])
        if wait not in waits:
            return
        waits.remove(wait)
        if wait.timer is not None:
            wait.timer.cancel()
        if not waits:
            del self._waits[wait.c]
        if not self._waits:
            self._wanted.clear()
        if wait.peer.alive:
            wait.peer.session.reply(wait.rid, changed)

    def look(self) -> None:
        """Answer to those who wait for a change that has come."""
        for c, waits in list(self._waits.items()):
            now = self._engine.bell(c)
            for wait in [each for each in waits if each.seen != now]:
                self._answer(wait, True)

    def _all(self) -> list[_Wait]:
        return [each for waits in self._waits.values() for each in waits]

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._all())

    def answer_all(self) -> None:
        """Let all go on: the server stops."""
        for wait in self._all():
            self._answer(wait, True)

    def forget(self, peer: ClientSession, rid: int | None = None) -> None:
        """Let go of the waits of a session, or of one of them."""
        for wait in self._all():
            if wait.peer is peer and rid in {None, wait.rid}:
                self._answer(wait, False)

    # -- the thread -------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._wanted.set()
        if self._watcher is None:
            self._watcher = threading.Thread(
                target=self._watch_home, name="garrison bells", daemon=True
            )
            self._watcher.start()

    def _watch_home(self) -> None:
        while self._wanted.wait() and not self._over:
            with contextlib.suppress(StoreCorrupt):
                seen = self._engine.bell_global()
                self._loop.call_soon_threadsafe(self.look)
                self._engine.wait_global(seen, SLICE)

    def close(self) -> None:
        """Let the thread end."""
        self._over = True
        self._wanted.set()
