"""Run a part of CPython's tests: ``python -m ...runner MODULE PART METHOD FOLDER``."""

from __future__ import annotations

import faulthandler
import functools
import importlib
import json
import os
import sys
import unittest
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import parts, stand_in

SECONDS = 120
CHILDREN = "GARRISON_STANDS_IN_CHILDREN"


class Results(unittest.TextTestResult):
    """Keeps the outcome of each test: ok, skipped with its reason, or the traceback."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.outcomes: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addSuccess(test)
        self.outcomes.setdefault(_name(test), "ok")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self.outcomes[_name(test)] = f"skipped: {reason}"

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self.outcomes[_name(test)] = self.failures[-1][1]

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self.outcomes[_name(test)] = self.errors[-1][1]


class OfClass(unittest.TestSuite):
    """The tests of a class; what is made from its set-up on is made for it."""

    def __init__(self, cls: type[unittest.TestCase], tests: Iterable[unittest.TestCase]) -> None:
        super().__init__(tests)
        self._name = cls.__name__

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        stand_in.current_class = self._name
        return super().run(result, debug)


def _name(test: unittest.TestCase) -> str:
    # A class or module that cannot be set up arrives as "setUpClass (module.Class)".
    return ".".join(test.id().rsplit(".", 2)[-2:])


def main() -> None:
    """Run the tests and write report.json and evidence to the folder."""
    module, part, method, folder = sys.argv[1:]
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    os.environ["GARRISON_START_METHOD"] = method
    evidence = Path(folder, "evidence")
    _stand_in_fresh_interpreters(module, part, evidence)
    stand_in.install(module, part, evidence)
    if parts.PARTS[part].children:
        os.environ[CHILDREN] = os.pathsep.join([module, part, str(evidence)])
    suite = importlib.import_module(f"{__package__}.suite")
    outcomes = _run(suite, list(parts.classes_of(part)))
    report = {
        "outcomes": outcomes,
        "altered": importlib.import_module("test.support").environment_altered,
    }
    Path(folder, "report.json").write_text(json.dumps(report))


def _run(suite: Any, names: list[str]) -> dict[str, str]:
    tests = [_load(getattr(suite, name)) for name in names]
    runner = unittest.TextTestRunner(verbosity=2, resultclass=Results)
    result: Any = runner.run(unittest.TestSuite(tests))
    outcomes: dict[str, str] = result.outcomes
    return outcomes


def _load(cls: type[unittest.TestCase]) -> unittest.TestSuite:
    names = unittest.TestLoader().getTestCaseNames(cls)
    chosen = [name for name in names if f"{cls.__name__}.{name}" not in parts.LEFT_OUT]
    return OfClass(cls, map(cls, chosen))


def _stand_in_fresh_interpreters(module: str, part: str, evidence: Path) -> None:
    """Interpreters that tests start, and no others, find a sitecustomize on their path."""
    site = str(Path(__file__).with_name("stand_in_site"))
    told = [stand_in.__name__, module, part, str(evidence.with_name("evidence-fresh"))]
    helper: Any = importlib.import_module("test.support.script_helper")
    helper.assert_python_ok = functools.partial(
        helper.assert_python_ok,
        PYTHONPATH=os.pathsep.join([site, os.environ["PYTHONPATH"]]),
        GARRISON_STANDS_IN=os.pathsep.join(told),
    )


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__" and CHILDREN in os.environ:
    _module, _part, _evidence = os.environ[CHILDREN].split(os.pathsep)
    stand_in.install(_module, _part, Path(_evidence))
