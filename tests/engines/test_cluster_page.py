"""Every program of docs/cluster.md runs, and prints what the page says; the first one everywhere.

What needs Slurm or Kubernetes runs with stand-ins, whose jobs are workers of this machine.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from engines.alone import alone
from pages import ROOT, Program, programs_of, run

PAGE = ROOT / "docs" / "cluster.md"
PROGRAMS = programs_of(PAGE)
STAND_INS = Path(__file__).parent / "stand_ins"
PACKAGES = {"dask": "distributed", "ray": "ray", "Dask": "distributed"}


def skip_without(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def run_here(program: Program, folder: Path, **environment: str) -> str:
    path = os.pathsep.join([str(STAND_INS), os.environ.get("PYTHONPATH", "")])
    ray = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "HOME": str(folder)}
    return run(program, folder, PYTHONPATH=path, **ray, **environment)


@alone
@pytest.mark.watchdog(150)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"line {program.line}")
def test_program_prints_what_the_page_says(program: Program, tmp_path: Path) -> None:
    if "Dask" in program.code or "dask" in program.code:
        skip_without("distributed")
    if 'engine="ray"' in program.code:
        skip_without("ray")
    assert run_here(program, tmp_path) == program.output


@alone
@pytest.mark.watchdog(150)
@pytest.mark.parametrize("engine", ["processes", "serial", "threads", "dask", "ray"])
def test_the_first_program_is_the_same_everywhere(engine: str, tmp_path: Path) -> None:
    if engine in PACKAGES:
        skip_without(PACKAGES[engine])
    assert run_here(PROGRAMS[0], tmp_path, GARRISON_ENGINE=engine) == PROGRAMS[0].output


def test_all_programs_were_found() -> None:
    assert len(PROGRAMS) == PAGE.read_text(encoding="utf-8").count("```python") >= 6
