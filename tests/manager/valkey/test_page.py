"""Every program of docs/valkey.md runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import ROOT, Program, programs_of, run
from valkey_server import ValkeyServer

PAGE = ROOT / "docs" / "valkey.md"
PROGRAMS = programs_of(PAGE)
URL = "valkey://127.0.0.1:6379/0"
"""As the page has it."""


@pytest.mark.watchdog(150)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"line {program.line}")
def test_program_prints_what_the_page_says(
    program: Program, server: ValkeyServer, tmp_path: Path
) -> None:
    assert URL in program.code
    here = program._replace(code=program.code.replace(URL, server.url()))
    assert run(here, tmp_path) == program.output


def test_all_programs_were_found() -> None:
    assert len(PROGRAMS) == PAGE.read_text(encoding="utf-8").count("```python") >= 4
