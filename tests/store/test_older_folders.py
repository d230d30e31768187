"""A folder that an earlier garrison has written is read and written on, in its own version."""

from __future__ import annotations

import lzma
import subprocess
import sys
from pathlib import Path

import pytest

import garrison

FOLDERS = Path(__file__).parent / "folders"
"""A dict "stock" with a list, a dict, a tuple, a set, and 20 numbers: before there were runs
(version 2), and before a dict's order had some (version 3)."""


def read_and_write_on(folder: Path) -> None:
    with garrison.Manager(path=folder) as manager:
        stock = manager.dict("stock")
        assert list(stock) == ["list", "dict", "tuple", "set", *(f"k{n}" for n in range(20))]
        assert list(stock["list"]) == list(range(40))
        assert stock["dict"]["a"] == 1
        assert list(stock["dict"]["b"]) == [1, 2]
        assert stock["tuple"] == (1, "x")
        assert set(stock["set"]) == {1, 2}
        stock["list"].extend(range(40, 140))
        stock["list"][3] = "three"
        stock["list"].insert(70, "here")
        del stock["list"][70]
        stock["dict"]["c"] = 3
        stock.update({f"new{n}": {"a": n} for n in range(30)})
        del stock["new5"]
        stock["new7"]["a"] = "seven"


def read_again(folder: Path) -> None:
    with garrison.Manager(path=folder, check=True) as manager:
        stock = manager.dict("stock")
        assert list(stock["list"]) == [0, 1, 2, "three", *range(4, 140)]
        assert dict(stock["new7"]) == {"a": "seven"}
        assert dict(stock["new8"]) == {"a": 8}
        assert list(stock)[-3:] == ["new27", "new28", "new29"]
        assert list(stock)[24:30] == ["new0", "new1", "new2", "new3", "new4", "new6"]
        assert list(stock["dict"]) == ["a", "b", "c"]
        manager.backup(folder.parent / "copy")


@pytest.mark.parametrize("version", [2, 3])
def test_a_folder_of_an_older_version_is_read_and_written_on(tmp_path: Path, version: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    packed = (FOLDERS / f"version-{version}.mdb.xz").read_bytes()
    (folder / "data.mdb").write_bytes(lzma.decompress(packed))
    read_and_write_on(folder)
    read_again(folder)
    check = [sys.executable, "-m", "garrison", "check", str(tmp_path / "copy")]
    said = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "sound" in said.stdout
