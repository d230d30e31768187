"""Folders and reports of others: nothing is written where another user decides what it becomes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from foreign_files import STRANGER, give_away
from garrison.errors import UntrustedFile
from garrison.fetch._pages import PageDirectory
from garrison.fetch._report import Report

from .runner import Runner
from .site_server import SiteServer


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("the only copy")
    return path


@pytest.fixture
def umask_of_private_groups() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("mode", "remedy"), [(0o777, "chmod go-w"), (0o1777, "a folder of your own in it")]
)
def test_folder_that_all_may_write_to_is_refused(
    fetch: Runner, server: SiteServer, mode: int, remedy: str
) -> None:
    (fetch.folder / "pages").mkdir()
    (fetch.folder / "pages").chmod(mode)
    ended = fetch([server.url("/a")])
    assert (ended.code, ended.pages(), server.total()) == (2, {}, 0)
    assert "no pages can be saved in pages: every user may" in ended.err
    assert remedy in ended.err


def test_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_away(tmp_path, monkeypatch)
    with pytest.raises(UntrustedFile, match="belongs to user"):
        PageDirectory(str(tmp_path))


@pytest.mark.usefixtures("umask_of_private_groups")
def test_second_run_uses_the_folder_of_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        PageDirectory(str(tmp_path / "pages")).close()
    assert stat.S_IMODE((tmp_path / "pages").stat().st_mode) == 0o755


def test_link_in_place_of_a_page_is_no_page(
    fetch: Runner, server: SiteServer, victim: Path
) -> None:
    (fetch.folder / "pages").mkdir()
    (fetch.folder / "pages" / "a.com.html").symlink_to(victim)
    ended = fetch(["a.com"], "--resume", "--connect-to", server.connect_to)
    assert (ended.code, server.total()) == (0, 1)
    assert not (fetch.folder / "pages" / "a.com.html").is_symlink()
    assert victim.read_text() == "the only copy"


def test_no_planted_draft_of_a_report_is_written_to(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    for name in (f".report.{os.getpid()}.new", ".report.guessed.new"):
        (tmp_path / name).symlink_to(victim)
    with pytest.raises(FileExistsError):
        Report(str(tmp_path / "report"), [])
    assert victim.read_text() == "the only copy"


def test_report_behind_a_link_of_another_user_is_refused(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "report"
    link.symlink_to(victim)
    give_away(link, monkeypatch)
    with pytest.raises(UntrustedFile, match="symbolic link of user"):
        Report(str(link), [])
    assert victim.read_text() == "the only copy"


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_report_of_another_user_is_refused(
    tmp_path: Path, make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report"
    make(path)  # type: ignore[operator]
    give_away(path, monkeypatch)
    with pytest.raises(UntrustedFile, match="belongs to user"):
        Report(str(path), [])
    assert os.listdir(tmp_path) == ["report"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_command_names_the_report_of_another_user(fetch: Runner, server: SiteServer) -> None:
    (fetch.folder / "report.jsonl").touch()
    os.chown(fetch.folder / "report.jsonl", STRANGER, -1)
    ended = fetch([server.url("/a")])
    assert (ended.code, server.total()) == (2, 0)
    assert f"report.jsonl: belongs to user {STRANGER}" in ended.err


def test_report_behind_ones_own_link_is_replaced(tmp_path: Path, victim: Path) -> None:
    link = tmp_path / "report"
    link.symlink_to(victim)
    with closing(Report(str(link), [{"ok": True}])):
        assert link.is_symlink()
        assert victim.read_text() == '{"ok": true}\n'
