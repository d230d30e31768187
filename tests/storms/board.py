"""What the processes of a storm have in common besides the store: journals, and a board of words.

Both are files that are mapped or appended to, so that what a process has written there stays when
it is killed.
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 45.0
"""Seconds after which something hangs."""
EXITING = 0x4
"""Among the flags of a process: it is about to be gone, and its descriptors may be."""
LOCKS = 3
"""Named locks; the place behind them on the board is that of the lock in shared memory."""
SLOTS = 16
"""Clients at a time."""
STOP, SERVER_GONE, LIFE = range(3)
_BEATS = 8
_INSIDE = _BEATS + 2 * SLOTS
_WORDS = _INSIDE + 2 * (LOCKS + 1)


def is_dying(pid: int) -> bool:
    """Whether a process is dead, or will not run any more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    fields = text.rpartition(")")[2].split()
    return fields[0] in "ZX" or bool(int(fields[6]) & EXITING)


class Overlap(AssertionError):
    """Two processes have the same lock, or a lease's number has not grown."""


class Board:
    """Words that all processes see: flags, what each client does, who is where inside."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(8 * _WORDS)
            self._words = memoryview(mmap.mmap(file.fileno(), 8 * _WORDS)).cast("Q")

    def __getitem__(self, flag: int) -> int:
        return self._words[flag]

    def __setitem__(self, flag: int, value: int) -> None:
        self._words[flag] = value

    def beat(self, slot: int, doing: int) -> None:
        """Say that another step has begun, and which."""
        self._words[_BEATS + 2 * slot + 1] = doing
        self._words[_BEATS + 2 * slot] += 1

    def appoint(self, slot: int) -> None:
        """Give a slot to a client that has not begun yet."""
        self._words[_BEATS + 2 * slot] = 0

    def beats(self, slot: int) -> tuple[int, int]:
        """How many steps a client has begun, and which one it is at."""
        return self._words[_BEATS + 2 * slot], self._words[_BEATS + 2 * slot + 1]

    @contextmanager
    def inside(self, lock: int, fence: int) -> Iterator[None]:
        """Be where only one may be; raise if somebody else is."""
        place = _INSIDE + 2 * lock
        pid, before = self._words[place], self._words[place + 1]
        if fence and fence <= before:
            raise Overlap(f"lease {fence:x} of lock {lock} comes after lease {before:x}")
        # A server that was started again does not know what its predecessor had granted.
        same_life = fence >> 40 == before >> 40
        if pid and same_life and not is_dying(pid):
            raise Overlap(f"process {pid} has lock {lock} (lease {before:x}), and so have we")
        self._words[place], self._words[place + 1] = os.getpid(), fence
        try:
            yield
        finally:
            if self._words[place] == os.getpid():
                self._words[place] = 0

    def holder(self, lock: int) -> int:
        """Who is inside, by its number; 0: nobody."""
        return self._words[_INSIDE + 2 * lock]

    def forget_loans(self) -> None:
        """Another store begins to count its loans anew."""
        for place in range(_INSIDE, _WORDS):
            self._words[place] = 0


@dataclass
class Account:
    """What a client has said of its steps of one kind."""

    begun: set[int] = field(default_factory=set)
    acked: set[int] = field(default_factory=set)
    undone: set[int] = field(default_factory=set)

    @property
    def unknown(self) -> set[int]:
        """What may have happened or not."""
        return self.begun - self.acked - self.undone


class Journal:
    """Where a client says what it begins, and what it knows to be done."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def begin(self, kind: str, number: int) -> None:
        """It may happen from now on."""
        os.write(self._fd, b"%s+%d\n" % (kind.encode(), number))

    def acked(self, kind: str, number: int) -> None:
        """It has happened."""
        os.write(self._fd, b"%s!%d\n" % (kind.encode(), number))

    def undone(self, kind: str, number: int) -> None:
        """It has not happened, and never will."""
        os.write(self._fd, b"%s-%d\n" % (kind.encode(), number))

    def wrong(self, text: str) -> None:
        """Something is as it must not be."""
        os.write(self._fd, b"?%s\n" % text.replace("\n", " | ").encode())


class Reader:
    """Reads a journal as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.accounts: dict[str, Account] = defaultdict(Account)
        self.wrong: list[str] = []

    def read(self) -> Reader:
        """Take in what has come since."""
        if not self._path.exists():
            return self
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            self._take(line)
        return self

    def _take(self, line: str) -> None:
        if line[0] == "?":
            self.wrong.append(line[1:])
            return
        account = self.accounts[line[0]]
        fate = {"+": account.begun, "!": account.acked, "-": account.undone}[line[1]]
        fate.add(int(line[2:]))
        if line[1] == "+":
            account.undone.discard(int(line[2:]))

    def close(self) -> None:
        """Nobody writes there any more."""
        self._path.unlink(missing_ok=True)
