"""Run CPython's pool tests against garrison and look at each of their outcomes."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[len(__package__.split("."))]
METHODS = ("fork", "spawn", "forkserver")
SECONDS = 150.0

OF_PROCESSES = {
    "WithProcessesTestPool": "_TestPool",
    "WithManagerTestPool": "_TestPool",
    "WithProcessesTestPoolWorkerErrors": "_TestPoolWorkerErrors",
    "WithProcessesTestPoolWorkerLifetime": "_TestPoolWorkerLifetime",
    "TestPoolNotLeakOnFailure": "TestPoolNotLeakOnFailure",
}
OF_THREADS = {"WithThreadsTestPool": "_TestPool"}
RUNS = {**dict.fromkeys(METHODS, OF_PROCESSES), "threads": OF_THREADS}
"""A process for each: CPython's classes for a start method, and those that have none."""

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


CASES = [
    pytest.param(run, f"{name}.{test}", id=f"{run}-{name}-{test}")
    for run, classes in RUNS.items()
    for name, source in classes.items()
    for test in _tests_of(source)
]


@pytest.fixture(scope="module")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """The report of a run of CPython's tests, which happens when it is first asked for."""
    if _source() is None:
        pytest.skip("this Python was built without its test package (test._test_multiprocessing)")
    reports: dict[str, Report] = {}

    def report(run: str) -> Report:
        if run not in reports:
            reports[run] = _run(run, tmp_path_factory.mktemp(f"cpython-{run}"))
        if "problem" in reports[run]:
            pytest.fail(reports[run]["problem"], pytrace=False)
        return reports[run]

    return report


def _run(run: str, folder: Path) -> Report:
    module = os.environ.get("GARRISON_TEST_MODULE", "garrison")
    runner = [sys.executable, "-m", f"{__package__}.runner"]
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [*runner, module, METHODS[0] if run == "threads" else run, str(folder), *RUNS[run]],
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
    made = {name: _modules(folder / name) for name in ("evidence", "evidence-fresh")}
    return {**report, "made": made, "output": output, "status": status}


def _modules(evidence: Path) -> set[str]:
    """Whose pools were made."""
    lines = evidence.read_text().split() if evidence.exists() else []
    return {line.partition(".")[0] for line in lines}


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize(("run", "name"), CASES)
def test_of_cpython(report_of: Callable[[str], Report], run: str, name: str) -> None:
    report = report_of(run)
    outcome = report["outcomes"].get(name, f"was not run:\n{report['output']}")
    if outcome.startswith("skipped: "):
        pytest.skip(outcome)
    assert outcome == "ok", outcome


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize("run", RUNS)
def test_it_was_garrison_that_ran(report_of: Callable[[str], Report], run: str) -> None:
    made = report_of(run)["made"]
    assert made["evidence"] == {"garrison"}
    # Only a test of processes starts an interpreter that makes a pool.
    assert made["evidence-fresh"] == (set() if run == "threads" else {"garrison"})


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize("method", METHODS)
def test_cpython_sees_nothing_left_behind(report_of: Callable[[str], Report], method: str) -> None:
    # Not asked of threads: what a test leaves asleep in one of them, nobody can end.
    report = report_of(method)
    assert not report["altered"], report["output"]
    assert report["status"] == 0, report["output"]
