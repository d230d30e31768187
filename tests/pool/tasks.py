"""Functions for workers, and means for processes to meet."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from pathlib import Path
from typing import Any, NoReturn


class Door:
    """Two processes meet here, once: `push` and `wait` return when both were called."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = str(folder / name)
        os.mkfifo(self.path)

    def push(self) -> None:
        Path(self.path).write_bytes(b".")

    def wait(self) -> None:
        Path(self.path).read_bytes()


class Tally:
    """Counts calls over all processes, whatever becomes of them."""

    def __init__(self, folder: Path, name: str = "tally") -> None:
        self.path = str(folder / name)

    def add(self, mark: str = ".") -> int:
        """Note a call, and return how many had this mark."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{mark}\n".encode())
        os.close(file)
        return self.marks().count(mark)

    def marks(self) -> list[str]:
        path = Path(self.path)
        return path.read_text().split() if path.exists() else []

    @property
    def total(self) -> int:
        return len(self.marks())


def identity(value: Any) -> Any:
    return value


def square(n: int) -> int:
    return n * n


def own_pid(*_: object) -> int:
    return os.getpid()


def forever(*_: object) -> NoReturn:
    while True:
        signal.pause()


def fail(error: BaseException) -> NoReturn:
    raise error


def push_and_wait(first: Door, second: Door) -> int:
    first.push()
    second.wait()
    return os.getpid()


def meet(door: Door, pushes: bool) -> int:
    """Needs another worker at the same time."""
    (door.push if pushes else door.wait)()
    return os.getpid()


def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    forever()


def crash() -> None:
    ctypes.string_at(0)


def die_at_first(tally: Tally, item: object = "") -> Any:
    """Kill the worker at the first call with this item."""
    if tally.add(str(item) or ".") == 1:
        die()
    return item


def raise_at_first(tally: Tally, times: int, error: Exception) -> int:
    """Raise at so many calls; then tell how many there were."""
    attempt = tally.add()
    if attempt <= times:
        raise error
    return attempt


def hold_gil() -> int:
    return sum(range(10**15))


def threads() -> int:
    return threading.active_count()


def fail_at_threes(value: int) -> int:
    if value % 3 == 0:
        raise ValueError("no", value)
    return value


def die_at_five(value: int) -> int:
    if value == 5:
        os._exit(7)
    return fail_at_threes(value)


def divide(left: int, right: int) -> int:
    return left // right
