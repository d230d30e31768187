"""Redirects from public hosts to private addresses, by name or number, are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from garrison.fetch import _redirect_guard
from garrison.fetch._curl_client import CurlClient
from garrison.fetch._messages import Job, Outcome, Settings
from garrison.fetch._redirect_guard import RedirectGuard, is_private_name, is_public, uses_proxy

from .runner import Runner
from .site_server import SiteServer, page_body

PUBLIC, PUBLIC_TOO, PRIVATE = ("93.184.215.14", 443), ("2606:4700::1111", 443), ("10.0.0.7", 80)


@pytest.mark.parametrize(
    ("ip", "public"),
    [
        ("93.184.215.14", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("127.8.9.1", False),
        ("0.0.0.0", False),  # noqa: S104 - not bound
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d70e", True),
        ("2002:7f00:1::", False),
        ("/a/socket", False),
    ],
)
def test_which_addresses_are_public(ip: str, public: bool) -> None:
    assert is_public(ip) == public


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("example.com", False),
        ("93.184.215.14", False),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.1", True),
        ("2130706433", True),
        ("0x7f000001", True),
        ("::1", True),
        ("10.0.0.1", True),
        ("", False),
    ],
)
def test_which_names_are_private_by_themselves(host: str, private: bool) -> None:
    assert is_private_name(host) == private


def run(guard: RedirectGuard, *places: tuple[str, int]) -> list[bool]:
    """Have a guard look at the connection and the request of each hop."""
    return [guard.may_connect(*place) and guard.may_request(*place) for place in places]


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> RedirectGuard:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    guard = RedirectGuard()
    guard.begin("http://a.com/")
    return guard


def test_hops_from_public_to_private_are_refused(guard: RedirectGuard) -> None:
    assert run(guard, PUBLIC, PUBLIC_TOO, PUBLIC, PRIVATE) == [True, True, True, False]
    assert guard.refused == PRIVATE[0]


def test_private_host_that_the_user_names_may_redirect_inside(guard: RedirectGuard) -> None:
    assert run(guard, PRIVATE, ("127.0.0.1", 80), ("127.0.0.1", 443)) == [True, True, True]


def test_way_back_from_outside_is_refused(guard: RedirectGuard) -> None:
    assert run(guard, PRIVATE, PUBLIC, PRIVATE) == [True, True, False]


def test_next_transfer_begins_anew(guard: RedirectGuard) -> None:
    assert run(guard, PUBLIC, PRIVATE) == [True, False]
    guard.begin("http://intranet/")
    assert run(guard, PRIVATE) == [True]
    assert guard.refused == ""


PROXY = ("10.0.0.1", 3128)


def test_proxy_at_a_private_address_is_used(
    guard: RedirectGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    guard.begin("http://a.com/")
    assert run(guard, PROXY) == [True]
    assert guard.may_redirect("/b")
    assert guard.may_redirect("http://b.com/")
    assert run(guard, PROXY, PRIVATE) == [True, False]


@pytest.mark.parametrize("location", ["http://127.0.0.1/", "//localhost/", "http://0x7f.1:80/x"])
def test_proxy_is_not_asked_for_a_private_address(
    guard: RedirectGuard, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    guard.begin("http://a.com/")
    assert run(guard, PROXY) == [True]
    assert not guard.may_redirect(location)


@pytest.mark.parametrize(
    ("variables", "url", "proxied"),
    [
        ({}, "http://a.com/", False),
        ({"http_proxy": "p:1"}, "http://a.com/", True),
        ({"http_proxy": "p:1"}, "https://a.com/", False),
        ({"HTTPS_PROXY": "p:1"}, "https://a.com/", True),
        ({"all_proxy": "p:1", "no_proxy": "b.com, .a.com"}, "https://x.a.com/", False),
        ({"all_proxy": "p:1", "NO_PROXY": "*"}, "https://a.com/", False),
        ({"all_proxy": "p:1", "no_proxy": "a.com"}, "https://ba.com/", True),
    ],
)
@pytest.mark.usefixtures("guard")
def test_which_urls_go_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    url: str,
    proxied: bool,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert uses_proxy(url) == proxied


@pytest.fixture
def everywhere() -> Iterator[SiteServer]:
    """A server at every address of this machine; 127.0.0.2 will be public."""
    with closing(SiteServer(host="0.0.0.0")) as server:  # noqa: S104 - several of 127/8
        yield server


@pytest.fixture
def curl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[CurlClient]:
    monkeypatch.setattr(_redirect_guard, "is_public", lambda ip: ip == "127.0.0.2")
    settings = Settings(
        str(tmp_path), "0", "test", allow_private_redirects=getattr(request, "param", False)
    )
    reader, writer = os.pipe()
    with closing(CurlClient(settings, 0, reader)) as client:
        yield client
    os.close(reader)
    os.close(writer)


def get(curl: CurlClient, url: str) -> Outcome:
    curl.start(Job(0, url, 10.0, 10.0))
    while True:
        curl.wait()
        for outcome in curl.collect():
            return outcome


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("used_before", [False, True])
def test_redirect_to_a_private_address_is_refused(
    everywhere: SiteServer,
    curl: CurlClient,
    host: str,
    used_before: bool,
) -> None:
    inside = f"{host}:{everywhere.port}"
    requests = 1
    if used_before and host != "[::ffff:127.0.0.1]":
        # A connection that is there already is not made again.
        assert get(curl, f"http://{inside}/first").reason == ""
        requests += 1
    outcome = get(curl, f"http://127.0.0.2:{everywhere.port}/to/{inside}/secret")
    assert "which is no public address" in outcome.reason
    assert "--allow-private-redirects" in outcome.reason
    assert (outcome.part, outcome.code) == ("", 42)
    assert everywhere.total() == requests, everywhere.hits
    assert everywhere.connections == requests


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize("curl", [True], indirect=True)
def test_redirect_to_a_private_address_can_be_allowed(
    everywhere: SiteServer, curl: CurlClient, tmp_path: Path
) -> None:
    inside = f"127.0.0.1:{everywhere.port}/x"
    outcome = get(curl, f"http://127.0.0.2:{everywhere.port}/to/{inside}")
    assert outcome.reason == ""
    assert (tmp_path / outcome.part).read_bytes() == page_body("127.0.0.1", "/x")


@pytest.mark.usefixtures("guard")
def test_redirects_among_private_and_among_public_addresses_are_followed(
    everywhere: SiteServer, curl: CurlClient
) -> None:
    for host in ("127.0.0.1", "127.0.0.2"):
        there = f"{host}:{everywhere.port}"
        outcome = get(curl, f"http://{there}/to/{there}/x")
        assert (outcome.reason, outcome.redirects) == ("", 1)
    outcome = get(curl, f"http://127.0.0.1:{everywhere.port}/to/127.0.0.2:{everywhere.port}/x")
    assert outcome.reason == ""


def test_option_allows_private_redirects(fetch: Runner, server: SiteServer) -> None:
    site = server.url(f"/to/127.0.0.1:{server.port}/x")
    for options in ([], ["--allow-private-redirects"]):
        ended = fetch([site], *options)
        assert ended.code == 0, ended.err
