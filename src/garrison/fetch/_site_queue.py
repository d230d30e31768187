"""Which lane has which site, and what happens to a site next. It does no I/O.

::

               take_jobs()                  record(): a page, or a final reason
    waiting ──────────────▶ assigned to a lane ───────────────────────────────▶ done
       ▲                        │   │
       │   next scheme          │   │  record_lane_death()
       ├────────────────────────┘   ├─▶ waiting again; the second time a suspect,
       │   delayed: try again later │   which is assigned alone, so that a site
       └──────────────◀─────────────┘   that kills its lane takes no others along

A site whose host is asked for enough already is parked until a transfer from there has ended; one
whose host has asked for a pause is delayed until it is over.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

from garrison.fetch._hosts import Hosts
from garrison.fetch._masking import mask_url
from garrison.fetch._messages import Job, Outcome, Settings
from garrison.fetch._sites import Site

MAX_SHARED_DEATHS = 1
MAX_LONE_DEATHS = 3
_FIRST_DELAY_S = 0.5
MAX_DELAY_S = 60.0
"""The longest that a host may ask to be left alone; beyond it its sites fail."""
_MAX_CONNECT_S = 10.0
_TOO_MUCH = frozenset({429, 503})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNRESOLVED = frozenset({5, 6})
# Errors that another scheme would not mend, or would only hide: no such host, or a host that cannot
# prove its identity.
_SAME_FOR_EVERY_SCHEME = _UNRESOLVED | {51, 60}
# libcurl's numbers for what may go better another time: unresolved, unreachable,
# cut off, too slow, TLS that fell over, a protocol error of HTTP/2.
_TRANSIENT = _UNRESOLVED | {7, 8, 16, 18, 28, 35, 52, 55, 56, 92}


@dataclass(slots=True)
class _Entry:
    site: Site
    host: str
    scheme: int = 0
    attempts: int = 0
    deaths: int = 0
    seconds: float = 0.0
    earlier: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """What became of one site."""

    site: Site
    outcome: Outcome
    attempts: int
    from_earlier_run: bool = False

    @property
    def fetched(self) -> bool:
        """Whether its page is there."""
        return not self.outcome.reason


class SiteQueue:
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
        self._entries = {index: _Entry(site, site.host) for index, site in sites.items()}
        self._waiting = deque(sites)
        self._suspects: deque[int] = deque()
        self._delayed: list[tuple[float, int]] = []
        self._assigned: dict[int, set[int]] = {}
        self._remaining = len(sites)
        self._hosts = Hosts(settings.per_host)
        self._now = 0.0

    @property
    def remaining(self) -> int:
        """How many sites are not done."""
        return self._remaining

    @property
    def ready(self) -> int:
        """How many sites a lane could take now."""
        return len(self._waiting) + len(self._suspects)

    def count_held(self, lane: int) -> int:
        """Return how many sites a lane has."""
        return len(self._assigned.get(lane, ()))

    def seconds_until_retry(self, now: float) -> float | None:
        """Return the seconds until a delayed site is due; None when none is delayed."""
        return max(0.0, self._delayed[0][0] - now) if self._delayed else None

    def release_due(self, now: float) -> None:
        """Let the delayed sites that are due wait for a lane."""
        self._now = now
        while self._delayed and self._delayed[0][0] <= now:
            self._waiting.append(heapq.heappop(self._delayed)[1])

    def take_jobs(self, lane: int) -> list[Job]:
        """Give a lane what it has room for, and no more than its share."""
        held = self._assigned.setdefault(lane, set())
        if self._suspects and not held:
            return [self._assign(self._suspects.popleft(), held)]
        if any(self._entries[index].deaths > MAX_SHARED_DEATHS for index in held):
            return []
        everywhere = len(self._waiting) + sum(map(len, self._assigned.values()))
        share = -(-everywhere // self._lanes)
        room = min(self._settings.per_worker, share) - len(held)
        jobs: list[Job] = []
        while self._waiting and len(jobs) < room:
            index = self._waiting.popleft()
            if self._may_begin(index):
                jobs.append(self._assign(index, held))
        return jobs

    def _may_begin(self, index: int) -> bool:
        """Whether a site's host can be asked now; if not, the site waits for that."""
        host = self._entries[index].host
        until = self._hosts.rests_until(host, self._now)
        if until is not None:
            heapq.heappush(self._delayed, (until, index))
        elif not self._hosts.has_room(host):
            self._hosts.park(host, index)
        else:
            return True
        return False

    def _release(self, lane: int, index: int) -> None:
        """Take a site from its lane; others of its host may have room now."""
        self._assigned[lane].remove(index)
        self._end_transfer(index)

    def _end_transfer(self, index: int) -> None:
        for site in reversed(self._hosts.end(self._entries[index].host)):
            self._waiting.appendleft(site)

    def record(self, lane: int, outcome: Outcome, now: float) -> Page | None:
        """Enter how a transfer ended; return the site's page when that is final."""
        self._release(lane, outcome.site)
        entry = self._entries[outcome.site]
        entry.seconds += outcome.seconds
        if not outcome.reason:
            return self._finish(entry, outcome)
        if self._try_next_scheme(entry, outcome):
            self._waiting.appendleft(outcome.site)
            return None
        return self._retry_later(entry, outcome, now)

    def _retry_later(self, entry: _Entry, outcome: Outcome, now: float) -> Page | None:
        """Delay a site whose transfer may go better later; return the page of any other."""
        delay = _retry_delay(entry, outcome)
        if not outcome.code and outcome.status in _TOO_MUCH:
            self._hosts.rest(entry.host, now, now + min(delay, MAX_DELAY_S))
        if self._is_retryable(entry, outcome):
            if delay <= MAX_DELAY_S:
                entry.scheme = 0
                entry.earlier.clear()
                heapq.heappush(self._delayed, (now + delay, outcome.site))
                return None
            reason = f"{outcome.reason}; it asks to be left alone for {outcome.retry_after} s"
            outcome = outcome._replace(reason=reason)
        return self._finish(entry, outcome)

    def record_lane_death(self, lane: int, why: str) -> list[Page]:
        """Enter a lane's death; return the sites that are given up for it."""
        pages = []
        for index in sorted(self._assigned.pop(lane, ())):
            self._end_transfer(index)
            entry = self._entries[index]
            entry.deaths += 1
            entry.attempts -= not entry.earlier
            if entry.deaths > MAX_SHARED_DEATHS + MAX_LONE_DEATHS:
                pages.append(self._give_up(index, why))
            elif entry.deaths > MAX_SHARED_DEATHS:
                self._suspects.append(index)
            else:
                self._waiting.appendleft(index)
        return pages

    def take_back(self, lane: int, sites: list[int]) -> None:
        """Let sites wait again that a lane has not begun."""
        for index in reversed(sites):
            self._release(lane, index)
            entry = self._entries[index]
            entry.attempts -= not entry.earlier
            self._waiting.appendleft(index)

    def give_up_waiting(self, why: str) -> list[Page]:
        """Give up every site that no lane has."""
        parked = self._hosts.take_parked()
        delayed = [index for _, index in self._delayed]
        indexes = [*self._suspects, *self._waiting, *delayed, *parked]
        self._suspects.clear()
        self._waiting.clear()
        self._delayed.clear()
        return [self._give_up(index, why) for index in sorted(indexes)]

    def _assign(self, index: int, held: set[int]) -> Job:
        held.add(index)
        entry = self._entries[index]
        self._hosts.begin(entry.host)
        entry.attempts += not entry.earlier
        schemes = entry.site.schemes
        longest = self._settings.timeout
        connect = longest
        if entry.scheme + 1 < len(schemes):
            connect = min(longest / 2, _MAX_CONNECT_S)
        return Job(index, entry.site.url(schemes[entry.scheme]), longest, connect)

    def _try_next_scheme(self, entry: _Entry, outcome: Outcome) -> bool:
        """Turn to the next scheme, where no server was reached by this one."""
        last = entry.scheme + 1 == len(entry.site.schemes)
        if last or outcome.linked or outcome.status or outcome.code in _SAME_FOR_EVERY_SCHEME:
            return False
        entry.earlier.append(f"{entry.site.schemes[entry.scheme]}: {outcome.reason}")
        entry.scheme += 1
        return True

    def _is_retryable(self, entry: _Entry, outcome: Outcome) -> bool:
        transient = outcome.code in _TRANSIENT or (not outcome.code and outcome.status in _BUSY)
        return transient and entry.attempts <= self._settings.retries

    def _finish(self, entry: _Entry, outcome: Outcome) -> Page:
        self._remaining -= 1
        reason = outcome.reason
        if reason and entry.earlier:
            scheme = entry.site.schemes[entry.scheme]
            reason = "; ".join([*entry.earlier, f"{scheme}: {reason}"])
        return Page(
            entry.site, outcome._replace(reason=reason, seconds=entry.seconds), entry.attempts
        )

    def _give_up(self, index: int, why: str) -> Page:
        entry = self._entries[index]
        url = entry.site.url(entry.site.schemes[entry.scheme])
        return self._finish(entry, failure(index, mask_url(url), why))


def failure(site: int, url: str, reason: str) -> Outcome:
    """Make the outcome of a site that has none of a transfer."""
    return Outcome(site, "", url, 0, "", 0, 0.0, "", 0, 0, reason, linked=False, retry_after=0)


def _retry_delay(entry: _Entry, outcome: Outcome) -> float:
    """Wait twice as long each time, and as long as the server asks."""
    own = min(_FIRST_DELAY_S * 2.0 ** (entry.attempts - 1), MAX_DELAY_S)
    return float(max(own, outcome.retry_after))
