"""`progress`: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import garrison
def square(n):
    return n * n
with garrison.Pool(1) as pool:
    view = pool.options(progress=True)
    assert {call} == [0, 1, 4, 9, 16]
print("done")
"""
CALLS = {
    "map": "view.map(square, range(5))",
    "starmap": "view.starmap(square, [(n,) for n in range(5)])",
    "map_async": "view.map_async(square, range(5)).get()",
    "imap": "list(view.imap(square, range(5)))",
    "imap_unordered": "sorted(view.imap_unordered(square, range(5)))",
}


FORCING = ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
PLAIN = {name: value for name, value in os.environ.items() if name not in FORCING}
TERMINAL = {**PLAIN, "TERM": "xterm", "COLUMNS": "100"}


def read_all(terminal: int) -> str:
    """What was shown until the last process with the other end is gone."""
    shown = b""
    try:
        while text := os.read(terminal, 4096):
            shown += text
    except OSError:  # how Linux says that a terminal has nobody left
        pass
    return shown.decode()


@pytest.mark.parametrize("name", CALLS)
def test_a_terminal_shows_a_progress_bar(name: str) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", PROGRAM.format(call=CALLS[name])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=TERMINAL) as process:
        os.close(theirs)
        shown = read_all(ours)
        assert process.stdout is not None
        assert process.stdout.read() == b"done\n"
    os.close(ours)
    assert process.returncode == 0
    assert "square" in shown
    assert "5/5" in shown


def test_an_input_without_a_length_has_an_open_end() -> None:
    ours, theirs = os.openpty()
    call = "list(view.imap(square, (n for n in range(5))))"
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=TERMINAL
    ) as process:
        os.close(theirs)
        shown = read_all(ours)
    os.close(ours)
    assert process.returncode == 0
    assert "5/?" in shown


@pytest.mark.parametrize("name", ["map", "imap"])
def test_no_progress_bar_is_shown_without_a_terminal(name: str) -> None:
    program = PROGRAM.format(call=CALLS[name])
    done = subprocess.run(
        [sys.executable, "-c", program], env=PLAIN, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_error_restores_the_terminal() -> None:
    program = PROGRAM.format(call="view.map(lambda n: 1 // n, range(5))")
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=TERMINAL
    ) as process:
        os.close(theirs)
        shown = read_all(ours)
    os.close(ours)
    assert process.returncode == 1
    assert "ZeroDivisionError" in shown
    hides, shows = "\x1b[?25l", "\x1b[?25h"
    assert shown.count(hides) == shown.count(shows)
