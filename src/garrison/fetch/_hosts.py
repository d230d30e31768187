"""How much is asked of one host, and when. It does no I/O.

A host has a limit if the user gives one, or once it has said 429 or 503: then it is left alone for
a while, and afterwards asked half as much at once as when it said so.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Hosts"]

_NO_LIMIT = 1 << 31


class Hosts:
    """The hosts of a run.

    Parameters
    ----------
    limit
        The most transfers at once from each; None: as many as there may be.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = _NO_LIMIT if limit is None else limit
        self._limits: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._parked: dict[str, deque[int]] = {}
        self._rests_until: dict[str, float] = {}

    def rests_until(self, host: str, now: float) -> float | None:
        """Return until when a host is left alone; None if it is not."""
        until = self._rests_until.get(host) if self._rests_until else None
        return until if until is not None and until > now else None

    def has_room(self, host: str) -> bool:
        """Whether one more transfer may begin."""
        return self._running.get(host, 0) < self._limit_of(host)

    def park(self, host: str, site: int) -> None:
        """Keep a site until a transfer from its host has ended."""
        self._parked.setdefault(host, deque()).append(site)

    def begin(self, host: str) -> None:
        """Count a transfer."""
        self._running[host] = self._running.get(host, 0) + 1

    def end(self, host: str) -> list[int]:
        """Count a transfer no more; return the parked sites for which there is room now."""
        self._running[host] -= 1
        parked = self._parked.get(host)
        if not parked:
            return []
        room = self._limit_of(host) - self._running[host]
        return [parked.popleft() for _ in range(min(room, len(parked)))]

    def rest(self, host: str, now: float, until: float) -> None:
        """Leave a host alone for a while; a transfer of it has just ended."""
        if self.rests_until(host, now) is None:
            self._limits[host] = max(1, (self._running.get(host, 0) + 1) // 2)
        self._rests_until[host] = max(until, self._rests_until.get(host, until))

    def _limit_of(self, host: str) -> int:
        return self._limits.get(host, self._limit)

    def take_parked(self) -> list[int]:
        """Return all parked sites, for good."""
        parked = [site for sites in self._parked.values() for site in sites]
        self._parked.clear()
        return parked
