"""The crash matrix: four ways to fail, at the five places that a task passes through."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import Any

from . import tasks
from .payloads import Submission
from .registry import row
from .subject import Subject, check
from .victims import Victim, nothing_left

GRACE = 1.0


def _raise() -> None:
    message = "a failure of the user's code"
    raise RuntimeError(message)


KINDS: dict[str, Callable[[], object]] = {
    "error": _raise,
    "sys.exit": lambda: sys.exit(3),
    "exit in C": lambda: ctypes.CDLL(None).exit(3),
    "segfault": lambda: ctypes.string_at(0),
}
STATUS = {"exit in C": 3, "segfault": -signal.SIGSEGV}
# Under forkserver, the standard library leaves its temporary folder behind.
KILLS_THE_CALLER = [f"{kind}-{method}" for kind in STATUS for method in ("fork", "spawn")]
DIED: dict[str, dict[str, int]] = {
    "sys.exit": {"exitcode": 3},
    "exit in C": {"exitcode": 3},
    "segfault": {"signal": signal.SIGSEGV},
}


def fail(kind: str) -> Any:
    """Fail in one of four ways."""
    return KINDS[kind]()


class FailsWhenPickled:
    """Fails in the process that pickles it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        fail(self.kind)
        return FailsWhenPickled, (self.kind,)


class FailsWhenUnpickled:
    """Fails in the process that unpickles it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return fail, (self.kind,)


def identity(value: Any) -> Any:
    """Return the argument."""
    return value


def failing_argument(subject: Subject, kind: str) -> None:
    """Submit an argument that kills this process, which made a pool and used it."""
    with subject.pool() as pool:
        subject.still_works(pool)
        pool.apply_async(identity, (FailsWhenPickled(kind),)).get()


def failing_result(subject: Subject, kind: str) -> None:
    """Receive a result that kills this process, which made a pool and used it."""
    with subject.pool() as pool:
        subject.still_works(pool)
        pool.apply_async(FailsWhenUnpickled, (kind,)).get()


@row(
    "while pickling an argument",
    source="#11",
    cases=list(KINDS),
    fine=["error-*", *KILLS_THE_CALLER],
)
def crash_pickling_argument(subject: Subject, kind: str) -> None:
    if kind in STATUS:
        _kills_the_caller(subject, failing_argument, kind)
        return
    with subject.pool() as pool:
        subject.error(Submission(pool, identity, FailsWhenPickled(kind)), RuntimeError, SystemExit)
        _goes_on(subject, pool)


@row("while unpickling an argument in the worker", source="#11", cases=list(KINDS))
def crash_unpickling_argument(subject: Subject, kind: str) -> None:
    with subject.pool() as pool:
        _fails(subject, pool.apply_async(identity, (FailsWhenUnpickled(kind),)), kind)
        _goes_on(subject, pool)


@row("in the task", source="#11", cases=list(KINDS), fine=["error-*"])
def crash_in_task(subject: Subject, kind: str) -> None:
    with subject.pool() as pool:
        _fails(subject, pool.apply_async(fail, (kind,)), kind)
        _goes_on(subject, pool)


@row("while pickling a result", source="#11", cases=list(KINDS), fine=["error-*"])
def crash_pickling_result(subject: Subject, kind: str) -> None:
    with subject.pool() as pool:
        _fails(subject, pool.apply_async(FailsWhenPickled, (kind,)), kind)
        _goes_on(subject, pool)


@row(
    "while unpickling a result in the parent",
    source="#11",
    cases=list(KINDS),
    fine=KILLS_THE_CALLER,
)
def crash_unpickling_result(subject: Subject, kind: str) -> None:
    if kind in STATUS:
        _kills_the_caller(subject, failing_result, kind)
        return
    with subject.pool() as pool:
        error = subject.error(pool.apply_async(FailsWhenUnpickled, (kind,)))
        if subject.is_garrison and kind == "error":
            check(type(error) is subject.module.ResultUnpicklable, f"{type(error)}: {error}")
        _goes_on(subject, pool)


def _fails(subject: Subject, result: Any, kind: str) -> None:
    if kind in DIED:
        subject.death(result, **DIED[kind])
        return
    error = subject.error(result)
    check("a failure of the user's code" in str(error), f"{type(error).__name__}: {error}")


def _goes_on(subject: Subject, pool: Any) -> None:
    subject.still_works(pool)
    subject.finish(pool)


def _kills_the_caller(subject: Subject, function: Callable[..., None], kind: str) -> None:
    """The user's own process fails: no pool can help, but all of it goes with the process."""
    with Victim(subject, function, kind) as victim:
        status = victim.ended()
        check(status == STATUS[kind], f"the process ended with {status}")
        nothing_left(GRACE)


@row("callback raises", source="#14", cases=["Exception", "BaseException", "SystemExit"])
def callback_raises(subject: Subject, kind: str) -> None:
    error = {"Exception": ValueError, "BaseException": KeyboardInterrupt, "SystemExit": SystemExit}

    def callback(value: Any) -> None:
        raise error[kind](value)

    with subject.pool() as pool:
        first = pool.apply_async(tasks.square, (7,), callback=callback)
        check(subject.value(first) == 49, "the result is not 49")
        second = pool.apply_async(tasks.raise_it, (ValueError,), error_callback=callback)
        subject.error(second, ValueError)
        _goes_on(subject, pool)


@row("task raises", source="#15", cases=["BaseException", "KeyboardInterrupt", "GeneratorExit"])
def task_raises(subject: Subject, kind: str) -> None:
    kinds = {one.__name__: one for one in (BaseException, KeyboardInterrupt, GeneratorExit)}
    with subject.pool() as pool:
        for number in range(4):
            task = pool.apply_async(tasks.raise_it, (kinds[kind], number))
            check(subject.error(task, kinds[kind]).args == (number,), "its arguments are lost")
        _goes_on(subject, pool)
