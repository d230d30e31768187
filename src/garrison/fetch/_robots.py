"""What each host's robots.txt allows (RFC 9309).

The files are fetched first, as pages of a run of their own. A host that has none allows everything;
one whose file cannot be had, but for another reason, allows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.robotparser import RobotFileParser

from garrison.fetch._messages import Outcome
from garrison.fetch._sites import Site

__all__ = ["AGENT", "FORBIDDEN", "LONGEST", "Robots", "robot_sites"]

AGENT = "garrison"
LONGEST = 512_000
"""Bytes of a file that are read; as much as a crawler must at least."""
FORBIDDEN = "its robots.txt forbids it; without --robots it would be fetched"
_NONE_THERE = range(400, 500)
_TOO_MANY = 429


def robot_sites(sites: Iterable[Site]) -> dict[tuple[tuple[str, ...], str], Site]:
    """Return what to fetch for these sites: the robots.txt of each origin, once."""
    return {_origin(site): _robots_of(site) for site in sites}


def _origin(site: Site) -> tuple[tuple[str, ...], str]:
    return site.schemes, site.address.partition("/")[0]


def _robots_of(site: Site) -> Site:
    schemes, authority = _origin(site)
    host = authority.rpartition("@")[2]
    return Site(f"{host}/robots.txt", site.line, schemes, f"{authority}/robots.txt")


class Robots:
    """What is allowed."""

    def __init__(self) -> None:
        self._rules: dict[tuple[tuple[str, ...], str], RobotFileParser | str] = {}

    def add(self, origin: tuple[tuple[str, ...], str], outcome: Outcome, text: bytes) -> None:
        """Enter how the fetch of an origin's file ended."""
        if not outcome.reason:
            rules = RobotFileParser()
            rules.parse(text.decode(errors="replace").removeprefix("\ufeff").splitlines())
            self._rules[origin] = rules
        elif outcome.status in _NONE_THERE and outcome.status != _TOO_MANY:
            rules = RobotFileParser()
            rules.parse([])
            self._rules[origin] = rules
        else:
            self._rules[origin] = f"its robots.txt cannot be had: {outcome.reason}"

    def why_not(self, site: Site) -> str:
        """Return why a site may not be fetched; empty if it may."""
        rules = self._rules.get(_origin(site), "its robots.txt was not fetched")
        if isinstance(rules, str):
            return rules
        return "" if rules.can_fetch(AGENT, site.url(site.schemes[0])) else FORBIDDEN
