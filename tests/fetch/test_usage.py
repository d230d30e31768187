"""Wrong usage and unusable files: exit 2, what is wrong with what, and nothing fetched."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .runner import Runner
from .site_server import SiteServer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-j", "0"], "-j/--jobs: '0' is no number of processes: give a whole number from 1"),
        (["-j", "-2"], "'-2' is no number of processes"),
        (["-j", "1.5"], "'1.5' is no number of processes"),
        (["-j", "many"], "'many' is no number of processes"),
        (["--per-worker", "0"], "'0' is no number of transfers"),
        (["--timeout", "0"], "'0' is no time-out"),
        (["--timeout", "-1"], "'-1' is no time-out"),
        (["--timeout", "nan"], "'nan' is no time-out"),
        (["--timeout", "inf"], "'inf' is no time-out"),
        (["--retries", "-1"], "'-1' is no number of retries"),
        (["--max-bytes", "0"], "'0' is no size"),
        (["--max-bytes", "10 MB"], "'10 MB' is no size"),
        (["--connect-to", "127.0.0.1:80"], "'127.0.0.1:80' is not HOST1:PORT1:HOST2:PORT2"),
        (["--connect-to", "a:b:c:d"], "'a:b:c:d' is not HOST1:PORT1:HOST2:PORT2"),
        (["--connect-to", "a:70000:c:1"], "is not HOST1:PORT1:HOST2:PORT2"),
        (["--per-host", "0"], "'0' is no number of transfers"),
        (["--input-format", "csv"], "'csv' is not lines, csv:COLUMN, tsv:COLUMN or jsonl:FIELD"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["-o", "sites.txt"], "no pages can be saved in sites.txt: "),
        (["-o", "sites.txt/pages"], "no pages can be saved in sites.txt/pages: "),
        (["--report", "nowhere/r.jsonl"], "no report can be written to nowhere/r.jsonl: "),
        (["--report", "."], "no report can be written to ."),
        (["--report", "pages/www.qq.com.html"], "a page will have that name"),
    ],
)
def test_bad_options_are_refused(fetch: Runner, options: list[str], message: str) -> None:
    ended = fetch(["www.qq.com"], *options, report=False)
    assert ended.code == 2
    assert message in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (b"", "sites.txt: no site in it"),
        (b"# nothing\n\n", "sites.txt: no site in it"),
        (b"www.qq.com\n\xff\xfe\n", "sites.txt:2: '\\\\xff\\\\xfe': not UTF-8: byte 0xff at"),
        (b"www.qq.com\n\nftp://x\n", "sites.txt:3: 'ftp://x': only http and https"),
        (b"a b\n" * 50, "and 40 more lines"),
    ],
)
def test_strictly_one_bad_line_is_enough(
    fetch: Runner, server: SiteServer, sites: bytes, message: str
) -> None:
    ended = fetch(sites, "--strict", report=False)
    assert ended.code == 2
    assert message in ended.err
    assert not (fetch.folder / "pages").exists()


def test_a_bad_line_is_a_failure_of_its_own(fetch: Runner, server: SiteServer) -> None:
    good = server.url("/plain")
    ended = fetch([good, "ftp://x", "https://me:hidden@exa mple/", ""])
    assert ended.code == 1
    assert "sites.txt:2: 'ftp://x': only http and https sites can be fetched" in ended.err
    assert "1 fetched, 2 failed" in ended.err
    assert ended.rows()["ftp://x"]["file or reason"].startswith("failed: only http and https")
    assert next(iter(ended.rows())) == good
    record = ended.report()["ftp://x"]
    assert (record["ok"], record["line"], record["page"], record["url"]) == (False, 2, None, None)
    assert "hidden" not in ended.err + ended.out + (fetch.folder / "report.jsonl").read_text()
    assert len(ended.pages()) == 1
    again = fetch([good, "ftp://x"], "--resume")
    assert again.code == 1
    assert "0 fetched, 1 failed, 1 kept" in again.err


def test_a_list_of_bad_lines_fetches_nothing(fetch: Runner, server: SiteServer) -> None:
    ended = fetch(b"a b\n" * 50, report=False)
    assert ended.code == 1
    assert "and 40 more lines" in ended.err
    assert len(ended.pages()) == server.total() == 0


def test_a_table_as_input(fetch: Runner, server: SiteServer) -> None:
    urls = [server.url(f"/{n}") for n in range(2)]
    table = "".join(f"{n},{url}\n" for n, url in enumerate(urls))
    assert fetch(f"n,url\n{table}", "--input-format", "csv:url").code == 0
    assert server.total() == 2
    ended = fetch(table, "--input-format", "csv:url")
    assert ended.code == 2
    assert "sites.txt: there is no column 'url' in the first line; there are: '0'" in ended.err


def test_standard_input_is_named(fetch: Runner) -> None:
    ended = fetch("a.com\n\x00\n", "--strict", stdin=True)
    assert ended.code == 2
    assert "standard input:2: " in ended.err


@pytest.mark.parametrize(
    ("file", "what"), [("nothing.txt", "No such file"), (".", "Is a directory")]
)
def test_files_that_cannot_be_read(fetch: Runner, file: str, what: str) -> None:
    command = (sys.executable, "-m", "garrison", "fetch", file)
    ended = subprocess.run(
        command, cwd=fetch.folder, capture_output=True, text=True, check=False, timeout=20
    )
    assert ended.returncode == 2
    assert f"garrison fetch: {file}: {what}" in ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(fetch: Runner) -> None:
    (fetch.folder / "pages").mkdir(mode=0o500)
    ended = fetch(["www.qq.com"], report=False)
    assert ended.code == 2
    assert "pages: Permission denied" in ended.err


def test_missing_libcurl_is_named_with_its_package(fetch: Runner) -> None:
    (fetch.folder / "pycurl.py").write_text("raise ImportError('no libcurl here')\n")
    ended = fetch(["www.qq.com"], env={"PYTHONPATH": str(fetch.folder)})
    assert ended.code == 2
    assert 'pip install "garrison[fetch]"' in ended.err
    assert "no libcurl here" in ended.err


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["march"]])
def test_unknown_command_is_refused(arguments: list[str]) -> None:
    command = (sys.executable, "-m", "garrison", *arguments)
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 2
    assert "usage: garrison" in ended.stderr


def test_help_needs_nothing() -> None:
    command = (sys.executable, "-m", "garrison", "fetch", "--help")
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == 0
    for option in ("--per-worker", "--connect-to", "--resume", "--report", "exit status"):
        assert option in ended.stdout
