"""What the processes that use a store share besides its files: the writers' lock, and the bells.

Both lie in memory, which is found through a process that has it: the one that tells of it, or any
other. Who opens a folder has been told by nobody. So whoever has done so leaves a note there, and
who comes later follows it::

    somebody lives (his byte in the file of holders is locked)?
      no  ──▶ make a lock and bells, begin the notes anew
      yes ──▶ follow a note

One process at a time does that.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

from garrison import _os
from garrison._byte_locks import ByteLocks
from garrison._core import Descriptor
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import SharedMemoryGone, StoreBusy
from garrison.memory import Spot
from garrison.memory.handles import address_of, open_address
from garrison.sync import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    Shared = tuple[Lock, Spot]
    Note = list[Any]

__all__ = ["Meeting", "described", "found", "fresh"]

BELLS = 4096
"""Bytes of the words that waiters sleep on."""


def fresh() -> Shared:
    """Make what is shared."""
    return Lock(on_abandon="ignore"), Spot(BELLS)


def described(shared: Shared) -> Note:
    """Say where it is, as long as anybody has it."""
    lock, bells = shared
    spot, *rest = lock._location
    return [_place(spot), rest, _place(bells)]


def _place(spot: Spot) -> Note:
    chunk, length, family, sender, place = address_of(spot)
    _, fd, family_fd, *_ = sender
    return [chunk, length, family, sender, place, [_os.file_id(fd), _os.file_id(family_fd)]]


def found(note: Note) -> Shared:
    """Return what was described.

    Raises
    ------
    SharedMemoryGone
        If nobody has it any more.
    """
    lock, rest, bells = note
    return Lock._from_block(_reached(*lock), *rest), _reached(*bells)


def _reached(chunk: Any, length: int, family: Any, sender: Any, place: Any, marks: Any) -> Spot:
    where = tuple(chunk), length, tuple(family)
    try:
        return open_address(*where, sender, place)
    except SharedMemoryGone:
        host = sender[3]
        for pid, fds in _os.find_processes_with_open_files(marks):
            with contextlib.suppress(SharedMemoryGone):
                return open_address(*where, (pid, *fds, host, ""), place)
        raise


MOST = 64
"""Notes that are kept: one for each set of numbers under which somebody has the memory."""
DYING = 5.0
"""Seconds that a process which was killed may take to let go of everything."""


_kept: list[ByteLocks] = []
"""Files that must not be closed, since this process would lose its locks on others' behalf."""


class Meeting:
    """The notes in a folder; a context in which nobody else opens it.

    Parameters
    ----------
    path : str
        The folder.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._notes = Path(path, "notes")

    def __enter__(self) -> Meeting:
        self._locks = ByteLocks(
            Descriptor(os.open(f"{self._path}/holders", os.O_RDWR | os.O_CLOEXEC))
        )
        fcntl.flock(self._locks.fileno(), fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._locks.fileno(), fcntl.LOCK_UN)
        if self._locks.end_with_any_descriptor:
            _kept.append(self._locks)
        else:
            self._locks.close()

    def find(self) -> Shared | None:
        """Return what others share; nothing if there are no others.

        Raises
        ------
        StoreBusy
            If they cannot be reached.
        """
        end = time.monotonic() + DYING
        while self._locks.is_locked(1, to_the_end=True):
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
        mine = json.loads(json.dumps(described(shared)))
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
        """Follow the notes, the last one first."""
        for note in self._read()[::-1]:
            with contextlib.suppress(SharedMemoryGone):
                yield found(note)

    def _who(self) -> str:
        pids = [
            pid
            for pid, _ in _os.find_processes_with_open_files([_os.file_id(self._locks.fileno())])
        ]
        return f"process {', '.join(map(str, pids))}," if pids else "a process"


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _numbers(note: Note) -> Any:
    """Return what a note says, but for the process."""
    return [(each[0], each[3][1:4], each[4]) for each in (note[0], note[2])]
