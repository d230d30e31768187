"""The program that runs some of CPython's tests: ``program.py SUITE [CLASS OUTPUT]``.

The first lines below are all that a program needs to be moved to garrison. Children that import
this file as their main module run them too. Without a class, the names of all tests are printed.
"""

from __future__ import annotations

import importlib
import os
import sys

MODULE = os.environ.get("CONFORMANCE_MODULE", "garrison")
if MODULE != "multiprocessing":
    sys.modules["multiprocessing"] = importlib.import_module(MODULE)
if os.environ.get("CONFORMANCE_EXECUTOR"):
    importlib.import_module("conformance.executors").replace_executor()

import faulthandler  # noqa: E402 - the replacement comes first
import json  # noqa: E402
import unittest  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

SECONDS = 90
"""A test that takes longer hangs: every stack is printed and the process ends."""


class Results(unittest.TextTestResult):
    """Writes a line for each test as it begins and as it ends, so that a hang loses one test."""

    output: Path

    def _write(self, event: str, test: unittest.TestCase, text: str = "") -> None:
        # A class or module that cannot be set up arrives as "setUpClass (module.Class)".
        name = getattr(test, "test_case", test).id().rsplit(".", 1)[-1].rstrip(")")
        with self.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps([event, name, text]) + "\n")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Note the beginning."""
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        self._write("begin", test)
        super().startTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Note a success."""
        super().addSuccess(test)
        self._write("passed", test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802 - unittest's name
        """Note a test that does not apply."""
        super().addSkip(test, reason)
        self._write("skipped", test, reason)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        """Note a failure."""
        super().addFailure(test, err)
        self._write("failed", test, self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        """Note an error."""
        super().addError(test, err)
        self._write("failed", test, self.errors[-1][1])

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        """Note a test that fails as CPython says it does."""
        super().addExpectedFailure(test, err)
        self._write("passed", test)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Note a test that passes where CPython says that it fails."""
        super().addUnexpectedSuccess(test)
        self._write("failed", test, "unexpected success")

    def addSubTest(  # noqa: N802 - unittest's name
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any
    ) -> None:
        """Note a part of a test that failed."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._write("failed", test, (self.failures + self.errors)[-1][1])


def _load(suite: str) -> tuple[Any, dict[str, type[unittest.TestCase]]]:
    if suite in {"fork", "spawn", "forkserver"}:
        os.environ["CONFORMANCE_METHOD"] = suite
        suite = "conformance.suite"
    of_executor, _, suite = suite.rpartition(":")
    if of_executor:
        os.environ["CONFORMANCE_EXECUTOR"] = "1"
        ours = importlib.import_module("conformance.executors")
        ours.replace_executor()
        ours.replace_in_scripts()
    module = importlib.import_module(suite)
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        # The other executors are the standard library's own.
        and not (of_executor and "ProcessPool" not in name)
    }
    return module, classes


def main() -> None:
    """Print the names of the tests, or run those of a class that were not run yet."""
    suite, *rest = sys.argv[1:]
    _, classes = _load(suite)
    loader = unittest.TestLoader()
    if not rest:
        print(json.dumps({name: loader.getTestCaseNames(cls) for name, cls in classes.items()}))
        return
    chosen, output = classes[rest[0]], Path(rest[1])
    leave = set(os.environ.get("CONFORMANCE_LEAVE", "").split())
    Results.output = output
    # A plain suite sets the class and its module up, as unittest's own runner would.
    tests = unittest.TestSuite(
        chosen(name) for name in loader.getTestCaseNames(chosen) if name not in leave
    )
    kind: Any = Results
    result = unittest.TextTestRunner(verbosity=2, resultclass=kind).run(tests)
    faulthandler.cancel_dump_traceback_later()
    support: Any = importlib.import_module("test.support")
    with output.open("a", encoding="utf-8") as file:
        file.write(json.dumps(["done", "", str(support.environment_altered)]) + "\n")
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
