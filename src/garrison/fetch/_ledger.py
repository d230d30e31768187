"""Which lane has which site, and what happens to a site next. It does no I/O.

::

                 take()                      settle(): a page, or a reason for good
    waiting ──────────────▶ out, with a lane ─────────────────────────────────────▶ done
       ▲                        │   │
       │   next scheme          │   │  lose(): the lane died
       ├────────────────────────┘   ├─▶ waiting again; the second time a suspect,
       │   delayed: try again later │   which goes out alone, so that a site that
       └──────────────◀─────────────┘   kills its lane takes no others with it
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

from garrison.fetch._messages import Job, Outcome, Settings
from garrison.fetch._sites import Site

DEATHS_IN_COMPANY = 1
DEATHS_ALONE = 3
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_LONGEST_CONNECT = 10.0
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNRESOLVED = frozenset({5, 6})
# What another scheme would not better, or would only hide: no such host, or a host
# that cannot prove who it is.
_FOR_EVERY_SCHEME = _UNRESOLVED | {51, 60}
# libcurl's numbers for what may go better another time: unresolved, unreachable,
# cut off, too slow, TLS that fell over, a protocol error of HTTP/2.
_PASSING = _UNRESOLVED | {7, 8, 16, 18, 28, 35, 52, 55, 56, 92}


@dataclass(slots=True)
class _Entry:
    site: Site
    scheme: int = 0
    tries: int = 0
    deaths: int = 0
    seconds: float = 0.0
    earlier: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """What became of one site."""

    site: Site
    outcome: Outcome
    tries: int
    kept: bool = False

    @property
    def fetched(self) -> bool:
        """Whether its page is there."""
        return not self.outcome.reason


class Ledger:
    """The state of a run.

    Parameters
    ----------
    sites
        What to fetch, by number.
    settings
        Time-outs and retries.
    lanes
        Among how many lanes a short list is shared.
    """

    def __init__(self, sites: dict[int, Site], settings: Settings, lanes: int) -> None:
        self._settings = settings
        self._lanes = lanes
        self._entries = {index: _Entry(site) for index, site in sites.items()}
        self._waiting = deque(sites)
        self._suspects: deque[int] = deque()
        self._delayed: list[tuple[float, int]] = []
        self._out: dict[int, set[int]] = {}
        self._left = len(sites)

    @property
    def left(self) -> int:
        """How many sites are not done."""
        return self._left

    @property
    def ready(self) -> int:
        """How many sites a lane could take now."""
        return len(self._waiting) + len(self._suspects)

    def held(self, lane: int) -> int:
        """Return how many sites a lane has."""
        return len(self._out.get(lane, ()))

    def pause(self, now: float) -> float | None:
        """Return the seconds until a delayed site is due; None when none is delayed."""
        return max(0.0, self._delayed[0][0] - now) if self._delayed else None

    def wake(self, now: float) -> None:
        """Let the delayed sites that are due wait for a lane."""
        while self._delayed and self._delayed[0][0] <= now:
            self._waiting.append(heapq.heappop(self._delayed)[1])

    def take(self, lane: int) -> list[Job]:
        """Give a lane what it has room for, and no more than its share."""
        held = self._out.setdefault(lane, set())
        if self._suspects and not held:
            return [self._hand(self._suspects.popleft(), held)]
        if any(self._entries[index].deaths > DEATHS_IN_COMPANY for index in held):
            return []
        everywhere = len(self._waiting) + sum(map(len, self._out.values()))
        share = -(-everywhere // self._lanes)
        room = min(self._settings.per_worker, share) - len(held)
        room = min(room, len(self._waiting))
        return [self._hand(self._waiting.popleft(), held) for _ in range(room)]

    def settle(self, lane: int, outcome: Outcome, now: float) -> Page | None:
        """Enter how a transfer ended; return the site's page when that is final."""
        self._out[lane].remove(outcome.site)
        entry = self._entries[outcome.site]
        entry.seconds += outcome.seconds
        if outcome.reason and self._falls_back(entry, outcome):
            self._waiting.appendleft(outcome.site)
            return None
        if outcome.reason and self._may_pass(entry, outcome):
            entry.scheme = 0
            entry.earlier.clear()
            heapq.heappush(self._delayed, (now + _pause(entry, outcome), outcome.site))
            return None
        return self._finish(entry, outcome)

    def lose(self, lane: int, why: str) -> list[Page]:
        """Enter a lane's death; return the sites that are given up for it."""
        pages = []
        for index in sorted(self._out.pop(lane, ())):
            entry = self._entries[index]
            entry.deaths += 1
            entry.tries -= not entry.earlier
            if entry.deaths > DEATHS_IN_COMPANY + DEATHS_ALONE:
                pages.append(self._give_up(index, why))
            elif entry.deaths > DEATHS_IN_COMPANY:
                self._suspects.append(index)
            else:
                self._waiting.appendleft(index)
        return pages

    def abandon(self, why: str) -> list[Page]:
        """Give up every site that no lane has."""
        indexes = [*self._suspects, *self._waiting, *(index for _, index in self._delayed)]
        self._suspects.clear()
        self._waiting.clear()
        self._delayed.clear()
        return [self._give_up(index, why) for index in sorted(indexes)]

    def _hand(self, index: int, held: set[int]) -> Job:
        held.add(index)
        entry = self._entries[index]
        entry.tries += not entry.earlier
        schemes = entry.site.schemes
        longest = self._settings.timeout
        connect = longest
        if entry.scheme + 1 < len(schemes):
            connect = min(longest / 2, _LONGEST_CONNECT)
        return Job(index, entry.site.url(schemes[entry.scheme]), longest, connect)

    def _falls_back(self, entry: _Entry, outcome: Outcome) -> bool:
        """Turn to the next scheme, where no server was reached by this one."""
        last = entry.scheme + 1 == len(entry.site.schemes)
        if last or outcome.linked or outcome.status or outcome.code in _FOR_EVERY_SCHEME:
            return False
        entry.earlier.append(f"{entry.site.schemes[entry.scheme]}: {outcome.reason}")
        entry.scheme += 1
        return True

    def _may_pass(self, entry: _Entry, outcome: Outcome) -> bool:
        passing = outcome.code in _PASSING or (not outcome.code and outcome.status in _BUSY)
        return passing and entry.tries <= self._settings.retries

    def _finish(self, entry: _Entry, outcome: Outcome) -> Page:
        self._left -= 1
        reason = outcome.reason
        if reason and entry.earlier:
            scheme = entry.site.schemes[entry.scheme]
            reason = "; ".join([*entry.earlier, f"{scheme}: {reason}"])
        return Page(entry.site, outcome._replace(reason=reason, seconds=entry.seconds), entry.tries)

    def _give_up(self, index: int, why: str) -> Page:
        entry = self._entries[index]
        url = entry.site.url(entry.site.schemes[entry.scheme])
        return self._finish(entry, failure(index, url, why))


def failure(site: int, url: str, reason: str) -> Outcome:
    """Make the outcome of a site that no transfer can tell about."""
    return Outcome(site, "", url, 0, "", 0, 0.0, "", 0, 0, reason, linked=False, retry_after=0)


def _pause(entry: _Entry, outcome: Outcome) -> float:
    """Wait twice as long each time, and as long as the server asks, within reason."""
    wanted = max(_FIRST_PAUSE * 2.0 ** (entry.tries - 1), outcome.retry_after)
    return float(min(wanted, _LONGEST_PAUSE))
