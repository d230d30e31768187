"""Parts and pages: whole under their names, and nothing else left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from garrison.fetch._pages import DirectoryInUse, PageDirectory, PartFile

NAME = ".garrison-0123abcd-0-1.part"


@pytest.fixture(params=["unnamed", "named"])
def folder_fd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    really_open = os.open

    def open_named(path: str, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "this file system has none")
        return really_open(path, flags, *rest, **more)

    if request.param == "named":
        monkeypatch.setattr(os, "open", open_named)
    fd = really_open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("chunks", [[], [b""], [b"ab", b"c"], [b"x" * 700_000] * 5])
def test_complete_part_becomes_the_page(
    folder_fd: int, tmp_path: Path, chunks: list[bytes]
) -> None:
    part = PartFile(folder_fd, NAME, 10**9)
    assert all(part.add(chunk) for chunk in chunks)
    assert part.finish() == NAME
    assert (tmp_path / NAME).read_bytes() == b"".join(chunks)
    assert part.size == len(b"".join(chunks))


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_discarded_part_is_removed(folder_fd: int, tmp_path: Path, size: int) -> None:
    part = PartFile(folder_fd, NAME, 10**9)
    part.add(b"x" * size)
    part.discard()
    assert os.listdir(tmp_path) == []


def test_part_beyond_the_limit_is_refused(folder_fd: int) -> None:
    part = PartFile(folder_fd, NAME, 10)
    assert part.add(b"x" * 10)
    assert not part.add(b"x")
    part.discard()


def test_page_has_the_mode_of_a_new_file(folder_fd: int, tmp_path: Path) -> None:
    part = PartFile(folder_fd, NAME, 10)
    part.finish()
    (tmp_path / "other").touch()
    assert (tmp_path / NAME).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_only_stale_parts_are_removed(tmp_path: Path) -> None:
    others = ["page.html", ".garrison-notes", ".garrison-0123abcd-0-1.part.txt", "x.part"]
    for name in [*others, NAME]:
        (tmp_path / name).touch()
    with closing(PageDirectory(str(tmp_path))):
        assert sorted(os.listdir(tmp_path)) == sorted(others)
        (tmp_path / NAME).touch()
    assert sorted(os.listdir(tmp_path)) == sorted(others)


def test_one_run_at_a_time_has_the_directory(tmp_path: Path) -> None:
    with closing(PageDirectory(str(tmp_path))), pytest.raises(DirectoryInUse):
        PageDirectory(str(tmp_path))
    PageDirectory(str(tmp_path)).close()


def test_missing_directory_is_made(tmp_path: Path) -> None:
    with closing(PageDirectory(str(tmp_path / "a" / "b"))) as folder:
        (tmp_path / "a" / "b" / NAME).write_bytes(b"page")
        folder.commit(NAME, "page.html")
        assert (folder.size("page.html"), folder.size("other.html")) == (4, None)
        assert folder.file("page.html") == f"{tmp_path}/a/b/page.html"
