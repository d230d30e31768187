"""Run CPython's own tests of multiprocessing and concurrent.futures with garrison in its place.

    python tests/conformance/run.py                       all that this Python has installed
    python tests/conformance/run.py --method spawn        one start method
    python tests/conformance/run.py --executor            those of executors, on `garrison.Executor`
    python tests/conformance/run.py TestPool TestQueue    classes whose name contains one of these
    python tests/conformance/run.py --module multiprocessing     the standard library, to compare

Each class runs in a process of its own. The exit code is 0 if every test passed, was skipped by
CPython itself, or stands in `exclusions.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent)]

from conformance.exclusions import EXCLUDED  # noqa: E402 - found by the line above

METHODS = ("fork", "spawn", "forkserver")
EXECUTOR = "executor"
"""Before the name of a module of tests: with `garrison.Executor` in the place of theirs."""
SECONDS = 600.0
"""A class that takes longer is ended; `program.py` ends a single test much earlier."""


@dataclass(frozen=True)
class Job:
    """A class of tests and the suite (a start method, or a module of tests) it belongs to."""

    suite: str
    name: str
    tests: tuple[str, ...]

    @property
    def excluded(self) -> dict[str, str]:
        """Tests that are left out, each with the reason."""
        reasons = {}
        for test in self.tests:
            full = f"{self.suite}.{self.name}.{test}"
            for pattern, reason in EXCLUDED.items():
                if fnmatch.fnmatchcase(full, pattern):
                    reasons[test] = reason
        return reasons


@dataclass(frozen=True)
class Outcome:
    """What became of one test: passed, failed, skipped or excluded."""

    test: str
    kind: str
    text: str


def suites(methods: tuple[str, ...]) -> Iterator[str]:
    """Yield the suites that this Python has installed."""
    if _installed("test._test_multiprocessing"):
        yield from methods
    if _installed("test.test_multiprocessing_main_handling"):
        yield "test.test_multiprocessing_main_handling"
    base = "test.test_concurrent_futures"
    spec = importlib.util.find_spec(base) if _installed(base) else None
    if spec is None or spec.origin is None:
        return
    names = [base]
    if spec.submodule_search_locations is not None:
        files = Path(spec.origin).parent.glob("test_*.py")
        names = sorted(f"{base}.{path.stem}" for path in files)
    yield from names
    yield from (f"{EXECUTOR}:{name}" for name in names)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def jobs(suite: str, environment: dict[str, str], names: list[str]) -> list[Job]:
    """List the classes of a suite whose names contain one of `names`."""
    command = [sys.executable, str(HERE / "program.py"), suite]
    listed = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    if listed.returncode:
        raise SystemExit(f"cannot list the tests of {suite}:\n{listed.stderr}")
    found = json.loads(listed.stdout.splitlines()[-1])
    return [
        Job(suite, name, tuple(tests))
        for name, tests in sorted(found.items())
        if tests and (not names or any(part in name for part in names))
    ]


def run(job: Job, environment: dict[str, str]) -> list[Outcome]:
    """Run a class; a test that hangs or ends the process fails, and the others go on."""
    excluded = {} if environment["CONFORMANCE_MODULE"] == "multiprocessing" else job.excluded
    outcomes = [Outcome(test, "excluded", why) for test, why in excluded.items()]
    left = set(job.tests) - set(excluded)
    while left:
        done, printed = _run_once(job, environment, set(job.tests) - left)
        outcomes += done
        finished = {outcome.test for outcome in done}
        if not finished & left:
            outcomes += [Outcome(test, "failed", printed) for test in sorted(left)]
            break
        left -= finished
    return outcomes


def _run_once(job: Job, environment: dict[str, str], leave: set[str]) -> tuple[list[Outcome], str]:
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        lines, printed = Path(folder, "outcomes"), Path(folder, "printed")
        with printed.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "program.py"), job.suite, job.name, str(lines)],
                env={**environment, "CONFORMANCE_LEAVE": " ".join(leave), "TMPDIR": folder},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS)
            _end(process)
        text = printed.read_text(errors="replace")
        events = (
            [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        )
    return list(_outcomes(events, job, text)), text


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a run, whatever its tests have started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcomes(events: list[list[str]], job: Job, printed: str) -> Iterator[Outcome]:
    """Read the lines of a run; a test that only began has ended the process, or hung."""
    kinds: dict[str, tuple[str, str]] = {}
    begun = ""
    for event, name, text in events:
        if event == "done":
            begun = ""
            if text == "True":
                kinds.setdefault("(environment)", ("failed", f"left something behind:\n{printed}"))
        elif event == "begin":
            begun = name
            kinds[name] = ("failed", f"ended the process, or hung:\n{printed}")
        elif name not in job.tests:
            # A class or module that could not be set up, or was skipped as a whole.
            for test in job.tests:
                kinds.setdefault(test, (event, text))
            begun = ""
        elif kinds.get(name, ("",))[0] != "failed" or begun == name:
            kinds[name] = (event, text)
            begun = ""
    for name, (kind, text) in kinds.items():
        yield Outcome(name, kind, text)


def main() -> None:
    """Run what the command line asks for, print failures and counts."""
    parser = argparse.ArgumentParser(description="CPython's tests with garrison in place")
    parser.add_argument("names", nargs="*", help="parts of names of test classes")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--module", default="garrison")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--executor", action="store_true", help="garrison.Executor alone")
    parser.add_argument("--quick", action="store_true", help="leave concurrent.futures out")
    options = parser.parse_args()
    path = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "CONFORMANCE_MODULE": options.module,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    chosen = list(suites(tuple(options.method or METHODS)))
    if options.quick:
        chosen = [suite for suite in chosen if suite in METHODS]
    if options.executor:
        chosen = [suite for suite in chosen if suite.startswith(EXECUTOR)]
    todo = [job for suite in chosen for job in jobs(suite, environment, options.names)]
    began = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as threads:
        results = list(threads.map(lambda job: (job, run(job, environment)), todo))
    sys.exit(_report(results, time.monotonic() - began))


def _report(results: list[tuple[Job, list[Outcome]]], seconds: float) -> int:
    counts: dict[str, Counter[str]] = {}
    for job, outcomes in results:
        for outcome in outcomes:
            counts.setdefault(job.suite, Counter())[outcome.kind] += 1
            if outcome.kind == "failed":
                print(f"\nFAILED {job.suite}.{job.name}.{outcome.test}\n{outcome.text}")
    print(f"\nCPython {sys.version.split()[0]}, {seconds:.0f} s")
    for suite, found in counts.items():
        kinds = ("passed", "failed", "skipped", "excluded")
        print(f"  {suite}: " + ", ".join(f"{found[kind]} {kind}" for kind in kinds))
    total = sum(counts.values(), Counter[str]())
    print(f"conformance: {total['passed']} passed, {total['failed']} failed")
    return int(total["failed"] > 0 or not total["passed"])


if __name__ == "__main__":
    main()
