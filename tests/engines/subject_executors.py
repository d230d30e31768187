"""`concurrent.futures`: its executors as engines, mpi4py's among them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from .executors import WORKERS, begun, processes
from .subjects import IN_PROCESS, NO_END, NO_INTERRUPT, OF_INTERPRETERS, Subject

UNDER_MPI = "GARRISON_TEST_UNDER_MPI"
_running: dict[str, Executor] = {}


def _over(name: str, make: Callable[[], Executor]) -> dict[str, Any]:
    @contextlib.contextmanager
    def running() -> Iterator[None]:
        with make() as executor:
            _running[name] = begun(executor)
            yield

    return {"running": running, "make": lambda: _running[name]}


def _mpi() -> Executor:
    made: Executor = importlib.import_module("mpi4py.futures").MPIPoolExecutor(WORKERS)
    return made


def _interpreters() -> Executor:
    kind: Any = getattr(concurrent.futures, "InterpreterPoolExecutor")  # noqa: B009 - of Python 3.14
    made: Executor = kind(WORKERS)
    return made


_EXECUTORS = {
    "deaths": "an executor breaks when a worker dies",
    "exits": "SystemExit is what the call raised",
    "timeout": "no executor ends a running task",
    "termination": "no executor ends a running task",
    "lifetime": "refused: an executor replaces its workers as it likes",
    "own_workers": "the executor's workers are there before the pool",
    "seeds": "the executor's workers are there before the pool",
    "pids": "an executor does not tell",
    "hosts": "an executor does not tell",
}

_MPI = Subject(
    "executor of MPI",
    "",
    {**_EXECUTORS, **NO_INTERRUPT, "by_name": "a program over MPI is started by mpiexec"},
    **_over("mpi", _mpi),
)

SUBJECTS = [
    Subject(
        "executor of threads",
        "engines.executors:OverThreads",
        {
            **_EXECUTORS,
            **IN_PROCESS,
            **NO_END,
            **NO_INTERRUPT,
            "own_globals": "all tasks see the program's own globals",
        },
        **_over("threads", lambda: ThreadPoolExecutor(WORKERS)),
    ),
    Subject(
        "executor of processes",
        "engines.executors:OverProcesses",
        {**_EXECUTORS, **NO_INTERRUPT},
        **_over("processes", processes),
    ),
    Subject(
        "executor of interpreters",
        "",
        {
            **_EXECUTORS,
            **IN_PROCESS,
            **NO_END,
            **NO_INTERRUPT,
            **OF_INTERPRETERS,
            "by_name": "as that of threads",
        },
        missing="" if sys.version_info >= (3, 14) else "sub-interpreters need Python 3.14",
        **_over("interpreters", _interpreters),
    ),
    # Elsewhere there would be no workers: `test_suite_over_mpi` starts a run that has some.
    *([_MPI] if UNDER_MPI in os.environ else []),
]
