"""Ctrl-C, or a notebook's Stop, out of a call: its tasks end, and the pool is free at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .test_terminal import INTERRUPT, terminal

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import garrison, sys, threading, time, _thread

def long_later():
    time.sleep(0.3)  # the program waits by now: there is a moment within the call of the core
    long()

def long(item=None):
    print("ready\\n", end="", flush=True)
    while True:
        time.sleep(0.02)

def long_in_c(item=None):
    import hashlib
    print("ready\\n", end="", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)

def show_free(pool):
    print(pool.map(abs, [-1, -2]))
    while pool.statistics().in_flight:  # the other worker ends its task meanwhile
        time.sleep(0.001)
"""
PROGRAM = """
if __name__ == "__main__":
    with garrison.get_context(sys.argv[1]).Pool(2) as pool:
        pool.map(abs, range(4))
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted")
        show_free(pool)
"""
CALLS = {
    "apply": "pool.apply(long_later)",
    "map": "pool.map(long, range(100), chunksize=3)",
    "map of calls in C": "pool.map(long_in_c, range(100))",
    "starmap": "pool.starmap(long, [(n,) for n in range(100)])",
    "imap": "list(pool.imap(long, range(100)))",
    "imap of a generator": "list(pool.imap(long, (n for n in range(100))))",
    "imap_unordered": "list(pool.imap_unordered(long, range(100), chunksize=3))",
}
READY = {"apply": 1}


def program(path: Path, call: str, before: str = "") -> Path:
    path.write_text(BEGIN + PROGRAM.format(call=f"{before}{CALLS[call]}"))
    return path


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_at_a_terminal_frees_the_pool(call: str, method: str, tmp_path: Path) -> None:
    text = f"""
try:
    {CALLS[call]}
except KeyboardInterrupt:
    print("interrupted")
show_free(pool)
"""
    with terminal(tmp_path, method, text, BEGIN) as shown:
        shown.wait_for("ready\n", READY.get(call, 2))
        shown.type(INTERRUPT)
        assert shown.end() == 0
        assert shown.shown.endswith("interrupted\n[1, 2]\n")
        assert "Traceback" not in shown.shown


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_of_the_program_alone_frees_the_pool(
    call: str, method: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(program(tmp_path / "program.py", call)), method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for _ in range(READY.get(call, 2)):
            assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == "interrupted\n[1, 2]\n"
    assert running.returncode == 0


def test_a_thread_that_interrupts_the_main_one_frees_the_pool(method: str, tmp_path: Path) -> None:
    before = "threading.Timer(0.3, _thread.interrupt_main).start(); "
    path = program(tmp_path / "program.py", "map", before)
    command = [sys.executable, str(path), method]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.endswith("interrupted\n[1, 2]\n")
