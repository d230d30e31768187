"""The engines that the suite runs over: one entry for each, with what it cannot do, and why.

A new engine is a `Subject` in a list of its own, in the module ``engines.subject_NAME`` beside this
one: the suite finds it there.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import garrison
from garrison.engines import Serial

ONLY = "GARRISON_TEST_ONLY"
"""Names, in the environment, the one engine of a run."""
CAPABILITIES = {
    "parallel": "runs tasks at the same time",
    "pickling": "sends arguments and results as pickles",
    "by_name": "can be chosen by GARRISON_ENGINE",
    "processes": "runs tasks in other processes than the program's",
    "deaths": "tells which task a dead worker had, and goes on",
    "exits": "takes sys.exit in a task for the end of the worker",
    "timeout": "ends a task at its timeout",
    "lifetime": "replaces a worker after `maxtasksperchild` tasks",
    "termination": "ends running tasks with `terminate`",
    "own_globals": "has globals of its own in each worker",
    "seeds": "seeds each worker",
    "interrupt": "leaves a running task at Ctrl-C",
    "own_workers": "starts workers for each pool",
    "forks": "lets the program fork while it has a pool",
    "extensions": "lets tasks import garrison's core, and numpy",
    "pids": "lists the process numbers of its workers",
    "hosts": "names the host in the traceback of a remote exception",
}


@contextlib.contextmanager
def nothing_to_start() -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Subject:
    """An engine under test."""

    name: str
    text: str
    """It, for GARRISON_ENGINE of a program that a test starts."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Capabilities that it does not have, each with the reason."""
    make: Callable[[], Any] | None = None
    """Returns the argument `engine` of a pool; by default `text`."""
    running: Callable[[], AbstractContextManager[Any]] = nothing_to_start
    """Runs what the engine needs (a cluster), once for all tests."""
    missing: str = ""
    """Why it cannot be tested here; empty if it can."""
    shares_pool: bool = False
    """Whether a pool is started once for many tests, since that takes long."""

    def engine(self) -> Any:
        return self.text if self.make is None else self.make()

    def pool(self, processes: int | None = 2, *args: Any, **options: Any) -> garrison.Pool:
        return garrison.Pool(processes, *args, engine=self.engine(), **options)


IN_PROCESS = {
    "processes": "its workers are in this process",
    "deaths": "its workers are in this process",
    "exits": "SystemExit is what the call raised",
    "pids": "its workers are in this process",
    "hosts": "its workers are in this process",
}
_SHARED = {
    "pickling": "arguments and results are the program's own objects",
    "own_globals": "all tasks see the program's own globals",
    "seeds": "all tasks draw from the program's own generators",
    "lifetime": "there is nothing to be made afresh",
}
NO_END = {
    "timeout": "a thread cannot be ended from outside",
    "termination": "a thread cannot be ended from outside",
}
OF_INTERPRETERS = {
    "extensions": "numpy and garrison's core refuse sub-interpreters",
    "forks": "CPython 3.14 crashes in the child of a fork if there are sub-interpreters",
}
NO_INTERRUPT = {"interrupt": "only the program's main thread is interrupted"}

SUBJECTS = [
    Subject(
        "processes",
        "processes",
        {"hosts": "its only host is this one"},
    ),
    Subject("threads", "threads", {**IN_PROCESS, **_SHARED, **NO_END, **NO_INTERRUPT}),
    Subject(
        "serial",
        "serial",
        {**IN_PROCESS, **_SHARED, **NO_END, "parallel": "it runs one task after the other"},
    ),
    Subject(
        "serial with pickles",
        "",
        {
            **{reason: _SHARED[reason] for reason in _SHARED if reason != "pickling"},
            **IN_PROCESS,
            **NO_END,
            "parallel": "it runs one task after the other",
            "by_name": "its name is that of a serial engine without pickles",
        },
        make=lambda: Serial(pickle=True),
    ),
    Subject(
        "interpreters",
        "interpreters",
        {
            **IN_PROCESS,
            **NO_END,
            **NO_INTERRUPT,
            **OF_INTERPRETERS,
        },
        missing="" if sys.version_info >= (3, 14) else "sub-interpreters need Python 3.14",
    ),
]


def all_subjects() -> list[Subject]:
    """Return these, and those of the modules beside this one."""
    found = list(SUBJECTS)
    for path in sorted(Path(__file__).parent.glob("subject_*.py")):
        found += importlib.import_module(f"{__package__}.{path.stem}").SUBJECTS
    unknown = {each for subject in found for each in subject.lacks} - set(CAPABILITIES)
    assert not unknown, unknown
    only = os.environ.get(ONLY)
    return [subject for subject in found if only in {None, subject.name}]


def missing_package(name: str) -> str:
    """Return why an engine cannot be tested without a package; nothing if it is installed."""
    if importlib.util.find_spec(name) is not None:
        return ""
    return f"{name} is not installed in {sys.prefix}"
