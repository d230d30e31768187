"""Functions that scenarios run in workers."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from .subject import PATIENCE, Hangs

FOREVER = 1000.0


def square(x: int) -> int:
    """Return the square."""
    return x * x


def double_first(block: bytes) -> int:
    """Return twice the first byte of a block, to show that the block arrived."""
    return 2 * block[0]


def block_of(size: int) -> bytes:
    """Return a block of `size` bytes."""
    return b"x" * size


def sleep_and_return(seconds: float, value: Any = None) -> Any:
    """Take some time."""
    time.sleep(seconds)
    return value


def tell(address: bytes, text: str = "") -> None:
    """Say something to an `Ear`, and which process says it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(f"{os.getpid()} {text}".encode(), address)


def tell_and_sleep(address: bytes, seconds: float = FOREVER, value: Any = None) -> Any:
    """Say that the task has begun, take some time, return `value`."""
    tell(address)
    time.sleep(seconds)
    return value


class Ear:
    """Hears when tasks begin: a datagram socket without a name in any folder."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")
        self.address: bytes = self._socket.getsockname()

    def __enter__(self) -> Ear:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hear(self, count: int = 1) -> list[int]:
        """Wait for `count` messages; return the pids of their senders."""
        self._socket.settimeout(PATIENCE)
        try:
            return [int(self._socket.recv(1000).split()[0]) for _ in range(count)]
        except TimeoutError:
            message = "a task has not begun"
            raise Hangs(message) from None


def signal_and_return(pid: int, number: int, seconds: float, value: Any = None) -> Any:
    """Send a signal to a process, take some time, return `value`."""
    os.kill(pid, number)
    time.sleep(seconds)
    return value


def die(how: str) -> NoReturn:
    """End this process in one of the ways of `DEATHS`."""
    DEATHS[how]()
    message = f"survived {how}"
    raise AssertionError(message)


def die_once(path: str, value: Any) -> Any:
    """Kill this worker in the first call, return `value` in the next."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return value
    die("SIGKILL")


def die_or_square(x: int, victim: int) -> int:
    """Kill this worker if `x` is the victim."""
    if x == victim:
        die("SIGKILL")
    return x * x


def raise_it(kind: type[BaseException], *args: Any) -> NoReturn:
    """Raise an exception of this kind."""
    raise kind(*args)


def _segfault() -> None:
    ctypes.string_at(0)


def _c_exit() -> None:
    ctypes.CDLL(None).exit(3)


DEATHS: dict[str, Callable[[], object]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": _segfault,
    "SIGABRT": os.abort,
    "os._exit(0)": lambda: os._exit(0),
    "os._exit(1)": lambda: os._exit(1),
    "sys.exit(3)": lambda: sys.exit(3),
    "exit(3) in C": _c_exit,
}
