"""Damage to the files of a store in a folder: what is said, and what is looked at when."""

from __future__ import annotations

import contextlib
import gc
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.errors import StoreCorrupt
from garrison.store import Kind, _damage, open_directory

SIZE = 64 << 20
WHERE = r"the store in /.* is damaged: a value of container \d+ has changed on the disk; restore"
MARK = b"a text that is found in the file"


def open_store(path: Path, check: bool | None = None) -> Any:
    return open_directory(path, sync=False, size=SIZE, check=check)


def make(path: Path) -> None:
    store = open_store(path)
    store.make(Kind.DICT, {"damaged": MARK, "sound": 1, "large": MARK * 1000}, name="stock")
    del store
    gc.collect()


def damage(path: Path, mark: bytes) -> None:
    """Change a byte of a text in the file."""
    data = (path / "data.mdb").read_bytes()
    at = data.index(mark)
    with (path / "data.mdb").open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 0x20]))


def test_the_error_says_where_what_and_what_to_do(tmp_path: Path) -> None:
    make(tmp_path)
    damage(tmp_path, MARK)
    with pytest.raises(StoreCorrupt) as caught:
        garrison.Manager(path=tmp_path)
    text = str(caught.value)
    assert f"{tmp_path} is not a sound store: the sum of a record is wrong" in text
    assert "backup()" in text
    assert f"`garrison check {tmp_path}`" in text


def test_without_the_walk_a_damaged_value_is_an_error_where_it_is_read(tmp_path: Path) -> None:
    make(tmp_path)
    damage(tmp_path, MARK)
    with garrison.Manager(path=tmp_path, check=False) as manager:
        stock = manager.dict("stock")
        with pytest.raises(StoreCorrupt, match=WHERE):
            stock["damaged"]
        assert stock["sound"] == 1


def test_a_large_value_is_checked_when_it_is_read(tmp_path: Path) -> None:
    make(tmp_path)
    damage(tmp_path, MARK * 2)
    store = open_store(tmp_path, check=True)
    stock = store.make(Kind.DICT, name="stock")
    with pytest.raises(StoreCorrupt, match="has changed on the disk"):
        stock["large"]
    assert stock["damaged"] == MARK


def give_notes_of_another_boot(path: Path) -> None:
    """As if the machine had been restarted while the store was open."""
    (words,) = (path / "notes").read_bytes().splitlines()
    text = words.partition(b" ")[2].replace(os.fsencode(garrison._os.boot_id()), b"another boot")
    (path / "notes").write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_large_store_is_walked_through_after_a_restart_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    make(tmp_path)
    damage(tmp_path, MARK)
    monkeypatch.setattr(_damage, "SMALL_BYTES", 0)
    if restarted:
        give_notes_of_another_boot(tmp_path)
        with pytest.raises(StoreCorrupt, match="not a sound store"):
            open_store(tmp_path)
    else:
        assert open_store(tmp_path).make(Kind.DICT, name="stock")["sound"] == 1


def test_a_backup_of_a_store_in_memory_has_no_sums_and_is_used_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    with garrison.Manager() as manager:
        manager.dict("stock", one=1)
        manager.backup(path)
    store = open_store(path)
    stock = store.make(Kind.DICT, name="stock")
    stock["two"] = 2
    assert dict(stock) == {"one": 1, "two": 2}


NOTES: dict[str, Callable[[bytes], bytes]] = {
    "a changed byte": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "cut": lambda data: data[: len(data) // 2],
    "junk": lambda data: os.urandom(len(data)),
    "deep": lambda _: b"[" * 100_000,
}


@contextlib.contextmanager
def held_open(path: Path) -> Iterator[int]:
    """Another process has the store open, and does nothing; its number."""
    ready, go_on = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        store = open_store(path)
        os.write(ready[1], b"x")
        os.read(go_on[0], 1)
        del store
        os._exit(0)
    try:
        os.read(ready[0], 1)
        yield pid
    finally:
        os.write(go_on[1], b"x")
        os.waitpid(pid, 0)
        for fd in (*ready, *go_on):
            os.close(fd)


@pytest.mark.parametrize("how", NOTES)
def test_damaged_notes_are_one_clear_error(tmp_path: Path, how: str) -> None:
    make(tmp_path)
    with held_open(tmp_path) as pid:
        notes = tmp_path / "notes"
        notes.write_bytes(NOTES[how](notes.read_bytes()))
        with pytest.raises(StoreCorrupt, match=rf"notes is damaged: .*process {pid}.* end all"):
            open_store(tmp_path)
    assert open_store(tmp_path).make(Kind.DICT, name="stock")["sound"] == 1


def test_a_store_that_was_cut_while_others_have_it_open_is_not_joined(tmp_path: Path) -> None:
    make(tmp_path)
    whole = (tmp_path / "data.mdb").read_bytes()
    with held_open(tmp_path):
        os.truncate(tmp_path / "data.mdb", 3 * 4096)
        with pytest.raises(StoreCorrupt, match=r"not a sound store: .*it was cut"):
            open_store(tmp_path)
        (tmp_path / "data.mdb").write_bytes(whole)
        assert open_store(tmp_path).make(Kind.DICT, name="stock")["sound"] == 1


@pytest.mark.parametrize("name", ["notes", "origin", "holders", "lock.mdb"])
def test_junk_in_a_file_beside_the_data_does_no_harm(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    for junk in (b"", b"\xff" * 100, os.urandom(20_000)):
        (tmp_path / name).write_bytes(junk)
        assert open_store(tmp_path).make(Kind.DICT, name="stock")["sound"] == 1
        gc.collect()
