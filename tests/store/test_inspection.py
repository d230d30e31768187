"""`garrison check`: it says what is damaged and what is lost, and changes nothing."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import garrison
from damage import PAGE
from garrison.cli import main
from garrison.store import Kind, inspect_folder, open_directory

MARK = b"a text that is found in the file"
ITEMS = 500


def open_store(path: Path) -> Any:
    return open_directory(path, sync=False, size=64 << 20)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound")
    store = open_store(path)
    numbers = {f"key{number}": number for number in range(ITEMS)}
    store.make(Kind.DICT, numbers, name="numbers")
    store.make(Kind.DICT, {"small": MARK, "large": MARK * 500, ("t", 1): [MARK]}, name="texts")
    store.make(Kind.LIST, [1, [2, {3}], None, 4.5, "x" * 5000], name="list")
    queue = store.make(Kind.QUEUE, name="queue")
    queue.put(1)
    store.make(Kind.ARRAY, "i", [1, 2], name="array")
    del store, queue
    gc.collect()
    return path


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    return {
        each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in sorted(path.iterdir())
    }


def damaged(sound: Path, path: Path, change: Callable[[bytearray], None]) -> Path:
    shutil.copytree(sound, path)
    data = bytearray((path / "data.mdb").read_bytes())
    change(data)
    (path / "data.mdb").write_bytes(data)
    return path


def test_a_sound_store_is_sound_and_not_changed(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(sound)
    assert main(["check", str(sound)]) == 0
    assert contents(sound) == before
    assert f"{sound}: sound (" in capsys.readouterr().out


def test_a_damaged_value_is_named(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(data: bytearray) -> None:
        data[data.index(MARK * 2) + 3] ^= 1

    path = damaged(sound, tmp_path / "copy", change)
    before = contents(path)
    assert main(["check", str(path)]) == 1
    assert contents(path) == before
    said = capsys.readouterr().out
    assert "the sum of a record is wrong" in said
    assert "Dict 'texts' (number 2): 1 of 3 items are lost" in said
    assert "Dict 'texts' (number 2): the item 'large' is damaged" in said
    assert "numbers" not in said


def test_a_damaged_page_costs_its_items_only(sound: Path, tmp_path: Path) -> None:
    def change(data: bytearray) -> None:
        page = data.index(b"key250") // PAGE * PAGE
        data[page + 12] ^= 0xFF

    found = inspect_folder(str(damaged(sound, tmp_path / "copy", change)))
    assert len(found.damage) == 1
    assert "the bounds of its free space cannot be" in found.damage[0]
    (line,) = found.lost
    lost = int(line.removeprefix("Dict 'numbers' (number 1): ").split()[0])
    assert 0 < lost < ITEMS / 2


def test_without_a_head_nothing_can_be_told(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(data: bytearray) -> None:
        data[0:PAGE] = bytes(PAGE)

    path = damaged(sound, tmp_path / "copy", change)
    assert main(["check", str(path)]) == 1
    assert "everything" in capsys.readouterr().out


def test_records_that_do_not_agree_are_found(sound: Path, tmp_path: Path) -> None:
    """A backup of a store in memory has no sums, so its head can be changed unseen."""
    with garrison.Manager() as manager:
        manager.dict("stock", {f"key{number}": number for number in range(7)})
        manager.backup(tmp_path / "backup")

    def change(data: bytearray) -> None:
        lengths = (7).to_bytes(8, "little") * 2
        while lengths in data:
            at = data.index(lengths)
            data[at : at + 8] = (8).to_bytes(8, "little")

    found = inspect_folder(str(damaged(tmp_path / "backup", tmp_path / "copy", change)))
    assert not found.has_sums
    assert found.damage == ["1 has length 8, 7 items, and 7 in order"]
    assert inspect_folder(str(tmp_path / "backup")).damage == []
    assert inspect_folder(str(sound)).has_sums


def test_a_store_in_use_is_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with garrison.Manager(path=tmp_path) as manager:
        manager.dict("stock", one=1)
        command = [sys.executable, "-m", "garrison", "check", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"garrison check: {tmp_path} is in use" in done.stderr
    assert main(["check", str(tmp_path / "missing")]) == 2
    assert "garrison check:" in capsys.readouterr().err


def test_an_empty_folder_has_no_store(tmp_path: Path) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []
