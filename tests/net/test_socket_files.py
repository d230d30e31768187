"""The files of sockets: only a dead socket of this user is ever removed."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from garrison.net import Limits, Listener
from garrison.net._address import listen


def make_file(path: Path) -> None:
    path.write_text("the only copy")


def make_link(path: Path) -> None:
    path.with_suffix(".target").write_text("the only copy")
    path.symlink_to(path.with_suffix(".target"))


def make_dead_link(path: Path) -> None:
    path.symlink_to("nowhere")


KINDS: dict[str, Callable[[Path], object]] = {
    "a file": make_file,
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a symbolic link": make_link,
    "a symbolic link to nothing": make_dead_link,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "server"
    KINDS[kind](path)
    before = path.lstat()
    with pytest.raises(OSError, match=f"{path}.*{kind.removesuffix(' to nothing')}.*remove it"):
        Listener(str(path))
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)


def test_socket_of_another_user_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    monkeypatch.setattr(os, "geteuid", lambda: path.lstat().st_uid + 1)
    with pytest.raises(OSError, match=f"{path}.*user {path.lstat().st_uid}"):
        Listener(str(path))
    assert stat.S_ISSOCK(path.lstat().st_mode)


def test_socket_of_a_busy_server_is_not_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(path)
        busy.listen(0)
        client.connect(path)  # fills the backlog: another connection would wait
        with pytest.raises(OSError, match="a server listens there"):
            Listener(path)
    assert stat.S_ISSOCK(Path(path).lstat().st_mode)


def test_dead_socket_of_this_user_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "server")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    listener = Listener(path)
    listener.close()
    listener.unlink()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_server_leaves_what_has_taken_the_place_of_its_socket(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "server"
    listener = Listener(str(path))
    path.unlink()
    KINDS[kind](path)
    listener.close()
    listener.unlink()
    assert path.is_symlink() or path.exists()


def test_server_leaves_the_socket_of_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "server"
    first = Listener(str(path))
    path.unlink()
    with listen(str(path), Limits()):
        first.close()
        first.unlink()
        assert path.exists()


def test_relative_path_is_removed_from_where_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    listener = Listener("server")
    monkeypatch.chdir("elsewhere")
    listener.close()
    listener.unlink()
    assert os.listdir(tmp_path) == ["elsewhere"]
