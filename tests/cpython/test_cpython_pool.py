"""Run CPython's pool tests against garrison and look at each of their outcomes."""

from __future__ import annotations

import ast
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

CLASSES = {
    "WithProcessesTestPool": "_TestPool",
    "WithThreadsTestPool": "_TestPool",
    "WithManagerTestPool": "_TestPool",
    "WithProcessesTestPoolWorkerErrors": "_TestPoolWorkerErrors",
    "WithProcessesTestPoolWorkerLifetime": "_TestPoolWorkerLifetime",
    "TestPoolNotLeakOnFailure": "TestPoolNotLeakOnFailure",
}
EXCLUDED: dict[str, str] = {}
"""Class, or Class.test, to the reason why it is not run."""

UNDER_FORK_ONLY = {"WithThreadsTestPool": "threads have no start method"}

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


def _classes(method: str) -> list[str]:
    only = UNDER_FORK_ONLY if method != "fork" else {}
    return [name for name in CLASSES if name not in EXCLUDED and name not in only]


CASES = [
    pytest.param(method, f"{name}.{test}", id=f"{method}-{name}-{test}")
    for method in METHODS
    for name in _classes(method)
    for test in _tests_of(CLASSES[name])
]


@pytest.fixture(scope="module")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """The report of CPython's tests under a start method; they run when first asked for."""
    if _source() is None:
        pytest.skip("this Python was built without its test package (test._test_multiprocessing)")
    reports: dict[str, Report] = {}

    def report(method: str) -> Report:
        if method not in reports:
            reports[method] = _run(method, tmp_path_factory.mktemp(f"cpython-{method}"))
        return reports[method]

    return report


def _run(method: str, folder: Path) -> Report:
    module = os.environ.get("GARRISON_TEST_MODULE", "garrison")
    runner = [sys.executable, "-m", f"{__package__}.runner"]
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [*runner, module, method, str(folder), *_classes(method)],
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
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(folder: Path, status: int) -> Report:
    output = (folder / "output").read_text()
    if not (folder / "report.json").exists():
        pytest.fail(f"the run of CPython's tests ended with {status}:\n{output}", pytrace=False)
    report: Report = json.loads((folder / "report.json").read_text())
    made = {name: folder / name for name in ("evidence", "evidence-fresh")}
    lines = {name: path.read_text().split() for name, path in made.items() if path.exists()}
    return {**report, **lines, "output": output, "status": status}


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize(("method", "name"), CASES)
def test_of_cpython(report_of: Callable[[str], Report], method: str, name: str) -> None:
    if name in EXCLUDED:
        pytest.skip(EXCLUDED[name])
    report = report_of(method)
    outcome = report["outcomes"].get(name, f"was not run:\n{report['output']}")
    if outcome.startswith("skipped: "):
        pytest.skip(outcome)
    assert outcome == "ok", outcome


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize("method", METHODS)
def test_it_was_garrison_that_ran(report_of: Callable[[str], Report], method: str) -> None:
    report = report_of(method)
    assert {name.split(".")[0] for name in report["evidence"]} == {"garrison"}
    assert {name.split(".")[0] for name in report["evidence-fresh"]} == {"garrison"}


@pytest.mark.watchdog(SECONDS + 10)
@pytest.mark.parametrize("method", METHODS)
def test_cpython_sees_nothing_left_behind(report_of: Callable[[str], Report], method: str) -> None:
    report = report_of(method)
    assert not report["altered"], report["output"]
    assert report["status"] == 0, report["output"]
