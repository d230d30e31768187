"""What the workers run: a module of its own, so that every library sends it by name."""

from __future__ import annotations

import contextlib
import functools
import time
from pathlib import Path
from typing import Any


def nothing(x: Any) -> Any:
    """The tiny task."""
    return x


def pause(seconds: float) -> None:
    """Occupy a worker, not a core."""
    time.sleep(seconds)


def spin(seconds: float) -> None:
    """Compute for so long, by the clock of this thread's own processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(50):  # else it would be system calls that are measured
            pass


def hold(array: Any) -> Any:
    """Give the array back after a while, so that each worker gets one."""
    time.sleep(0.05)
    return array


def touch(array: Any) -> float:
    """Read one number of every page, as whoever uses the array would at least."""
    return float(array[:: 4096 // array.itemsize].sum())


def give(size: int) -> Any:
    """An array of `size` bytes that was there before: only its way to the caller takes time."""
    return _array(size)


def make(size: int) -> Any:
    """A new array of `size` bytes."""
    import numpy as np

    return np.ones(size // 8)


@functools.lru_cache(maxsize=1)
def _array(size: int) -> Any:
    return make(size)


def note_and_pause(path: str) -> None:
    """Say that it has begun, and sleep."""
    Path(path).touch()
    time.sleep(600)


def note_and_ignore(path: str) -> None:
    """Say that it has begun, and sleep whatever comes."""
    Path(path).touch()
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def note_or_fail(call: str) -> None:
    """Note a call, "PATH:NUMBER"; number 0 fails, and the others take a while."""
    path, _, number = call.rpartition(":")
    with Path(path).open("ab") as file:
        file.write(b".")
    if number == "0":
        raise LookupError(number)
    time.sleep(0.002)
