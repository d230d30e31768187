"""Backups, and folders of stores that were copied: whole ones are opened, others refused."""

from __future__ import annotations

import gc
import multiprocessing
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.errors import StoreCorrupt

ITEMS = 3000


def fill(shared: Any, number: int) -> None:
    for first in range(0, ITEMS, 500):
        keys = range(first, first + 500)
        shared.update({(key * 7919) % ITEMS: ("x" * (key % 300), number) for key in keys})


def write_until(manager: Any, shared: Any, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        with manager.transaction():
            for key in range(20):
                shared[(number * 7919 + key) % 500] = "x" * (number % 300)
            shared["number"] = shared["again"] = number


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_backup_is_one_state_of_a_store_that_is_written(tmp_path: Path, where: str) -> None:
    path = tmp_path / "store" if where == "folder" else None
    with garrison.Manager(path=path) as manager:
        shared, stop = manager.dict("shared"), threading.Event()
        shared["nested"] = {"a": [1]}
        writer = threading.Thread(target=write_until, args=(manager, shared, stop))
        writer.start()
        try:
            for number in range(3):
                manager.backup(tmp_path / f"backup{number}")
        finally:
            stop.set()
            writer.join()
        for number in range(3):
            with garrison.Manager(path=tmp_path / f"backup{number}") as other:
                found = other.dict("shared")
                assert found.get("number") == found.get("again")
                assert found["nested"] == {"a": [1]}
                assert other.store.backend.audit() == []
                found["more"] = 1
        assert "more" not in shared


def test_backup_overwrites_nothing(tmp_path: Path) -> None:
    with garrison.Manager() as manager:
        with pytest.raises(FileExistsError):
            manager.backup(tmp_path)
        with manager.transaction(), pytest.raises(RuntimeError, match="transaction"):
            manager.backup(tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_directory_copied_during_writes_is_refused(tmp_path: Path) -> None:
    path, copy = tmp_path / "store", tmp_path / "copy"
    with garrison.Manager(path=path) as manager:
        shared = manager.dict("shared")
        fill(shared, 0)
        shutil.copytree(path, copy)
        middle = (path / "data.mdb").stat().st_size // 8
        for number in range(1, 4):
            fill(shared, number)
        # What was read late is of another state than what was read first.
        with (path / "data.mdb").open("rb") as late, (copy / "data.mdb").open("r+b") as file:
            late.seek(middle)
            file.seek(middle)
            file.write(late.read())
    with pytest.raises(StoreCorrupt, match=r"copied while it was written.*backup"):
        garrison.Manager(path=copy)
    assert_opens(path, ITEMS)


def test_a_process_that_copies_its_own_folder_reads_on(tmp_path: Path) -> None:
    """Its locks of a file go when it closes any descriptor of it: others take it for dead."""
    with garrison.Manager(path=tmp_path / "store") as manager:
        shared = manager.dict("shared")
        fill(shared, 0)
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        writer = multiprocessing.get_context("spawn").Process(target=grow, args=(shared,))
        writer.start()
        writer.join()
        assert writer.exitcode == 0
        assert len(shared) == ITEMS + 1
        fill(shared, 1)
        assert shared[0][1] == 1


def grow(shared: Any) -> None:
    """Who writes looks for dead readers when the file has grown."""
    for number in range(40):
        shared["large"] = bytes([number]) * (1 << 20)


def assert_opens(path: Path, length: int) -> None:
    gc.collect()
    with garrison.Manager(path=path) as manager:
        assert len(manager.dict("shared")) == length


@pytest.mark.parametrize("how", [shutil.copytree, Path.rename])
def test_idle_directory_may_be_copied_and_moved(tmp_path: Path, how: Any) -> None:
    with garrison.Manager(path=tmp_path / "store") as manager:
        fill(manager.dict("shared"), 0)
    gc.collect()
    how(tmp_path / "store", tmp_path / "other")
    assert_opens(tmp_path / "other", ITEMS)
    assert_opens(tmp_path / "other", ITEMS)


def open_and_fill(path: Path) -> None:
    with garrison.Manager(path=path) as manager:
        fill(manager.dict("shared"), 0)


def test_a_copy_without_its_data_is_refused(tmp_path: Path) -> None:
    made = multiprocessing.get_context("fork").Process(target=open_and_fill, args=(tmp_path,))
    made.start()
    made.join()
    (tmp_path / "data.mdb").unlink()
    with pytest.raises(StoreCorrupt, match=r"data\.mdb is missing"):
        garrison.Manager(path=tmp_path)


def test_a_copy_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    path, copy = tmp_path / "store", tmp_path / "copy"
    with garrison.Manager(path=path) as manager:
        fill(manager.dict("shared"), 0)
    gc.collect()
    shutil.copytree(path, copy)
    with (copy / "data.mdb").open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(StoreCorrupt, match="not a sound store"):
        garrison.Manager(path=copy)
