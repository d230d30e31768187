"""A program with a pool at a terminal: Ctrl-C, Ctrl-Z, and what is read from it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from garrison import _os

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INTERRUPT = b"\x03"

BEGIN = """
import garrison, os, signal, sys, time

def ready_then(act, *args):
    print("ready\\n", end="", flush=True)
    return act(*args)

def sleep():
    # In pieces: Python sleeps through a signal that came just before.
    while True:
        time.sleep(0.02)

def read_number_0():
    return os.read(0, 100)

def read_the_standard_input():
    return open("/dev/stdin").readline()

def read_the_terminal():
    with open("/dev/tty") as tty:
        return tty.readline()

def is_empty():
    return sys.stdin.read()

if __name__ == "__main__":
    with garrison.get_context(sys.argv[1]).Pool(2) as pool:
        pool.map(abs, range(4))
"""


class Terminal:
    """A program, and the other end of the terminal that it runs in."""

    def __init__(self, path: Path, method: str, text: str, begin: str = "") -> None:
        lines = text.strip("\n").splitlines()
        path.write_text(begin + BEGIN + "".join(f"        {line}\n" for line in lines))
        self.pid, self.fd = pty.fork()
        if not self.pid:
            # Newer Pythons show tracebacks in colours on a terminal.
            environment = {**os.environ, "NO_COLOR": "1"}
            command = [sys.executable, str(path), method]
            os.execve(sys.executable, command, environment)  # noqa: S606 - no shell
        self._raw = b""

    @property
    def shown(self) -> str:
        return self._raw.decode(errors="replace").replace("\r\n", "\n")

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def wait_for(self, text: str, times: int = 1) -> None:
        while self.shown.count(text) < times:
            assert self._read(), self.shown

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        data = b""
        with contextlib.suppress(OSError):  # nobody has it open any more
            data = os.read(self.fd, 4096)
        self._raw += data
        return bool(data)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.end()
        os.close(self.fd)


@contextlib.contextmanager
def terminal(path: Path, method: str, text: str, begin: str = "") -> Iterator[Terminal]:
    made = Terminal(path / "program.py", method, text, begin)
    try:
        yield made
    finally:
        made.close()


def test_an_idle_pool_lives_on_after_an_interrupt(method: str, tmp_path: Path) -> None:
    program = """
try:
    ready_then(sleep)
except KeyboardInterrupt:
    print(pool.map(abs, [-1, -2]))
"""
    with terminal(tmp_path, method, program) as shown:
        shown.wait_for("ready\n")
        shown.type(INTERRUPT)
        assert shown.end() == 0
        assert shown.shown == "ready\n^C[1, 2]\n"


def test_an_interrupt_ends_tasks_and_not_workers(method: str, tmp_path: Path) -> None:
    program = """
try:
    results = [pool.apply_async(ready_then, (sleep,)) for _ in range(2)]
    pids = pool.statistics().worker_pids
    ready_then(sleep)
except KeyboardInterrupt:
    for result in results:
        try:
            result.get()
        except KeyboardInterrupt:
            print("interrupted")
    print(pool.map(abs, [-1, -2]), pids == pool.statistics().worker_pids)
"""
    with terminal(tmp_path, method, program) as shown:
        shown.wait_for("ready\n", 3)
        shown.type(INTERRUPT)
        assert shown.end() == 0
        assert shown.shown.endswith("^Cinterrupted\ninterrupted\n[1, 2] True\n")
        assert "Traceback" not in shown.shown


def test_a_program_that_is_interrupted_shows_one_traceback(method: str, tmp_path: Path) -> None:
    program = "pool.starmap(ready_then, [(sleep,)] * 2, chunksize=1)"
    with terminal(tmp_path, method, program) as shown:
        shown.wait_for("ready\n", 2)
        shown.type(INTERRUPT)
        assert shown.end() == -signal.SIGINT
        assert shown.shown.count("Traceback") == 1
        assert shown.shown.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
def test_stop_of_the_whole_program_is_charged_to_no_task(
    method: str, tmp_path: Path, number: int
) -> None:
    (tmp_path / "program.py").write_text(
        BEGIN
        + """
        print(*pool.statistics().worker_pids, flush=True)
        result = pool.options(timeout=3).apply_async(ready_then, (read_number_0,))
        print(result.get())
"""
    )
    command = [sys.executable, str(tmp_path / "program.py"), method]
    # A group of its own, in this session: else it would not be stopped.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=os.setpgrp
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        pids = [int(word) for word in program.stdout.readline().split()]
        assert program.stdout.readline() == "ready\n"
        os.killpg(program.pid, number)
        while not all(map(is_stopped, [*pids, program.pid])):
            pass
        # Its timeout passes while it is stopped.
        select.select([], [], [], 3.5)
        os.killpg(program.pid, signal.SIGCONT)
        out, _ = program.communicate("go on")
    assert (program.returncode, out) == (0, "b'go on'\n")


def is_stopped(pid: int) -> bool:
    seen = _os.process_status(pid)
    return seen is not None and seen.stopped


@pytest.mark.parametrize("read", ["read_number_0", "read_the_standard_input", "read_the_terminal"])
def test_a_task_reads_from_the_terminal(method: str, tmp_path: Path, read: str) -> None:
    with terminal(tmp_path, method, f"print(pool.apply(ready_then, ({read},)))") as shown:
        shown.wait_for("ready\n")
        shown.type(b"typed\n")
        assert shown.end() == 0
        assert "typed" in shown.shown.rpartition("typed\n")[0] + shown.shown.splitlines()[-1]


def test_the_standard_input_of_a_task_is_empty(method: str, tmp_path: Path) -> None:
    with terminal(tmp_path, method, "print([pool.apply(is_empty)])") as shown:
        assert shown.end() == 0
        assert shown.shown == "['']\n"
