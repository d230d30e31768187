"""Programs for the standard library print the same with garrison in its place.

Each file in `faithful/` is a program that prints what it sees. It is run twice under each start
method: as it stands, and with the word ``multiprocessing`` replaced by ``garrison``. A line
``# methods: fork`` limits the methods, ``# python: 3.12`` the versions, ``# stdin: text`` feeds it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).with_name("faithful")
METHODS = ("fork", "spawn", "forkserver")
SECONDS = 60


def _setting(text: str, name: str) -> str | None:
    found = re.search(rf"^# {name}: (.*)$", text, re.MULTILINE)
    return found.group(1) if found else None


def _cases() -> list[object]:
    cases: list[object] = []
    for path in sorted(FOLDER.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        least = _setting(text, "python") or "3.10"
        if sys.version_info < tuple(map(int, least.split("."))):
            continue
        methods = (_setting(text, "methods") or " ".join(METHODS)).split()
        cases += [pytest.param(path, method, id=f"{path.stem}-{method}") for method in methods]
    return cases


def _run(text: str, method: str, folder: Path) -> tuple[int, str, str]:
    folder.mkdir()
    Path(folder, "program.py").write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "program.py", method],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "", "PYTHONWARNINGS": "ignore"},
    )
    try:
        printed, complaints = process.communicate(_setting(text, "stdin"), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, complaints = process.communicate()
        return -1, printed, f"hung for {SECONDS} s\n{complaints}"
    return process.returncode, printed, complaints


@pytest.mark.watchdog(2 * SECONDS + 10)
@pytest.mark.parametrize(("program", "method"), _cases())
def test_program_prints_the_same_as_with_multiprocessing(
    program: Path, method: str, tmp_path: Path
) -> None:
    text = program.read_text(encoding="utf-8")
    wanted = _run(text, method, tmp_path / "standard")
    assert wanted[0] >= 0, f"the standard library itself fails:\n{wanted[2]}"
    ours = _run(text.replace("multiprocessing", "garrison"), method, tmp_path / "ours")
    assert ours[1].splitlines() == wanted[1].splitlines(), ours[2]
    assert ours[0] == wanted[0], ours[2]
