"""Who has signed for what in a server's store: clients, on whatever connection, and the dead."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, StoreBusy

if TYPE_CHECKING:
    from garrison.net import EventLoop
    from garrison.store._local_store import Home

__all__ = ["RETRY", "Guest", "Guests"]

EVERY = 1.0
"""Seconds between two looks at who has died."""
RETRY = 0.002
"""Seconds until a busy store is tried again."""
SWEPT = 1000
"""Records of what nobody wants that are freed at one look."""


@dataclass(eq=False)
class Guest:
    """A client: what it holds it holds under one signature, on however many connections."""

    owner: int
    visits: set[Any] = field(default_factory=set)
    is_new: bool = True
    """Whether it has not held anything yet."""

    def resume(self, view: Any, held: list[int]) -> None:
        """Hold what a client had before this server was started, or had forgotten it."""
        if self.is_new:
            for c in held:
                with contextlib.suppress(ContainerGone):
                    view.hold(c)
        self.is_new = False


class Guests:
    """The clients of a store, by name, and the processes of this machine, by signature."""

    def __init__(self, loop: EventLoop, home: Home) -> None:
        self._loop = loop
        self._home = home
        self._by_name: dict[bytes, Guest] = {}
        self._dead: dict[int, float] = {}
        self._graves: set[int] = set()
        self._condemned: set[int] = set()
        loop.call_later(EVERY, self._tidy)

    def come(self, name: bytes, visit: Any) -> tuple[bytes, Guest]:
        """Count a connection of a client; one without a name is a client of its own."""
        name = name or os.urandom(16)
        guest = self._by_name.get(name)
        if guest is None:
            guest = self._by_name[name] = Guest(self._home.sign_for_guest())
        guest.visits.add(visit)
        return name, guest

    def leave(self, name: bytes, guest: Guest, visit: Any) -> None:
        """A connection is gone; what its client holds is kept for a while after the last one."""
        guest.visits.discard(visit)
        if not guest.visits:
            self._loop.call_later(self._loop.limits.reconnect_grace_s, self._forget, name, guest)

    def _forget(self, name: bytes, guest: Guest) -> None:
        if guest.visits or self._by_name.get(name) is not guest:
            return
        try:
            self._home.engine.view(guest.owner, raw=True, wait=False).release_owner(guest.owner)
        except StoreBusy:
            self._loop.call_later(RETRY, self._forget, name, guest)
        else:
            del self._by_name[name]
            self._home.forget_guest(guest.owner)

    def _tidy(self) -> None:
        """Give back what the dead have claimed, then what they held; free what nobody holds."""
        self._loop.call_later(EVERY, self._tidy)
        view = self._home.engine.view(0, raw=True, wait=False)
        with contextlib.suppress(StoreBusy):
            for owner in view.owners():
                self._look_at(view, owner)
            graves = set(view.graves())
            # What is buried is kept from one look to the next: a forked child needs a moment to
            # say that it has it.
            is_sweeping = bool(self._condemned)
            self._condemned |= graves & self._graves
            self._graves = graves
            if not is_sweeping:
                self._sweep()

    def _sweep(self) -> None:
        """Free containers, a little at a time: clients are served in between."""
        if not self._condemned:
            return
        view = self._home.engine.view(0, raw=True, wait=False)
        with contextlib.suppress(StoreBusy):
            view.sweep(SWEPT, list(self._condemned))
            self._condemned &= set(view.graves())
        self._loop.call_later(RETRY, self._sweep)

    def _look_at(self, view: Any, owner: int) -> None:
        now = time.monotonic()
        if self._home.is_alive(owner):
            self._dead.pop(owner, None)
        elif owner not in self._dead:
            view.release_claims(owner)
            self._dead[owner] = now
        elif now - self._dead[owner] > self._loop.limits.reconnect_grace_s:
            view.release_owner(owner)
            del self._dead[owner]
