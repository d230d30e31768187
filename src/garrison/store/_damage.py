"""Whether the data in a folder can be read at all: looked at before LMDB is let read them.

LMDB believes what its file says. A file that was cut, or has changed bytes, would end the process
by a signal. So the first process that opens a folder walks through all pages, as long as no other
one can write to them. Large values are not read there: each value has a sum, which is checked when
it is read.
"""

from __future__ import annotations

import contextlib
import os

from garrison import _core
from garrison._typing import TYPE_CHECKING
from garrison.errors import StoreCorrupt
from garrison.store._folder import DATA, ORIGIN, open_data

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_pages", "check_size", "not_sound"]

SMALL_BYTES = 256 << 20
"""A store is walked through by default up to here, which takes less than a second."""
TORN_READS = 5
"""How often the head of a file may be read while another process writes it."""


def not_sound(path: str, problem: object) -> StoreCorrupt:
    """Return the error for a store that is damaged."""
    return StoreCorrupt(
        f"{path} is not a sound store: {problem}. It is damaged, or was copied while it was "
        f"written: restore it from a backup, which manager.backup() makes; `garrison check {path}` "
        "says what is lost"
    )


def check_pages(path: str, *, check: bool | None, restarted: bool) -> None:
    """Raise if a store that no process has open cannot be read.

    Parameters
    ----------
    path : str
        The folder.
    check : bool, optional
        Whether to walk through all pages; by default if the store is small, or `restarted`.
    restarted : bool
        Whether the machine has been restarted since the store was last opened. Writes that had not
        reached the disk are lost then.

    Raises
    ------
    StoreCorrupt
        If it is damaged.
    """

    def look(folder: int, fd: int) -> None:
        used, is_whole = _core.store_bytes(fd)
        if not used and _is_recorded(folder):
            raise StoreCorrupt(f"its {DATA} is empty")
        wanted = used <= SMALL_BYTES or restarted if check is None else check
        # A file may lack pages at its end that are free: the walk knows.
        if wanted or not is_whole:
            _core.check_store_pages(fd)

    _with_data(path, look)


def check_size(path: str) -> None:
    """Raise if the file of a store that other processes write to was cut.

    Raises
    ------
    StoreCorrupt
        If it is shorter than its pages.
    """

    def look(_: int, fd: int) -> None:
        for attempt in range(TORN_READS):
            try:
                _, is_whole = _core.store_bytes(fd)
                if not is_whole:
                    _core.check_store_pages(fd)
            except StoreCorrupt:
                if attempt == TORN_READS - 1:
                    raise
            else:
                return

    _with_data(path, look)


def _is_recorded(folder: int) -> bool:
    """Whether there were data once."""
    try:
        os.stat(ORIGIN, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _with_data(path: str, look: Callable[[int, int], None]) -> None:
    with contextlib.suppress(FileNotFoundError), open_data(path) as (folder, fd):
        try:
            look(folder, fd)
        except StoreCorrupt as error:
            raise not_sound(path, error) from None
