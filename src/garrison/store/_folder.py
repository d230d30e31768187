"""The folder of a store: its files' names, and whether garrison may use them.

A folder of the user may hold files of the same names that are no store's; they are never changed.
"""

from __future__ import annotations

import contextlib
import os

from garrison._os import file_trust
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DATA",
    "HOLDERS",
    "NOTES",
    "ORIGIN",
    "OWNER_TEXT_BYTES",
    "open_data",
    "open_store_folder",
]

DATA, READERS, HOLDERS, ORIGIN, NOTES = "data.mdb", "lock.mdb", "holders", "origin", "notes"
OWNER_TEXT_BYTES = 200
"""Bytes at the beginning of `holders` that name the server of the directory."""
_OWNER_TEXT = b"process "


def open_store_folder(path: str) -> int:
    """Open the folder of a store, or one that may become it.

    Raises
    ------
    UntrustedFile
        If another user can change it, or a file of the store in it.
    FileExistsError
        If it has a file that is no store's, but would be replaced.
    """
    folder = file_trust.open_folder(path)
    try:
        there = {
            name for name in (DATA, READERS, HOLDERS, ORIGIN, NOTES) if _is_ours(folder, name, path)
        }
        if DATA not in there:
            _check_foreign(folder, there, path)
    except BaseException:
        os.close(folder)
        raise
    return folder


@contextlib.contextmanager
def open_data(path: str) -> Iterator[tuple[int, int]]:
    """Open the folder of a store, and the file with its data to be read: two descriptors.

    Raises
    ------
    FileNotFoundError
        If there are no data.
    UntrustedFile
        As for `open_store_folder`.
    """
    folder = open_store_folder(path)
    try:
        fd = file_trust.open_in(folder, DATA, os.O_RDONLY, path)
        try:
            yield folder, fd
        finally:
            os.close(fd)
    finally:
        os.close(folder)


def _is_ours(folder: int, name: str, path: str) -> bool:
    """Whether there is a file of this name; raise if another user can change it, or it is a link.

    It is not opened: to close it would drop the locks that this process may have on it.
    """
    where = f"{path}/{name}"
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    file_trust.check_plain_file(status, where, where)
    return True


def _check_foreign(folder: int, there: set[str], path: str) -> None:
    """Raise if a folder without data has files that a store would replace."""
    foreign = NOTES if NOTES in there and ORIGIN not in there else ""
    if HOLDERS in there and not _names_a_server(folder):
        foreign = HOLDERS
    if foreign:
        raise FileExistsError(
            f"{path} is no store, and has a file {foreign!r}, which a store would replace: give "
            "a new or empty folder"
        )


def _names_a_server(folder: int) -> bool:
    """Whether `holders` is what a store leaves there before it has data."""
    fd = os.open(HOLDERS, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with contextlib.closing(os.fdopen(fd, "rb")) as file:
        text = file.read(OWNER_TEXT_BYTES + 1)
    return not text.strip(b"\0 ") or (
        len(text) <= OWNER_TEXT_BYTES and text.startswith(_OWNER_TEXT)
    )
