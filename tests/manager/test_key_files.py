"""Key files that another user can change are refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import garrison
from foreign_files import give_away
from garrison.errors import UntrustedFile
from garrison.manager import read_key

KEY = b"a long random text, for tests only"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_key_file_that_all_may_write_to_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(UntrustedFile, match=f"chmod go-w.*{key_file}") as caught:
        garrison.Manager(address=("127.0.0.1", 0), key=key_file)
    assert KEY.decode() not in str(caught.value)


def test_key_file_of_another_user_is_refused(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(key_file, monkeypatch)
    with pytest.raises(UntrustedFile, match=f"belongs to user.*{key_file}"):
        read_key(key_file)


def test_link_of_another_user_to_a_key_is_refused(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(key_file)
    assert read_key(link) == KEY
    give_away(link, monkeypatch)
    with pytest.raises(UntrustedFile, match="symbolic link of user"):
        read_key(link)


def test_key_is_read_from_a_pipe_of_ones_own(tmp_path: Path) -> None:
    """As with `--key-file <(pass show garrison)`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    writer = threading.Thread(target=pipe.write_bytes, args=(KEY,))
    writer.start()
    assert read_key(pipe) == KEY
    writer.join()
