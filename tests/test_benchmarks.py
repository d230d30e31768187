"""The page of figures names every benchmark, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("these tests do not run against an installed wheel", allow_module_level=True)


def run_by_make_bench() -> set[str]:
    text = (BENCHMARKS / "run_all.py").read_text("utf-8")
    return set(re.findall(r'^    "(\w+)",$', text, re.MULTILINE))


def test_the_page_of_figures_names_what_make_bench_runs() -> None:
    lines = (ROOT / "docs" / "performance.md").read_text("utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert set(re.findall(r"(\w+)\.py", "\n".join(rows))) == run_by_make_bench()


def test_make_bench_runs_benchmarks_of_that_name() -> None:
    names = run_by_make_bench()
    assert "scale" in names
    for name in names:
        assert f'name="{name}"' in (BENCHMARKS / f"{name}.py").read_text("utf-8")
