"""The programs of a page of the documentation, and what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n^```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


class Program(NamedTuple):
    """A block of Python, and the block of text that follows it."""

    line: int
    code: str
    output: str | None


def programs_of(page: Path) -> list[Program]:
    """Return the programs of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Program(text.count("\n", 0, found.start()) + 2, found["code"], found["output"])
        for found in _PROGRAM.finditer(text)
    ]


def run(program: Program, folder: Path, **environment: str) -> str:
    """Run a program as a file of its own; return what it prints, or fail with what it says."""
    path = folder / "program.py"
    path.write_text(program.code, encoding="utf-8")
    inherited = {key: value for key, value in os.environ.items() if key != "GARRISON_ENGINE"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Of a network without the Internet Ray's own code says so.
    said = [line for line in done.stderr.splitlines() if "8.8.8.8" not in line]
    assert said == [], done.stderr
    return done.stdout
