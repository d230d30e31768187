"""Where processes that open one folder find what they share: the writers' lock, and the bells.

Both lie in memory, which is found through a process that has it. So whoever opens a folder leaves a
note there of where he has them, and who comes later follows a note to one that still lives::

    somebody lives (his byte in the file of holders is locked)?
      no  ──▶ make a lock and bells, begin the notes anew
      yes ──▶ follow a note; or, since a child by fork has them under the same numbers and leaves no
              note, look for whoever has the folder open, and follow the notes to him

All of it is done by one process at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison import _os
from garrison._core import StoreBusy
from garrison.errors import SharedMemoryGone
from garrison.memory._handles import _address, _visit
from garrison.sync import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.memory import Spot

    Shared = tuple[Lock, Spot]
    Note = list[Any]

__all__ = ["Meeting"]

MOST = 64
"""Notes that are kept: one for each set of numbers under which somebody has the memory."""
DYING = 5.0
"""Seconds that a process which was killed may take to let go of everything."""


class Meeting:
    """The notes in a folder; a context in which nobody else opens it.

    Parameters
    ----------
    path : str
        The folder.
    holders : int
        The file in which everybody who has it open has locked a byte.
    """

    def __init__(self, path: str, holders: int) -> None:
        self._path = path
        self._notes = Path(path, "notes")
        self._holders = holders

    def __enter__(self) -> Meeting:
        self._fd = os.open(f"/proc/self/fd/{self._holders}", os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def find(self) -> Shared | None:
        """Return what others share; nothing if there are no others.

        Raises
        ------
        StoreBusy
            If they cannot be reached.
        """
        end = time.monotonic() + DYING
        while _os.is_byte_locked(self._fd, 1, to_the_end=True):
            for shared in self._reachable():
                return shared
            if time.monotonic() > end:
                raise StoreBusy(
                    f"{self._path} is open in {self._who()} whose memory cannot be reached from "
                    "here: of another user, or in another container; connect to its server "
                    "(garrison.connect), or stop it first"
                )
            time.sleep(0.001)  # one that is dying closes its files in some order
        self._notes.unlink(missing_ok=True)
        return None

    def leave_note(self, shared: Shared) -> None:
        """Say where this process has what it shares."""
        lock, bells = shared
        spot, *rest = lock._place
        mine = json.loads(json.dumps([_address(spot), rest, _address(bells)]))
        notes = [note for note in self._read() if _numbers(note) != _numbers(mine)]
        text = "".join(f"{json.dumps(note)}\n" for note in [*notes[1 - MOST :], mine])
        new = self._notes.with_suffix(".new")
        with open(new, "w", opener=_privately, encoding="ascii") as file:
            file.write(text)
        new.replace(self._notes)

    def _read(self) -> list[Note]:
        try:
            return [json.loads(line) for line in self._notes.read_text("ascii").splitlines()]
        except FileNotFoundError:
            return []

    def _reachable(self) -> Iterator[Shared]:
        """Follow the notes, first to those who have left them."""
        notes = self._read()[::-1]
        for note in notes:
            yield from _followed(note, None)
        for pid in _os.who_has_open(self._fd):
            for note in notes:
                yield from _followed(note, pid)

    def _who(self) -> str:
        pids = list(_os.who_has_open(self._fd))
        return f"process {', '.join(map(str, pids))}," if pids else "a process"


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _numbers(note: Note) -> Any:
    """Return what a note says, but for the process."""
    return [(each[0], each[3][1:], each[4]) for each in (note[0], note[2])]


def _followed(note: Note, pid: int | None) -> Iterator[Shared]:
    """Open what a note tells of, in the process that has left it or in another."""
    with contextlib.suppress(SharedMemoryGone):
        lock, place, bells = note
        spot = _opened(lock, pid)
        yield Lock._at(spot, *place), _opened(bells, pid)


def _opened(address: Any, pid: int | None) -> Spot:
    chunk, length, family, sender, place = address
    if pid is not None:
        sender = [pid, *sender[1:]]
    return _visit(tuple(chunk), length, tuple(family), sender, place)
