"""Programs of users of other libraries, with garrison where they would have put it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

IN_PLACE = """
import sys
import garrison
sys.modules["multiprocessing"] = garrison
"""
"""At the top of a program whose libraries import multiprocessing themselves."""


def needs(package: str) -> pytest.MarkDecorator:
    """Skip without this package. It is not imported here: some start threads."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def run(folder: Path, program: str, *, in_place: bool = False, **environment: str) -> str:
    """Run a program in a process of its own and return what it printed; it must end well."""
    script = folder / "program.py"
    script.write_text((IN_PLACE if in_place else "") + textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
