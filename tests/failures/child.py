"""Run one scenario in this process: ``python -m ...child --module M --method S --report F ROW``.

With ``--call module:function`` instead of ROW, run that function with the `Subject` and the
arguments: that is how a scenario starts a process which is then killed, interrupted or limited.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import multiprocessing
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from crashes import pool_cases

from .registry import Row, all_rows
from .subject import Broken, Missing, Subject
from .system import TOKEN, show_stacks
from .victims import FAILED


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--limit", type=float, default=0.0)
    parser.add_argument("--call")
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if given.limit:
        faulthandler.dump_traceback_later(given.limit)
    subject = Subject.prepare(given.module, given.method)
    if given.call:
        _call(subject, given.call, given.arguments)
    else:
        _run_row(subject, given.arguments[0], given.report)


def _call(subject: Subject, target: str, arguments: list[str]) -> None:
    module, _, function = target.partition(":")
    try:
        getattr(importlib.import_module(module), function)(subject, *arguments)
    except Exception as error:
        traceback.print_exc()
        sys.stdout.write(f"{FAILED} {json.dumps(_outcome(error))}\n")
        sys.stdout.flush()
        os._exit(3)


def _run_row(subject: Subject, name: str, report: Path) -> None:
    try:
        _find(name).run(subject)
    except BaseException as error:
        traceback.print_exc()
        _give_up(report, *_outcome(error))
    _write(report, "ok", "")


def _find(name: str) -> Row:
    return (pool_cases.rows() if name.startswith("crash_point[") else all_rows())[name]


def _outcome(error: BaseException) -> tuple[str, str]:
    """The verdict of the scenario, also if leaving a broken pool raised something after it."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, (Broken, Missing)):
            return type(link).__name__.lower(), str(link)
        if isinstance(link, multiprocessing.TimeoutError):
            return "hangs", "nothing has come"
        link = link.__context__
    return "wrong", f"{type(error).__name__}: {error}"


def _give_up(report: Path, outcome: str, text: str) -> NoReturn:
    # A broken pool may not let the interpreter end, and the outcome is known.
    if outcome == "hangs":
        faulthandler.dump_traceback()
        show_stacks(os.environ[TOKEN], sys.stderr.fileno())
    _write(report, outcome, text)
    sys.stderr.flush()
    os._exit(3)


def _write(report: Path, outcome: str, text: str) -> None:
    partial = report.with_suffix(".partial")
    partial.write_text(json.dumps({"outcome": outcome, "text": text}))
    partial.rename(report)


if __name__ == "__main__":
    main()
