"""What the tests of executors send to workers."""

from __future__ import annotations

import multiprocessing
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


def who() -> tuple[str, bool]:
    me = multiprocessing.current_process()
    return me.name, me.daemon


def with_state(state: list[int], number: int) -> int:
    assert state == []
    return number * 11


def fail_at_zero(number: int) -> int:
    if number == 0:
        raise ValueError(number)
    return number


def length(values: list[int]) -> int:
    assert type(values) is list
    return len(values)
