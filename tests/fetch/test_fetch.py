"""What `garrison fetch` does with pages of all kinds."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from garrison.fetch._names import page_name

from .runner import Ended, Runner
from .site_server import SiteServer, page_body

SIX = [
    "www.sina.com.cn",
    "www.163.com",
    "www.iciba.com",
    "www.cnblogs.com",
    "www.qq.com",
    "www.douban.com",
]


def test_the_six_sites_of_the_tutorial(fetch: Runner, server: SiteServer) -> None:
    ended = fetch(SIX, "--connect-to", server.connect_to)
    assert ended.code == 0, ended.err
    assert ended.pages() == {f"{host}.html": page_body(host, "/") for host in SIX}
    assert list(ended.rows()) == SIX
    for host, row in ended.rows().items():
        assert row["final URL"] == f"http://{host}/"
        assert (row["status"], row["type"]) == ("200", "text/html")
        assert int(row["bytes"]) == len(page_body(host, "/"))
        assert 0 < float(row["seconds"]) < 20
        assert row["file or reason"] == f"pages/{host}.html"
    assert "6 fetched, 0 failed" in ended.err
    assert server.total() == 6


def test_report_has_all_fields(fetch: Runner, server: SiteServer) -> None:
    good, bad = server.url("/redirected"), server.url("/status/404")
    ended = fetch(["# two", good, bad])
    name = page_name(good)
    assert ended.code == 1
    report = ended.report()
    assert isinstance(report[good].pop("seconds"), float)
    assert report[good] == {
        "site": good,
        "line": 2,
        "ok": True,
        "url": server.url("/plain"),
        "status": 200,
        "type": "text/html",
        "bytes": len(page_body("127.0.0.1", "/plain")),
        "attempts": 1,
        "redirects": 1,
        "http": "1.1",
        "page": name,
        "file": f"pages/{name}",
        "reason": None,
    }
    assert (report[bad]["ok"], report[bad]["file"]) == (False, None)
    assert report[bad]["reason"] == "404 Not Found"
    assert list(ended.pages()) == [name]


def test_repeated_sites_of_standard_input_are_fetched_once(
    fetch: Runner, server: SiteServer
) -> None:
    ended = fetch(
        f"\n# a list\na.com\nA.com/ # again\n\n{server.url('/x')}\n",
        "--connect-to",
        server.connect_to,
        stdin=True,
    )
    assert ended.code == 0, ended.err
    assert "1 line repeats a site" in ended.err
    assert list(ended.rows()) == ["a.com", server.url("/x")]
    assert server.total() == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/compressed", page_body("127.0.0.1", "/compressed") * 100),
        ("/cookie", page_body("127.0.0.1", "/cookie")),
        ("/large", b"x" * 3_000_000),
        ("/busy-once", page_body("127.0.0.1", "/busy-once")),
        ("/cut-once", page_body("127.0.0.1", "/cut-once")),
        ("/a%20b?c=d%00&e", page_body("127.0.0.1", "/a%20b?c=d%00&e")),
        ("/../../etc/passwd", page_body("127.0.0.1", "/etc/passwd")),
    ],
)
def test_page_is_saved(fetch: Runner, server: SiteServer, path: str, body: bytes) -> None:
    ended = fetch([server.url(path)])
    assert ended.code == 0, ended.err
    assert ended.pages() == {page_name(server.url(path)): body}


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("/status/404", [], "404 Not Found"),
        ("/status/418", [], "418 I'm a Teapot"),
        ("/status/599", [], "599"),
        ("/status/500", ["--retries", "0"], "500 Internal Server Error"),
        ("/nowhere", [], "302 Found, without a place to go"),
        ("/looping", [], "redirects"),
        ("/to-a-file", [], "file"),
        ("/truncated", ["--retries", "0"], "bytes (missing|remaining)"),
        ("/garbage", ["--retries", "0"], "HTTP"),
        ("/silent", ["--retries", "0"], "[Ee]mpty reply"),
        ("/held", ["--retries", "0", "--timeout", "0.3"], "timed out"),
        ("/half-held", ["--retries", "0", "--timeout", "0.5"], "timed out"),
        ("/large", ["--max-bytes", "2M"], "more than --max-bytes 2000000"),
        ("/endless", ["--max-bytes", "500k"], "more than --max-bytes 500000"),
        ("/bomb", ["--max-bytes", "100k"], "more than --max-bytes 100000"),
    ],
)
def test_failed_page_is_reported(
    fetch: Runner, server: SiteServer, path: str, options: list[str], reason: str
) -> None:
    bad, good = server.url(path), server.url("/plain")
    ended = fetch([bad, good], *options)
    assert ended.code == 1
    assert re.search(reason, ended.report()[bad]["reason"])
    assert ended.rows()[bad]["file or reason"].startswith("failed: ")
    assert list(ended.pages()) == [page_name(good)]
    assert "1 fetched, 1 failed" in ended.err


def test_site_is_tried_as_often_as_its_failure_allows(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(path) for path in ("/status/503", "/truncated", "/status/404")]
    ended = fetch(urls, "--retries", "1")
    assert [ended.report()[url]["attempts"] for url in urls] == [2, 2, 1]
    assert [server.hits[f"/{path}"] for path in ("status/503", "truncated")] == [2, 2]


def test_unreachable_host_is_reported(fetch: Runner, server: SiteServer) -> None:
    ended = fetch(["a.com"], "--retries", "0", "--connect-to", "::127.0.0.1:1")
    assert ended.code == 1
    reason = ended.report()["a.com"]["reason"]
    assert reason.startswith("https: ")
    assert "; http: " in reason
    assert ended.pages() == {}


def test_connections_are_reused(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(f"/page/{number}") for number in range(60)]
    ended = fetch(urls, "-j", "2", "--per-worker", "3")
    assert ended.code == 0, ended.err
    assert len(ended.pages()) == 60
    assert server.total() == 60
    assert server.connections <= 6


def test_slow_site_does_not_delay_others(fetch: Runner, server: SiteServer) -> None:
    quick = [server.url(f"/page/{number}") for number in range(40)]
    process = fetch.start([server.url("/held"), *quick], "-j", "1", "--per-worker", "2")
    for number in range(40):
        server.wait_for(f"/page/{number}")
    server.released.set()
    assert fetch.finish(process).code == 0


def test_every_process_has_a_share_of_a_short_list(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(f"/held/{number}") for number in range(3)]
    process = fetch.start(urls, "-j", "3", "--per-worker", "8")
    for number in range(3):
        server.wait_for(f"/held/{number}")
    assert len(server.clients()) == 3
    server.released.set()
    assert fetch.finish(process).code == 0


def test_nothing_a_server_says_reaches_the_terminal_raw(fetch: Runner, server: SiteServer) -> None:
    ended = fetch([server.url("/evil-headers")])
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err
    assert len(ended.rows()) == 1


def test_a_page_replaces_the_one_of_an_earlier_run(fetch: Runner, server: SiteServer) -> None:
    url = server.url("/plain")
    page = fetch.folder / "pages" / page_name(url)
    page.parent.mkdir()
    page.write_bytes(b"old")
    assert fetch([url]).pages() == {page.name: page_body("127.0.0.1", "/plain")}


def test_unwritable_page_is_reported(fetch: Runner, server: SiteServer) -> None:
    good, bad = server.url("/plain"), server.url("/other")
    (fetch.folder / "pages" / page_name(bad)).mkdir(parents=True)
    ended = fetch([good, bad])
    assert ended.code == 1
    assert "cannot be saved" in ended.report()[bad]["reason"]
    assert ended.report()[good]["ok"]


def test_proxy_of_the_environment_is_used(fetch: Runner, server: SiteServer) -> None:
    proxy = {"http_proxy": f"http://127.0.0.1:{server.port}"}
    ended = fetch(["http://some.where/x"], env=proxy)
    assert ended.code == 0, ended.err
    assert server.hits["some.wherehttp://some.where/x"] == 1


def test_user_agent_names_the_crawler(fetch: Runner, server: SiteServer) -> None:
    assert fetch([server.url("/")]).code == 0
    assert "garrison/" in server.agents[0]


def test_closed_standard_output_ends_the_run(fetch: Runner, server: SiteServer) -> None:
    reader, writer = os.pipe()
    process = fetch.start([server.url("/held")], stdout=writer)
    os.close(writer)
    server.wait_for("/held")
    os.close(reader)
    server.released.set()
    ended = fetch.finish(process)
    assert ended.code == 0
    assert "Traceback" not in ended.err


def test_broken_standard_error_ends_the_run(fetch: Runner, server: SiteServer) -> None:
    reader, writer = os.pipe()
    process = fetch.start([server.url("/held"), "ftp://x", server.url("/x")], stderr=writer)
    os.close(writer)
    os.close(reader)
    server.released.set()
    ended = fetch.finish(process)
    assert ended.code == 1  # for the bad line
    assert len(ended.rows()) == 3
    assert len(ended.pages()) == 2


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-", "> /dev/full 2> /dev/full"])
def test_closed_standard_streams_change_nothing(
    fetch: Runner, server: SiteServer, closed: str
) -> None:
    (fetch.folder / "sites.txt").write_text(f"{server.url('/a')}\n{server.url('/b.html')}\n")
    command = f'"$0" -m garrison fetch sites.txt --report report.jsonl {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=fetch.folder, check=False, capture_output=True
    )
    assert done.returncode == 0
    ended = Ended(0, "", "", fetch.folder)
    assert sorted(ended.pages().values()) == [
        page_body("127.0.0.1", path) for path in ("/a", "/b.html")
    ]
    assert all(record["ok"] for record in ended.report().values())
