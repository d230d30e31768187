"""Whole programs, run as a user runs them: a script with a guard, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

METHODS = ("fork", "spawn", "forkserver")
HEAD = """
import contextlib, errno, os, signal, sys, time
import garrison as mp
"""


def run(
    folder: Path,
    source: str,
    *arguments: str,
    head: str = "",
    before_all: str = "",
    flags: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> str:
    """Run a script to its end; its output. What it has started ends with it."""
    script = folder / "program.py"
    script.write_text(before_all + HEAD + head + textwrap.dedent(source))
    command = [sys.executable, *flags, str(script), *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        preexec_fn=before,
        start_new_session=True,
    )
    with _ended(process):
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
