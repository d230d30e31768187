"""Trials of damage: each in a forked child, several at a time, under an alarm."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full
from typing import NamedTuple

import pytest

from damage import watched

TRIAL_S = 20
"""A trial that is not over by then hangs."""
PATIENCE_S = 8.0
"""A call of a trial that takes longer waits for what never comes."""
AT_ONCE = 8
"""Trials mostly wait, for what damage keeps from happening."""

Trial = Callable[[int], None]
"""Flips the byte at an offset, and uses the object: what is wrong is an AssertionError."""


class Failed(NamedTuple):
    """A trial that neither went well nor raised an error."""

    at: int
    how: str


def run_trials(trial: Trial, offsets: Iterable[int], seconds: int = TRIAL_S) -> list[Failed]:
    """Run a trial for each offset; those that ended by a signal, hung, or found a wrong value."""
    failed: list[Failed] = []
    running: dict[int, int] = {}
    left: Iterator[int] = iter(offsets)
    while True:
        while len(running) < AT_ONCE and (at := next(left, None)) is not None:
            running[_start(trial, at, seconds)] = at
        if not running:
            return failed
        # The oldest: the end of another child of this process is not ours to see.
        pid = next(iter(running))
        _, status = os.waitpid(pid, 0)
        at = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        if code:
            name = "wrong" if code > 0 else signal.Signals(-code).name
            failed.append(Failed(at, "HUNG" if name == "SIGALRM" else name))


def _start(trial: Trial, at: int, seconds: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        warnings.simplefilter("ignore")
        watched(seconds)
        trial(at)
        code = 0
    except Exception:
        sys.stderr.write(f"byte {at}:\n")
        traceback.print_exc()
        code = 1
    finally:
        # A panic of the core is no Exception.
        sys.stderr.flush()
        os._exit(code)


def check(failed: Iterable[Failed], count: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f" {count} bytes flipped ")
        sys.stdout.flush()
    assert list(failed) == []


def flip(view: memoryview, at: int, mask: int = 0xFF) -> None:
    view[at] ^= mask


class TrialFailedError(BaseException):
    """No Exception: it is not among those that a trial may see."""


def assert_same(found: object, expected: object) -> None:
    if found != expected:
        raise TrialFailedError(repr(found)[:100])


@contextlib.contextmanager
def suppressed() -> Iterator[None]:
    """Any error is as good as none, but not a timeout: without it the wait had no end."""
    try:
        yield
    except (TimeoutError, multiprocessing.TimeoutError, Empty, Full) as error:
        raise TrialFailedError("a wait without an end") from error
    except Exception:
        return
