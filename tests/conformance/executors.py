"""`garrison.Executor` in the place of the standard library's, for CPython's tests of executors.

What tests wait for inside of the standard executor has a stand-in here: they look at it only to
know when all of it has ended.
"""

from __future__ import annotations

import concurrent.futures
import importlib
from typing import Any

from garrison import Executor

__all__ = ["ProcessPoolExecutor", "replace_executor", "replace_in_scripts"]


class _Ended:
    """The manager's thread, and the queue of calls: there is none, so the pool is waited for."""

    def __init__(self, executor: Executor) -> None:
        self._work = executor._work

    def join(self, timeout: float | None = None) -> None:
        if self._work is not None:
            self._work.finish()

    join_thread = join

    def is_alive(self) -> bool:
        return False


class ProcessPoolExecutor(Executor):
    """With what CPython's tests look at."""

    @property
    def _executor_manager_thread(self) -> _Ended:
        return _Ended(self)

    @property
    def _call_queue(self) -> _Ended:
        return _Ended(self)


def replace_executor() -> None:
    """Put it into the standard library's place, in this process."""
    futures: Any = concurrent.futures
    futures.ProcessPoolExecutor = ProcessPoolExecutor


def replace_in_scripts() -> None:
    """Do the same in the scripts that tests run as programs of their own."""
    helper: Any = importlib.import_module("test.support.script_helper")
    run = helper.assert_python_ok
    theirs = "from concurrent.futures import ProcessPoolExecutor"

    def assert_python_ok(*args: str, **environment: str) -> Any:
        ours = [each.replace(theirs, "from garrison import ProcessPoolExecutor") for each in args]
        return run(*ours, **environment)

    helper.assert_python_ok = assert_python_ok
