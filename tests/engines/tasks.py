"""Functions for the workers of any engine, and marks that they leave in files."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

WAIT_S = 20.0
given: Any = None
"""What the initializer was given."""


class Marks:
    """Counts calls over all workers, whatever becomes of them."""

    def __init__(self, path: object) -> None:
        self.path = str(path)

    def add(self) -> int:
        """Note a call; return how many there were."""
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, b".")
        os.close(file)
        return self.count()

    def count(self) -> int:
        path = Path(self.path)
        return path.stat().st_size if path.exists() else 0

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.count() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.count()} of {count} marks")
            time.sleep(0.002)


def square(n: int) -> int:
    return n * n


def identity(value: Any) -> Any:
    return value


def add(first: int, second: int = 0, *, third: int = 0) -> int:
    return first + second + third


def pid(*_: object) -> int:
    return os.getpid()


def mark(marks: Marks, value: Any = None) -> Any:
    marks.add()
    return value


def meet(marks: Marks) -> bool:
    """Return once two tasks are in here."""
    marks.add()
    marks.wait_for(2)
    return True


def wait_for(marks: Marks, count: int, value: Any = None) -> Any:
    marks.wait_for(count)
    return value


def stay(marks: Marks, seconds: float = 600) -> None:
    """Mark the begin, and stay."""
    marks.add()
    time.sleep(seconds)  # an interrupt within an Event's wait may become another exception


def begin_and_wait(begun: Marks, go: Marks) -> int:
    begun.add()
    go.wait_for(1)
    return 1


def return_after(go: Marks) -> None:
    go.wait_for(1)


def fail_first(call: tuple[Marks, int]) -> None:
    begun, number = call
    begun.add()
    if number == 0:
        raise LookupError(number)


# --- Initializers ---------------------------------------------------------------------------------


def begin(value: Any) -> None:
    global given  # noqa: PLW0603 - it is what initializers do
    given = value


def what_was_given(*_: object) -> Any:
    return given


def begin_badly() -> NoReturn:
    raise LookupError("no such database")


# --- Random numbers -------------------------------------------------------------------------------


def draw(*_: object) -> float:
    return random.random()


# --- Errors ---------------------------------------------------------------------------------------


class OwnError(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text, code)
        self.code = code


class BadlyMadeError(Exception):
    """Cannot be unpickled: its arguments are not those of `__init__`."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


class UnpicklableError(Exception):
    def __init__(self) -> None:
        super().__init__("with a lock")
        self.lock = threading.Lock()


def fail(error: BaseException) -> NoReturn:
    raise error


def fail_at(n: int, bad: int) -> int:
    if n == bad:
        raise ValueError(f"item {n}")
    return n


def fail_deep_inside(n: int) -> NoReturn:
    def innermost() -> NoReturn:
        raise OwnError("deep", n)

    innermost()


def fail_with_cause() -> None:
    try:
        int("x")
    except ValueError as error:
        raise OwnError("with a cause", 3) from error


def fail_with_context() -> None:
    try:
        int("x")
    except ValueError:
        raise OwnError("with a context", 3)  # noqa: B904 - that is the point


def fail_badly_made() -> NoReturn:
    raise BadlyMadeError("one", "two")


def fail_unpicklable() -> NoReturn:
    raise UnpicklableError


def make_lock() -> Any:
    return threading.Lock()


def fail_until(marks: Marks, times: int) -> int:
    """Fail so many times, then tell how many attempts there were."""
    attempt = marks.add()
    if attempt <= times:
        raise ConnectionError(f"attempt {attempt}")
    return attempt


# --- Deaths ---------------------------------------------------------------------------------------


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        signal.pause()


def die_at(n: int, bad: int) -> int:
    if n == bad:
        die()
    return n


def die_first(marks: Marks, value: Any) -> Any:
    """Die at the first attempt."""
    if marks.add() == 1:
        die()
    return value


def leave(code: int) -> None:
    sys.exit(code)


def leave_at_once(code: int) -> None:
    os._exit(code)
