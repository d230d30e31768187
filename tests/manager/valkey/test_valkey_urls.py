"""URLs of Valkey servers: their parts, and what is wrong with a wrong one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.manager.valkey._url import is_valkey_url, parse_url


def test_a_url_has_all_its_parts() -> None:
    url = parse_url("valkey://anna:se%40cret@host:7000/3?prefix=shop&wait=2&lease=2.5")
    assert url.hosts == (("host", 7000),)
    assert (url.user, url.password, url.database) == ("anna", "se@cret", 3)
    assert (url.prefix, url.wait, url.lease) == ("shop", 2, 2.5)
    assert (url.is_tls, url.is_cluster, url.path) == (False, False, "")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("valkey://host", (("host", 6379),)),
        ("redis://:word@host/1", (("host", 6379),)),
        ("rediss://[::1]:7000", (("::1", 7000),)),
        ("valkey://a:1,b:2/0", (("a", 1), ("b", 2))),
        ("valkeys+cluster://a:1,b", (("a", 1), ("b", 6379))),
    ],
)
def test_hosts_of_a_url(text: str, hosts: Any) -> None:
    url = parse_url(text)
    assert url.hosts == hosts
    scheme = text.partition("://")[0]
    assert url.is_tls == scheme.startswith(("valkeys", "rediss"))
    assert url.is_cluster == scheme.endswith("+cluster")


def test_a_socket_has_a_path_and_its_database_is_an_option() -> None:
    url = parse_url("valkey+unix://anna:word@/run/valkey.sock?db=2")
    assert (url.path, url.user, url.password, url.database) == (
        *("/run/valkey.sock", "anna", "word"),
        2,
    )
    assert list(url.places()) == ["/run/valkey.sock"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("valkey://", "there is no host"),
        ("valkey://host:port", "'host:port' is no host:port"),
        ("valkey://host:70000", "is no host:port"),
        ("valkey://host/one", "the database is a number, not 'one'"),
        ("valkey://host?color=red", "there is no option 'color', but prefix, ca"),
        ("valkey://host?wait=-1", "wait=-1: must be a whole number"),
        ("valkey://host?waitaof=1", "waitaof=1: must be 0 or 1 for the primary, a comma"),
        ("valkey://host?lease=0", "lease=0: must be a number of seconds above 0"),
        ("valkey://host?prefix={a}", "must be a name without braces"),
        ("valkey://host?ca=/nothing", "ca=... is for TLS: a URL that begins with valkeys://"),
        ("valkeys://host?ca=/nothing", "ca=/nothing: there is no such file"),
        ("valkeys://host?cert=/etc/passwd", "a certificate needs its key"),
        ("valkey+cluster://host/1", "a cluster has no database but 0"),
        ("unix://run/valkey.sock", "a socket's path begins with a slash"),
        ("http://host", "the URL of a Valkey server is valkey://"),
    ],
)
def test_a_wrong_url_says_what_is_wrong_and_hides_the_password(text: str, complaint: str) -> None:
    scheme, _, rest = text.partition("://")
    with_password = f"{scheme}://anna:topsecret@{rest}"
    with pytest.raises(ValueError, match="in the URL|not") as failed:
        parse_url(with_password)
    assert complaint in str(failed.value)
    assert "topsecret" not in str(failed.value)
    assert "anna:***@" in str(failed.value)


def test_password_is_in_no_text_of_a_manager_or_link() -> None:
    url = parse_url("valkey://anna:topsecret@host")
    assert "topsecret" not in f"{url} {url!r}"


def test_other_addresses_are_no_urls_of_valkey() -> None:
    for address in (("host", 1), "/run/socket", "garrison://host:1", b"valkey://host", None):
        assert not is_valkey_url(address)


def test_options_of_a_server_of_garrisons_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="path=... is for a server that garrison starts"):
        garrison.Manager("valkey://127.0.0.1:1", path=tmp_path)


def test_a_missing_client_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkey", None)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"garrison\[valkey\]\""):
        garrison.Manager("valkey://127.0.0.1:1")
