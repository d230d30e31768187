"""Every program of docs/engines.md runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from .pages import ROOT, Program, programs_of, run

PAGE = ROOT / "docs" / "engines.md"
PROGRAMS = programs_of(PAGE)


@pytest.mark.watchdog(150)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"line {program.line}")
def test_program_prints_what_the_page_says(program: Program, tmp_path: Path) -> None:
    assert run(program, tmp_path) == program.output


def test_all_programs_were_found() -> None:
    assert len(PROGRAMS) == PAGE.read_text(encoding="utf-8").count("```python") >= 5
