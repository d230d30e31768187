"""What the tests of executors send to workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

KEPT: list[int] = []


def add(a: int, b: int = 0) -> int:
    return a + b


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(code: int) -> NoReturn:
    sys.exit(code)


def unpicklable() -> Any:
    return threading.Lock()


def report_and_wait(begun: Any, gate: Any) -> int:
    begun.put(os.getpid())
    gate.wait()
    return os.getpid()


def report_and_leave() -> int:
    return os.getpid()


def keep(number: int) -> None:
    KEPT.append(number)


def kept() -> list[int]:
    return KEPT


def break_down() -> NoReturn:
    raise OSError("no such disk")


class LeavesWhenUnpickled:
    """Its unpickling calls `sys.exit`."""

    def __reduce__(self) -> Any:
        return leave, (1,)


def leaves_when_unpickled() -> LeavesWhenUnpickled:
    return LeavesWhenUnpickled()


def answer_or_die(number: int) -> int:
    if number % 10 == 3:
        die()
    return number
