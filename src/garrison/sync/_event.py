"""`Event`."""

from __future__ import annotations

from typing import Any

from garrison import _core
from garrison.memory import Spot

__all__ = ["Event"]

SIZE = 4


class Event:
    """A flag that processes wait for.

    As `multiprocessing.Event`. It is one word in shared memory: setting it takes no lock, so that a
    signal handler may do it while it interrupts a wait for the same event, and nobody who dies at
    whatever moment leaves it half set.

    Examples
    --------
    >>> from garrison import Event
    >>> event = Event()
    >>> event.wait(0.01)
    False
    >>> event.set()
    >>> event.wait()
    True
    """

    __slots__ = ("__weakref__", "_spot", "clear", "is_set", "set", "wait")

    def __init__(self, *, ctx: Any = None) -> None:
        self._settle(Spot(SIZE))

    def _settle(self, spot: Spot) -> None:
        core = _core.Event(spot)
        self._spot = spot
        self.is_set, self.set, self.clear, self.wait = core.is_set, core.set, core.clear, core.wait

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._spot,)

    def __repr__(self) -> str:
        return f"<Event at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


def _rebuild(spot: Spot) -> Event:
    event = Event.__new__(Event)
    event._settle(spot)
    return event
