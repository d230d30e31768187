"""How many workers start on which node. Decides, and does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Needs", "Place", "Plan", "shares"]


class Needs(NamedTuple):
    """What workers take.

    Parameters
    ----------
    worker : mapping of str to float
        Resources of one worker: ``{"CPU": 1, "GPU": 0.5}``.
    most : int or None
        Workers of a node, at most.
    """

    worker: Mapping[str, float]
    most: int | None = None

    def room(self, free: Mapping[str, float]) -> int:
        """Return how many workers fit into free resources."""
        counts = [int(free.get(name, 0.0) / each) for name, each in self.worker.items() if each]
        if self.most is not None:
            counts.append(self.most)
        return min(counts, default=1)

    def of(self, workers: int) -> dict[str, float]:
        """Return the resources of so many workers."""
        return {name: each * workers for name, each in self.worker.items()}


class Place(NamedTuple):
    """Where one agent may be.

    Parameters
    ----------
    key : str
        Ray's id of the node, or the number of a bundle.
    host : str
        For people.
    free : mapping of str to float
        Resources that nothing uses.
    bundle : int
        The bundle of a placement group, or -1.
    """

    key: str
    host: str
    free: Mapping[str, float]
    bundle: int = -1


def shares(asked: int | None, rooms: Mapping[str, int]) -> dict[str, int]:
    """Spread workers over places by their room, and leave out those that get none.

    Parameters
    ----------
    asked : int or None
        Workers in all; None for as many as there is room for.
    rooms : mapping of str to int
        Room for workers, by place.

    Examples
    --------
    >>> shares(4, {"a": 8, "b": 8, "c": 4})
    {'a': 2, 'b': 1, 'c': 1}
    >>> shares(None, {"a": 8, "b": 0})
    {'a': 8}
    """
    total = sum(rooms.values())
    if asked is None or asked >= total:
        return {key: room for key, room in rooms.items() if room > 0}
    found = {key: asked * room // total for key, room in rooms.items()}
    # The rest goes to those whose share was cut most.
    cut = sorted(rooms, key=lambda key: asked * rooms[key] % total, reverse=True)
    for key in cut[: asked - sum(found.values())]:
        found[key] += 1
    return {key: workers for key, workers in found.items() if workers}


class Plan:
    """The agents of a pool: started, or being started.

    Parameters
    ----------
    asked : int or None
        Workers of the pool; None for as many as there is room for.
    needs : Needs
        What they take.
    """

    def __init__(self, asked: int | None, needs: Needs) -> None:
        self.asked, self.needs = asked, needs
        self.taken: dict[str, int] = {}
        """Workers by place."""
        self._shunned: dict[str, float] = {}
        self._given_back = 0
        self._demand: int | None = None

    @property
    def workers(self) -> int:
        """Workers in all."""
        return sum(self.taken.values())

    @property
    def missing(self) -> int | None:
        """Workers to start if there is room; None for any number."""
        if self._given_back and self._demand is not None and self._demand <= self.workers:
            return 0
        return None if self.asked is None else max(0, self.asked - self.workers)

    def starts(self, places: list[Place], now: float) -> list[tuple[Place, int]]:
        """Take places, and return them with their workers.

        A place has one agent. Ray may take half a minute to notice that a node is gone, and shows
        it as free until then: such a place is left out for as long as `shun` said.
        """
        free = {
            place.key: place
            for place in places
            if place.key not in self.taken and self._shunned.get(place.key, now) <= now
        }
        rooms = {key: self.needs.room(place.free) for key, place in free.items()}
        found = shares(self.missing, rooms)
        self.taken.update(found)
        return [(free[key], workers) for key, workers in found.items()]

    def ended(self, key: str, shun_until: float = 0.0) -> None:
        """Free a place: its agent is gone, or did not start."""
        self.taken.pop(key, None)
        self._shunned[key] = shun_until

    def gave_back(self, key: str) -> None:
        """Free a place that the driver does not need: no other agent starts until it needs more."""
        self._given_back += self.taken.pop(key, 0)

    def demanded(self, tasks: int) -> int:
        """Note how many tasks there are, and return the workers to hint at."""
        self._demand = tasks
        if tasks > self.workers:
            self._given_back = 0
        wanted = tasks if self.asked is None else min(tasks, self.asked)
        # A million tasks are no reason to ask for a million processors at once.
        return min(wanted, 2 * self.workers + MOST_AT_ONCE) if tasks else 0


MOST_AT_ONCE = 16
"""Workers by which a hint exceeds twice those that there are."""
