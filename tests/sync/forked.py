"""Processes forked from the test: to run something in, or to die in at a named point."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from garrison import _core
from garrison.errors import AbandonedLock

PATIENCE = 20.0


class Forked:
    """A child that runs a function, and tells how it ended. Never outlives its ``with``."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            _be(write, function, *args)
        os.close(write)
        self.status: int | None = None

    def __enter__(self) -> Forked:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.join()
        os.close(self._read)

    def join(self) -> int:
        """Wait for its end: the exit code, negative for a signal."""
        if self.status is None:
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def kill(self) -> None:
        """Kill it and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.join()

    def is_over(self) -> bool:
        """Whether it has said what there is to say, or is gone."""
        return bool(select.select([self._read], [], [], 0)[0])

    def answer(self) -> str:
        """Wait for the repr of what the function returned; empty if the process was killed."""
        text = b""
        while part := os.read(self._read, 4096):
            text += part
        self.join()
        return text.decode()


def _be(write: int, function: Callable[..., Any], *args: Any) -> None:
    """Run in the child; never returns."""
    try:
        # What a dead owner leaves behind is what these tests are about.
        warnings.simplefilter("ignore", AbandonedLock)
        os.write(write, repr(function(*args)).encode())
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def arm(point: str, token: Path) -> None:
    """Have this process die at `point`."""
    assert point in _core.CRASH_POINTS
    os.environ["GARRISON_CRASH"] = f"{point}@{token}"


def armed(point: str, token: Path, function: Callable[..., Any], *args: Any) -> Forked:
    """A child that dies at `point` while it runs the function."""

    def run() -> Any:
        arm(point, token)
        return function(*args)

    return Forked(run)


def died(child: Forked, token: Path) -> bool:
    """Wait for the end of an armed child: whether it came to its point and died there."""
    code = child.join()
    assert code in {0, -signal.SIGKILL}
    assert (code == -signal.SIGKILL) == token.exists()
    return token.exists()
