"""Every program of the documentation runs, and prints what its page says.

Pages whose programs need a server or a cluster have tests of their own, beside their subject.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from pages import ROOT, Program, programs_of, run

ELSEWHERE = {"cluster.md", "valkey.md"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = [
    pytest.param(page, program, id=f"{page.relative_to(ROOT)}:{program.line}")
    for page in PAGES
    if page.name not in ELSEWHERE
    for program in programs_of(page)
]
OPTIONAL = {"joblib", "pandas", "sklearn", "anyio", "dask", "xarray", "scipy", "tqdm", "trio"}
"""Packages that a program may need and this environment may lack."""


@pytest.mark.watchdog(150)
@pytest.mark.parametrize(("page", "program"), PROGRAMS)
def test_program_prints_what_the_page_says(page: Path, program: Program, tmp_path: Path) -> None:
    for package in OPTIONAL & imported_by(program.code):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    printed = run(program, tmp_path)
    assert program.output in (None, printed), page


def imported_by(code: str) -> set[str]:
    return set(re.findall(r"^\s*(?:import|from) (\w+)", code, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_programs_were_found(page: Path) -> None:
    assert len(programs_of(page)) == page.read_text(encoding="utf-8").count("```python")
