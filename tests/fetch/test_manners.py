"""What hosts ask for: pauses, limits, robots.txt."""

from __future__ import annotations

import pytest

from garrison.fetch._robots import FORBIDDEN

from .runner import Runner
from .site_server import SiteServer


def test_a_pause_until_a_date_is_kept(fetch: Runner, server: SiteServer) -> None:
    url = server.url("/limited")
    ended = fetch([url])
    assert ended.code == 0, ended.err
    assert ended.report()[url]["attempts"] == 2
    assert server.hits["/limited"] == 2


def test_a_limit_for_each_host(fetch: Runner, server: SiteServer) -> None:
    process = fetch.start([server.url(f"/held/{n}") for n in range(6)], "--per-host", "2")
    server.wait_for_total(2)
    server.released.set()
    assert fetch.finish(process).code == 0
    assert server.most_at_once == 2


def test_robots_are_asked_and_obeyed(fetch: Runner, server: SiteServer) -> None:
    server.robots = b"User-agent: other\nDisallow: /\n\nUser-agent: *\nDisallow: /private\n"
    good, bad = server.url("/public"), server.url("/private/x?y")
    ended = fetch([good, bad], "--robots")
    assert ended.code == 1
    assert ended.report()[bad]["reason"] == FORBIDDEN
    assert f"{bad}: failed: {FORBIDDEN}" in ended.err
    assert ended.report()[good]["ok"]
    assert dict(server.hits) == {"/robots.txt": 1, "/public": 1}
    assert len(ended.pages()) == 1
    assert fetch([bad]).code == 0


@pytest.mark.parametrize(
    ("status", "reason"), [(404, None), (403, None), (500, "its robots.txt cannot be had: 500")]
)
def test_robots_that_are_not_there(
    fetch: Runner, server: SiteServer, status: int, reason: str | None
) -> None:
    server.robots, server.robots_status = b"", status
    url = server.url("/x")
    ended = fetch([url], "--robots", "--retries", "0")
    assert ended.code == (0 if reason is None else 1)
    assert (ended.report()[url]["reason"] or "").startswith(reason or "")
    assert server.hits["/x"] == (reason is None)


def test_robots_of_a_bare_host(fetch: Runner, server: SiteServer) -> None:
    server.robots = b"User-agent: garrison\nDisallow: /\n"
    ended = fetch(["www.qq.com"], "--robots", "--connect-to", server.connect_to)
    assert ended.report()["www.qq.com"]["reason"] == FORBIDDEN
    assert dict(server.hits) == {"www.qq.com/robots.txt": 1}
