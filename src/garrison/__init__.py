"""garrison: the multiprocessing that Python should have.

``import garrison as multiprocessing`` is the whole migration. The pool is garrison's own, and so
are locks, queues, shared memory and managers; what garrison does not have (processes, pipes) is the
standard library's, under the standard library's names, so that a program can move as it is.

Examples
--------
>>> import garrison
>>> with garrison.Pool(5) as pool:
...     pool.map(lambda x: x**2, range(1, 11))
[1, 4, 9, 16, 25, 36, 49, 64, 81, 100]
"""

from __future__ import annotations

import importlib
import multiprocessing as _multiprocessing
from multiprocessing import (
    AuthenticationError,
    BufferTooShort,
    Pipe,
    Process,
    ProcessError,
    TimeoutError,  # noqa: A004 - the standard name
    active_children,
    allow_connection_pickling,
    cpu_count,
    current_process,
    freeze_support,
    get_all_start_methods,
    get_logger,
    log_to_stderr,
    parent_process,
    reducer,
    set_executable,
    set_forkserver_preload,
)
from typing import Any

from garrison import errors, memory, pool, sync
from garrison._contexts import (
    Manager,
    connect,
    get_context,
    get_start_method,
    set_start_method,
)
from garrison.errors import (
    AbandonedLock,
    ArgumentUnpicklable,
    DeadlockError,
    GarrisonError,
    LeaseLost,
    ManagerLost,
    OwnerDied,
    PoolBroken,
    PoolClosed,
    PoolTerminated,
    ResultUnpicklable,
    SharedMemoryFull,
    SharedMemoryGone,
    TaskTimeout,
    WorkerDied,
)
from garrison.memory import RawArray, RawValue, Shared, ndarray, share
from garrison.options import Options
from garrison.pool import Pool
from garrison.sync import (
    Array,
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    JoinableQueue,
    Lock,
    Queue,
    RLock,
    Semaphore,
    SimpleQueue,
    Value,
)

__version__ = "0.1.0"

__all__ = [
    "AbandonedLock",
    "ArgumentUnpicklable",
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "DeadlockError",
    "Event",
    "GarrisonError",
    "JoinableQueue",
    "LeaseLost",
    "Lock",
    "Manager",
    "ManagerLost",
    "Options",
    "OwnerDied",
    "Pipe",
    "Pool",
    "PoolBroken",
    "PoolClosed",
    "PoolTerminated",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "ResultUnpicklable",
    "Semaphore",
    "Shared",
    "SharedMemoryFull",
    "SharedMemoryGone",
    "SimpleQueue",
    "TaskTimeout",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "active_children",
    "allow_connection_pickling",
    "connect",
    "cpu_count",
    "current_process",
    "errors",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "memory",
    "ndarray",
    "parent_process",
    "pool",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "share",
    "sync",
]


def __getattr__(name: str) -> Any:
    """Find what is not garrison's own in the standard library, submodules included."""
    if name in _FACES:
        return importlib.import_module(f"{__name__}.{name}")
    if not name.startswith("_"):
        try:
            return getattr(_multiprocessing, name)
        except AttributeError:
            if name in _SUBMODULES:
                return importlib.import_module(f"multiprocessing.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_FACES = frozenset({"managers", "queues", "shared_memory", "sharedctypes", "synchronize"})
"""Submodules of the standard library of which garrison has its own."""
_SUBMODULES = frozenset({"connection", "dummy", "heap", "reduction"} | {"spawn", "util"})
