"""Run CPython's tests against garrison and look at each of their outcomes."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .parts import LEFT_OUT, PARTS, RUNS, classes_of

ROOT = Path(__file__).resolve().parents[len(__package__.split("."))]
SECONDS = 150.0
TOGETHER = 4
"""Runs at the same time: most of a run is waiting."""
LIMIT = SECONDS * -(-len(RUNS) // TOGETHER) + 10.0
"""All runs are made when the first one is asked for."""

Report = dict[str, Any]


def _source() -> Path | None:
    try:
        spec = importlib.util.find_spec("test._test_multiprocessing")
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _tests_of(name: str) -> list[str]:
    """The tests of one of CPython's classes, read from its source, without importing it."""
    source = _source()
    if source is None:
        return ["(not installed)"]
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            names = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
            return [name for name in names if name.startswith("test_")]
    return []


CLASSES = [(run, name) for run, (part, _) in RUNS.items() for name in classes_of(part)]
CASES = [
    pytest.param(run, f"{name}.{test}", id=f"{run}-{name}-{test}")
    for run, (part, _) in RUNS.items()
    for name, source in classes_of(part).items()
    for test in _tests_of(source)
    if f"{name}.{test}" not in LEFT_OUT
]


@pytest.fixture(scope="module")
def report_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Report]:
    """The report of a run of CPython's tests; all are made when the first is asked for."""
    if _source() is None:
        pytest.skip("this Python was built without its test package (test._test_multiprocessing)")
    items: list[Any] = request.session.items
    ours = {item.callspec.params["run"] for item in items if item.module is request.module}
    reports: dict[str, Report] = {}

    def report(name: str) -> Report:
        if not reports:
            wanted = {run: tmp_path_factory.mktemp(f"cpython-{run}") for run in sorted(ours)}
            with ThreadPoolExecutor(TOGETHER) as threads:
                found = threads.map(_run, wanted.keys(), wanted.values())
                reports.update(zip(wanted, found, strict=True))
        if "problem" in reports[name]:
            pytest.fail(reports[name]["problem"], pytrace=False)
        return reports[name]

    return report


def _run(run: str, folder: Path) -> Report:
    module = os.environ.get("GARRISON_TEST_MODULE", "garrison")
    runner = [sys.executable, "-m", f"{__package__}.runner"]
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [*runner, module, *RUNS[run], str(folder)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
        _wait(process)
    return _read(folder, process.returncode)


def _wait(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS)
    # The servers of managers outlive a run that was cut short.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(folder: Path, status: int) -> Report:
    output = (folder / "output").read_text()
    if not (folder / "report.json").exists():
        return {"problem": f"the run of CPython's tests ended with {status}:\n{output}"}
    report: Report = json.loads((folder / "report.json").read_text())
    made = _made(folder / "evidence")
    fresh = {module for modules in _made(folder / "evidence-fresh").values() for module in modules}
    return {**report, "made": made, "fresh": fresh, "output": output, "status": status}


def _made(evidence: Path) -> dict[str, set[str]]:
    """For each class of tests, whose objects were made."""
    modules: dict[str, set[str]] = defaultdict(set)
    lines = evidence.read_text().splitlines() if evidence.exists() else []
    for line in lines:
        name, _, kind = line.partition(" ")
        modules[name].add(kind.partition(".")[0])
    return modules


@pytest.mark.watchdog(LIMIT)
@pytest.mark.parametrize(("run", "name"), CASES)
def test_of_cpython(report_of: Callable[[str], Report], run: str, name: str) -> None:
    report = report_of(run)
    outcome = report["outcomes"].get(name, f"was not run:\n{report['output']}")
    if outcome.startswith("skipped: "):
        pytest.skip(outcome)
    assert outcome == "ok", outcome


@pytest.mark.watchdog(LIMIT)
@pytest.mark.parametrize(("run", "name"), CLASSES)
def test_it_was_garrison_that_ran(report_of: Callable[[str], Report], run: str, name: str) -> None:
    report = report_of(run)
    made, part = report["made"][name], PARTS[RUNS[run][0]]
    # What a manager's server makes is noted only if the server was forked.
    assert made - set(part.also) == {"garrison"} or (name.startswith("WithManager") and not made)
    assert report["fresh"] == ({"garrison"} if part.fresh else set())


@pytest.mark.watchdog(LIMIT)
@pytest.mark.parametrize("run", [run for run, (part, _) in RUNS.items() if PARTS[part].checked])
def test_cpython_sees_nothing_left_behind(report_of: Callable[[str], Report], run: str) -> None:
    report = report_of(run)
    assert not report["altered"], report["output"]
    assert report["status"] == 0, report["output"]
