"""`garrison fetch --engine`: the same pages, report and exit status, wherever they are fetched."""

from __future__ import annotations

import importlib.util
import os
import signal
from typing import TYPE_CHECKING

import pytest

from garrison.fetch._names import page_name

from .site_server import SiteServer, page_body

if TYPE_CHECKING:
    from .runner import Runner

_NO_DASK = importlib.util.find_spec("distributed") is None
DASK = pytest.param("dask", marks=pytest.mark.skipif(_NO_DASK, reason="Dask is not installed"))
ENGINES = ["serial", "threads", DASK]


@pytest.mark.parametrize("engine", ENGINES)
def test_pages_report_and_status_are_those_of_a_run_without(
    fetch: Runner, server: SiteServer, engine: str
) -> None:
    bodies = {
        server.url("/plain"): page_body("127.0.0.1", "/plain"),
        server.url("/compressed"): page_body("127.0.0.1", "/compressed") * 100,
        server.url("/large"): b"x" * 3_000_000,
    }
    failed = [server.url("/status/404"), server.url("/nowhere")]
    reports = []
    for options in (["--engine", engine], []):
        run = fetch([*bodies, *failed], *options)
        assert run.code == 1, run.err
        assert run.pages() == {page_name(url): body for url, body in bodies.items()}
        assert "3 fetched, 2 failed" in run.err
        reports.append(run.report())
    for record in (*reports[0].values(), *reports[1].values()):
        assert record.pop("seconds") >= 0
    assert reports[0] == reports[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_site_is_tried_again(fetch: Runner, server: SiteServer, engine: str) -> None:
    url = server.url("/busy-once")
    ended = fetch([url], "--engine", engine)
    assert (ended.code, ended.report()[url]["attempts"]) == (0, 2)


@pytest.mark.parametrize("engine", ["threads", DASK])
def test_a_list_that_is_longer_than_its_slices(
    fetch: Runner, server: SiteServer, engine: str
) -> None:
    urls = [server.url(f"/page/{number}") for number in range(150)]
    ended = fetch(urls, "--engine", engine, "-j", "2", "--per-worker", "2")
    assert ended.code == 0, ended.err
    assert len(ended.pages()) == server.total() == 150


@pytest.mark.skipif(_NO_DASK, reason="Dask is not installed")
def test_the_sites_of_a_worker_that_is_killed_are_tried_again(
    fetch: Runner, server: SiteServer
) -> None:
    urls = [server.url("/held"), server.url("/plain")]
    process = fetch.start(urls, "--engine", "dask", "-j", "2", "--per-worker", "1")
    server.wait_for("/held")
    os.kill(server.client("/held"), signal.SIGKILL)
    server.wait_for("/held", 2)
    server.released.set()
    ended = fetch.finish(process)
    assert (ended.code, len(ended.pages())) == (0, 2), ended.err
    assert "a worker is lost, for its process was killed by SIGKILL" in ended.err


@pytest.mark.parametrize("engine", ["threads", DASK])
def test_a_run_that_is_interrupted_is_resumed(
    fetch: Runner, server: SiteServer, engine: str
) -> None:
    urls = [server.url("/plain"), server.url("/held")]
    process = fetch.start(urls, "--engine", engine, "-j", "2", "--per-worker", "1")
    server.wait_for("/held")
    server.wait_for("/plain")
    while "plain" not in (fetch.folder / "report.jsonl").read_text():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    ended = fetch.finish(process)
    assert (ended.code, len(ended.pages())) == (130, 1)
    assert "1 sites to go" in ended.err
    server.released.set()
    again = fetch(urls, "--engine", engine, "--resume")
    assert (again.code, len(again.pages())) == (0, 2)
    assert server.hits["/plain"] == 1


@pytest.mark.parametrize(
    ("engine", "words"),
    [("nowhere", "there is no engine 'nowhere'"), ("tcp://127.0.0.1:9", "127.0.0.1:9")],
)
def test_an_engine_that_is_not_there_ends_the_run_before_it_begins(
    fetch: Runner, server: SiteServer, engine: str, words: str
) -> None:
    ended = fetch([server.url("/plain")], "--engine", engine)
    assert ended.code == 2
    assert words in ended.err or "garrison[dask]" in ended.err
    assert server.total() == 0
