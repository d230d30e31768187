"""Runs that are broken off, and runs that go on from there."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal

import psutil
import pytest

from garrison.fetch._names import page_name

from .runner import Runner
from .site_server import SiteServer, page_body

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("to_the_group", [True, False], ids=["group", "parent"])
@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_ends_a_run_in_order(
    fetch: Runner, server: SiteServer, signum: int, to_the_group: bool
) -> None:
    quick = [server.url(f"/page/{number}") for number in range(20)]
    stuck = [server.url(path) for path in ("/held", "/half-held", "/held/2")]
    process = fetch.start([*quick, *stuck], "-j", "2", "--per-worker", "4")
    for page in ("/held", "half sent", "/held/2"):
        server.wait_for(page)
    (os.killpg if to_the_group else os.kill)(process.pid, signum)
    ended = fetch.finish(process)
    assert ended.code == 128 + signum
    assert ended.report().keys() == ended.rows().keys()
    assert ended.report().keys() <= set(quick)
    assert ended.pages().keys() == {page_name(url) for url in ended.report()}
    assert "--resume goes on" in ended.err
    assert "Traceback" not in ended.err


def test_resume_fetches_only_what_is_missing(fetch: Runner, server: SiteServer) -> None:
    quick = [server.url(f"/page/{number}") for number in range(12)]
    urls = [*quick, server.url("/held")]
    process = fetch.start(urls, "-j", "2")
    server.wait_for("/held")
    for number in range(12):
        server.wait_for(f"/page/{number}")
    os.killpg(process.pid, signal.SIGINT)
    first = fetch.finish(process)
    assert first.code == 130
    done, before = len(first.report()), server.total()
    server.released.set()
    second = fetch(urls, "--resume")
    assert second.code == 0, second.err
    assert server.total() - before == len(urls) - done
    assert len(second.pages()) == len(second.report()) == len(second.rows()) == len(urls)
    assert all(record["ok"] for record in second.report().values())
    assert f"{done} kept" in second.err


def test_resume_tries_failed_sites_again(fetch: Runner, server: SiteServer) -> None:
    good, bad = server.url("/plain"), server.url("/status/404")
    assert fetch([good, bad]).code == 1
    ended = fetch([good, bad], "--resume")
    assert ended.code == 1
    assert (server.hits["/plain"], server.hits["/status/404"]) == (1, 2)
    assert ended.report()[good]["status"] == 200


def test_resume_without_a_report_goes_by_the_pages(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(f"/page/{number}") for number in range(3)]
    fetch(urls[:2], report=False)
    ended = fetch(urls, "--resume", report=False)
    assert ended.code == 0, ended.err
    assert server.total() == 3
    assert ended.rows()[urls[0]]["bytes"] == str(len(page_body("127.0.0.1", "/page/0")))


def test_resume_of_a_page_that_was_removed(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(f"/page/{number}") for number in range(2)]
    fetch(urls)
    (fetch.folder / "pages" / page_name(urls[0])).unlink()
    ended = fetch(urls, "--resume")
    assert (len(ended.pages()), server.total()) == (2, 3)


def test_resume_when_all_is_there(fetch: Runner, server: SiteServer) -> None:
    fetch([server.url("/plain")])
    ended = fetch([server.url("/plain")], "--resume")
    assert ended.code == 0
    assert server.total() == 1
    assert "0 fetched, 0 failed, 1 kept" in ended.err


def test_resume_forgives_a_torn_last_line(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(f"/page/{number}") for number in range(2)]
    fetch(urls)
    report = fetch.folder / "report.jsonl"
    report.write_bytes(report.read_bytes()[:-20])
    ended = fetch(urls, "--resume")
    assert ended.code == 0, ended.err
    assert ended.report().keys() == set(urls)
    assert server.total() == 2


@pytest.mark.parametrize("line", ['{"some": "thing else"}', "a letter", "[]", "null"])
def test_resume_spoils_no_other_file(fetch: Runner, server: SiteServer, line: str) -> None:
    report = fetch.folder / "report.jsonl"
    report.write_text(f"{line}\nmore\n")
    ended = fetch([server.url("/plain")], "--resume")
    assert ended.code == 2
    assert "report.jsonl:1: this is no line of a report" in ended.err
    assert report.read_text() == f"{line}\nmore\n"
    assert server.total() == 0


def test_sites_of_a_killed_process_are_fetched_by_others(fetch: Runner, server: SiteServer) -> None:
    quick = [server.url(f"/page/{number}") for number in range(10)]
    urls = [server.url("/half-held"), *quick]
    process = fetch.start(urls, "-j", "2", "--per-worker", "4")
    server.wait_for("half sent")
    os.kill(server.client("/half-held"), signal.SIGKILL)
    server.wait_for("half sent", 2)
    server.released.set()
    ended = fetch.finish(process)
    assert ended.code == 0, ended.err
    assert ended.pages()[page_name(urls[0])] == b"x" * 2_000_000 + b"y" * 2_000_000
    assert len(ended.pages()) == len(ended.report()) == len(urls)
    assert "its process was killed by SIGKILL" in ended.err


def test_run_survives_kills_of_every_process(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(f"/held/{number}") for number in range(6)]
    process = fetch.start(urls, "-j", "3", "--per-worker", "2")
    for number in range(6):
        server.wait_for(f"/held/{number}")
    for pid in server.clients():
        os.kill(pid, signal.SIGKILL)
    for number in range(6):
        server.wait_for(f"/held/{number}", 2)
    server.released.set()
    ended = fetch.finish(process)
    assert ended.code == 0, ended.err
    assert len(ended.pages()) == 6


def test_a_storm_of_kills_loses_nothing(fetch: Runner, server: SiteServer) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    urls = [server.url(f"/slow/{number}") for number in range(300)]
    process = fetch.start(urls, "-j", "3", "--per-worker", "4")
    for hits in range(20, 300, 20):
        server.wait_for_total(hits)
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(sorted(server.clients())), signal.SIGKILL)
    ended = fetch.finish(process)
    assert ended.code == 0, f"seed {seed}\n{ended.err}"
    assert ended.pages().keys() == {page_name(url) for url in urls}
    assert all(record["ok"] for record in ended.report().values())


def test_a_site_that_always_kills_is_given_up(fetch: Runner, server: SiteServer) -> None:
    url = server.url("/held")
    process = fetch.start([url, server.url("/plain")], "-j", "1")
    for hit in range(1, 6):
        server.wait_for("/held", hit)
        os.kill(server.client("/held"), signal.SIGKILL)
    ended = fetch.finish(process)
    assert ended.code == 1
    assert ended.report()[url]["reason"] == "its process was killed by SIGKILL"
    assert list(ended.pages()) == [page_name(server.url("/plain"))]


def test_the_parent_killed_leaves_no_half_page_under_a_name(
    fetch: Runner, server: SiteServer
) -> None:
    urls = [server.url("/half-held"), server.url("/plain")]
    process = fetch.start(urls, "-j", "1", "--per-worker", "2")
    server.wait_for("half sent")
    server.wait_for("/plain")
    workers = [psutil.Process(pid) for pid in server.clients()]
    process.kill()
    psutil.wait_procs(workers, 10)
    fetch.finish(process)
    names = [name for name in os.listdir(fetch.folder / "pages") if not name.startswith(".")]
    assert set(names) <= {page_name(urls[1])}
    server.released.set()
    ended = fetch(urls, "--resume")
    assert ended.code == 0, ended.err
    assert ended.pages().keys() == {page_name(url) for url in urls}


def test_one_run_at_a_time_in_a_folder(fetch: Runner, server: SiteServer) -> None:
    process = fetch.start([server.url("/held")])
    server.wait_for("/held")
    other = Runner(fetch.folder / "other")
    second = other([server.url("/plain")], "-o", "../pages")
    assert second.code == 2
    assert "another garrison fetch is writing there" in second.err
    server.released.set()
    assert fetch.finish(process).code == 0


def test_report_is_readable_while_it_grows(fetch: Runner, server: SiteServer) -> None:
    process = fetch.start([server.url("/plain"), server.url("/slow"), server.url("/held")])
    server.wait_for("/held")
    server.released.set()
    ended = fetch.finish(process)
    assert ended.code == 0
    lines = (fetch.folder / "report.jsonl").read_text().splitlines()
    assert [json.loads(line)["ok"] for line in lines] == [True] * 3
