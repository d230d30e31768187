"""Limits of the system (`ulimit`): all works within them, and what does not fit is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import limited

PROGRAMS = [name.removeprefix("program_") for name in vars(limited) if name.startswith("program_")]


@pytest.mark.watchdog(60)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_program_works_within_a_limit(program: str, method: str) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(limited.__file__)), method, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
