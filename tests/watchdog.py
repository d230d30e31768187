"""The watchdog: a process of its own that ends a test which hangs.

    pytest ──"seconds name" a line, "0" to stand down──▶ watchdog
           ◀─SIGRTMAX: dump every stack of pytest──────
             SIGABRT:  to the rest of the run, dump and die
           ◀─SIGRTMAX-1: raise HungError in the test────  if it still runs; then SIGKILL

A thread would turn each fork of a test into one of a multi-threaded process, SIGALRM belongs to
the tests, and neither runs while native code holds the GIL. When pytest goes, however that came
about, the watchdog takes down all that it left and goes too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil

from footprint import marked_processes

if TYPE_CHECKING:
    from types import FrameType

SHOW_STACKS = signal.SIGRTMAX
RAISE_IN_TEST = signal.SIGRTMAX - 1
GRACE = 3.0
ATTEMPTS = 3  # the first may end the test's body and the second its clean-up


class HungError(BaseException):
    """The test took longer than its watchdog allows; no `except Exception` stops this."""


class Watchdog:
    """The end in pytest: `expect` before a test, `stand_down` after it."""

    def __init__(self, mark: int, stderr: int) -> None:
        self._stderr = stderr
        faulthandler.register(SHOW_STACKS, file=self._stderr, all_threads=True)
        signal.signal(RAISE_IN_TEST, _raise_in_test)
        command = [sys.executable, __file__, str(os.getpid()), str(mark)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._stderr)

    def expect(self, name: str, seconds: float) -> None:
        """Give the test `name` so many seconds from now."""
        self._tell(f"{seconds} {name}\n")

    def stand_down(self) -> None:
        """No test runs."""
        self._tell("0\n")

    def close(self) -> None:
        """End the watchdog's process."""
        self._process.kill()
        self._process.communicate()
        faulthandler.unregister(SHOW_STACKS)
        os.close(self._stderr)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), line.encode())


def _raise_in_test(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise HungError("the test hung: the watchdog dumped all stacks and killed its processes")


def watch(pytest_pid: int, mark: int) -> None:
    """Wait for lines, deadlines and the end of pytest, whichever comes first."""
    pytest_end = os.pidfd_open(pytest_pid)
    deadline: float | None = None
    name, attempt = "", 0
    while True:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([0, pytest_end], [], [], timeout)
        if pytest_end in ready:
            kill(mark, spare=set())
            return
        if ready:
            deadline, name = read_order()
            attempt = 0
        elif deadline is not None:
            attempt += 1
            end_test(name, pytest_pid, mark, attempt)
            deadline = time.monotonic() + GRACE


def read_order() -> tuple[float | None, str]:
    """Read what was last said: the deadline and the name of the test."""
    lines = os.read(0, 65536).decode(errors="replace").splitlines()
    seconds, _, name = lines[-1].partition(" ") if lines else ("0", "", "")
    return (time.monotonic() + float(seconds), name) if float(seconds) else (None, "")


def end_test(name: str, pytest_pid: int, mark: int, attempt: int) -> None:
    """Show all stacks and kill the processes of a test that hangs, then end it, or else pytest."""
    say(f"{name} hangs ({attempt}); the stacks of pytest, then of its processes:")
    os.kill(pytest_pid, SHOW_STACKS)
    time.sleep(0.2)  # stacks of several processes at once are unreadable
    kill(mark, spare={pytest_pid})
    if select.select([0], [], [], 0)[0]:
        return  # the end of its processes was the test's own end
    if attempt <= ATTEMPTS:
        os.kill(pytest_pid, RAISE_IN_TEST)
    else:
        say("pytest does not react: killing it")
        os.kill(pytest_pid, signal.SIGKILL)


def kill(mark: int, spare: set[int]) -> None:
    """End all processes of the run, with their Python stacks where faulthandler is on."""
    condemned = [p for p in marked_processes(mark) if p.pid not in spare]
    for process in condemned:
        say(f"process {process.pid}: {describe(process)}")
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGABRT)
            process.send_signal(signal.SIGCONT)
            process.wait(0.2)
    for process in condemned:
        with contextlib.suppress(psutil.Error):
            process.kill()


def describe(process: psutil.Process) -> str:
    """Say what runs there and what the kernel has it wait for."""
    try:
        where = Path(f"/proc/{process.pid}/wchan").read_text() or "?"
        return f"{process.status()} in {where}, {' '.join(process.cmdline())[:100]}"
    except (psutil.Error, OSError):
        return "gone"


def say(text: str) -> None:
    """Speak on the terminal, past pytest's capture."""
    sys.stderr.write(f"\nWATCHDOG: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, whose end ends us
    watch(int(sys.argv[1]), int(sys.argv[2]))
