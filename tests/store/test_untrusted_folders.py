"""Folders and files that another user can change are refused, and no link in them is followed."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

import garrison
from foreign_files import give_away
from garrison._os import file_trust
from garrison.errors import UntrustedFile
from garrison.store import _backups

from .tools import open_store

STORE_FILES = ["data.mdb", "lock.mdb", "holders", "origin", "notes"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder with a store that nobody uses."""
    path = tmp_path / "store"
    fill(path)
    return path


def fill(path: Path) -> None:
    with garrison.Manager(path=path) as manager:
        manager.dict("stock", tea=1)


def assert_refused(path: Path, match: str) -> None:
    before = sorted(os.listdir(path))
    with pytest.raises(UntrustedFile, match=match):
        garrison.Manager(path=path)
    assert sorted(os.listdir(path)) == before


@pytest.mark.parametrize(
    ("mode", "match"),
    [
        (0o777, r"every user may write.*chmod go-w.*'{path}'"),
        (0o702, r"every user may write.*chmod go-w.*'{path}'"),
        (0o1777, r"every user may make files here: use a folder of your own in it: '{path}'"),
    ],
)
@pytest.mark.parametrize("there", ["empty", "store"])
def test_folder_that_all_may_write_to_is_refused(
    tmp_path: Path, mode: int, match: str, there: str
) -> None:
    path = tmp_path / "store"
    path.mkdir()
    if there == "store":
        fill(path)
    path.chmod(mode)
    assert_refused(path, match.format(path=path))


def test_folder_of_another_user_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_away(store, monkeypatch)
    assert_refused(store, "belongs to user .*chown.*store")


def test_link_of_another_user_is_refused(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(store)
    fill(link)  # one's own may be used
    give_away(link, monkeypatch)
    assert_refused(link, "symbolic link of user")


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750])
def test_folders_of_a_usual_umask_are_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "store"
    path.mkdir()
    path.chmod(mode)
    fill(path)


class Group:
    """The system's tables of users and groups, with one user and one group."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        status = folder.stat()
        me = pwd.struct_passwd(("me", "x", status.st_uid, status.st_gid, "", "/", "/bin/sh"))
        self.users, self.name, self.members = [me], "me", list[str]()
        monkeypatch.setattr(pwd, "getpwuid", lambda _: me)
        monkeypatch.setattr(pwd, "getpwall", lambda: self.users)
        monkeypatch.setattr(
            grp, "getgrgid", lambda gid: grp.struct_group((self.name, "x", gid, self.members))
        )


def test_private_group_may_write(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.chmod(0o775)
    group = Group(monkeypatch, store)
    fill(store)
    group.members = ["me"]
    fill(store)


@pytest.mark.parametrize("reason", ["name", "member", "primary", "unknown", "acl"])
def test_group_of_several_users_may_not_write(
    store: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    store.chmod(0o775)
    group = Group(monkeypatch, store)
    if reason == "name":
        group.name = "lab"
    elif reason == "member":
        group.members = ["me", "other"]
    elif reason == "primary":
        other = pwd.struct_passwd(("other", "x", 1 << 20, store.stat().st_gid, "", "/", ""))
        group.users.append(other)
    elif reason == "unknown":
        monkeypatch.setattr(grp, "getgrgid", raise_key_error)
    else:
        monkeypatch.setattr(os, "getxattr", lambda *_: b"a list")
    assert_refused(store, r"group .* may write.*chmod g-w.*store")


def raise_key_error(_: object) -> None:
    raise KeyError


@pytest.mark.parametrize("name", STORE_FILES)
@pytest.mark.parametrize("target", ["there", "missing"])
def test_planted_link_is_not_followed(store: Path, name: str, target: str) -> None:
    victim = store.parent / "victim"
    if target == "there":
        victim.write_text("the only copy")
    (store / name).unlink(missing_ok=True)
    (store / name).symlink_to(victim)
    assert_refused(store, f"is a symbolic link.*remove it.*{name}")
    assert victim.exists() == (target == "there")
    assert not victim.exists() or victim.read_text() == "the only copy"


@pytest.mark.parametrize("name", ["origin.new", "notes.new"])
def test_planted_link_of_a_draft_is_replaced(store: Path, name: str) -> None:
    victim = store.parent / "victim"
    victim.write_text("the only copy")
    (store / name).symlink_to(victim)
    (store / "origin").write_text("another")
    child = garrison.get_context("spawn").Process(target=fill, args=(store,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert victim.read_text() == "the only copy"
    assert not (store / name).is_symlink()


@pytest.mark.parametrize("name", ["data.mdb", "holders", "origin"])
@pytest.mark.parametrize("how", ["foreign", "writable"])
def test_file_that_another_user_can_change_is_refused(
    store: Path, name: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "writable":
        (store / name).chmod(0o666)
        assert_refused(store, f"every user may write to this file.*{name}")
        return
    really = file_trust._is_trusted_owner
    foreign = (store / name).stat().st_ino
    check = file_trust.check_status

    def check_as_foreign(status: os.stat_result, path: str, place: Any) -> None:
        owner = status.st_ino != foreign
        monkeypatch.setattr(file_trust, "_is_trusted_owner", lambda uid: owner and really(uid))
        check(status, path, place)

    monkeypatch.setattr(file_trust, "check_status", check_as_foreign)
    assert_refused(store, f"belongs to user.*{name}")


@pytest.mark.parametrize("name", ["notes", "holders"])
def test_users_own_file_in_a_folder_without_a_store_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("what I must not forget")
    with pytest.raises(FileExistsError, match=f"{name!r}.*new or empty folder"):
        garrison.Manager(path=tmp_path)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "what I must not forget"


@pytest.mark.parametrize("text", ["", "process 17", "process 17".ljust(200)])
def test_holders_of_a_server_that_was_killed_at_its_start_are_used(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "holders").write_text(text)
    fill(tmp_path)


@pytest.mark.parametrize("name", ["part", "holders", "origin.new"])
def test_backup_follows_no_planted_link(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "backup"
    victim.write_text("the only copy")
    write = _backups._write

    def plant_and_write(*arguments: Any) -> None:
        (path / name).symlink_to(victim)
        write(*arguments)

    monkeypatch.setattr(_backups, "_write", plant_and_write)
    with garrison.Manager() as manager:
        if name == "origin.new":
            manager.backup(path)
        else:
            with pytest.raises(FileExistsError):
                manager.backup(path)
            assert not path.exists()
    assert victim.read_text() == "the only copy"


def test_failed_backup_removes_its_own_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backup"

    def swap_and_fail(*_: object) -> None:
        path.rename(tmp_path / "moved")
        path.mkdir()
        (path / "the only copy").touch()
        raise RuntimeError

    monkeypatch.setattr(_backups, "_write", swap_and_fail)
    with garrison.Manager() as manager, pytest.raises(RuntimeError):
        manager.backup(path)
    assert (path / "the only copy").exists()


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
@pytest.mark.parametrize("target", ["there", "missing"])
def test_core_follows_no_link_that_was_put_there_after_the_check(
    tmp_path: Path, name: str, target: str
) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "store"
    folder.mkdir()
    if target == "there":
        victim.touch()
    (folder / name).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), open_store(folder=folder):
        pass
    assert not victim.exists() or victim.stat().st_size == 0
    assert victim.exists() == (target == "there")
