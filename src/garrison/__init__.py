"""garrison: the multiprocessing that Python should have.

``import garrison as multiprocessing`` is the whole migration. Pools, locks, queues, shared memory
and managers are garrison's own. Processes and pipes are the standard library's, under its names, so
programs need no other change. Modules are loaded at their first use.

Examples
--------
>>> import garrison
>>> with garrison.Pool(5) as pool:
...     pool.map(lambda x: x**2, range(1, 11))
[1, 4, 9, 16, 25, 36, 49, 64, 81, 100]
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING, Any

NATIVE: bool = sys.platform == "linux"
"""Whether this is garrison, and not the standard library under its names (`_elsewhere`)."""

if NATIVE:
    from garrison.context import _default_context

    # Without a core there may be the folder of its stubs, which can be imported.
    _core_spec = importlib.util.find_spec("garrison._core")
    if _core_spec is None or _core_spec.submodule_search_locations is not None:
        from garrison import _no_core

        raise _no_core.missing()
    del _core_spec
    if getattr(sys.flags, "gil", 1) == 0:
        from garrison import _no_core

        raise _no_core.without_gil()
else:
    from garrison import _elsewhere

    _elsewhere.install()
    _default_context: Any = _elsewhere.standard_context  # type: ignore[no-redef]

if TYPE_CHECKING:
    from multiprocessing import (
        AuthenticationError,
        BufferTooShort,
        Pipe,
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
    from typing import Literal, overload

    from typing_extensions import Unpack

    from garrison import aio as aio
    from garrison import connection as connection
    from garrison import context as context
    from garrison import dummy as dummy
    from garrison import errors, memory, pool, sync
    from garrison import managers as managers
    from garrison import options as options
    from garrison import process as process
    from garrison import queues as queues
    from garrison import shared_memory as shared_memory
    from garrison import sharedctypes as sharedctypes
    from garrison import synchronize as synchronize
    from garrison import util as util
    from garrison.context import Process
    from garrison.errors import (
        AbandonedLock,
        ArgumentUnpicklable,
        DeadlockError,
        EngineLost,
        EngineMismatch,
        EngineUnavailable,
        GarrisonError,
        LeaseLost,
        ManagerLost,
        NeedsLinux,
        OwnerDied,
        PoolBroken,
        PoolClosed,
        PoolTerminated,
        ResultUnpicklable,
        SharedMemoryCorrupt,
        SharedMemoryFull,
        SharedMemoryGone,
        TaskCancelled,
        TaskInterrupt,
        TaskTimeout,
        WorkerDied,
    )
    from garrison.executor import Executor, ProcessPoolExecutor
    from garrison.manager import NO_KEY, ManagerOptions, SyncManager, connect
    from garrison.memory import RawArray, RawValue, Shared, ndarray, share
    from garrison.options import Options
    from garrison.pool import Failure, Pool
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

    def Manager(  # noqa: N802 - the standard name
        address: Any = None, **options: Unpack[ManagerOptions]
    ) -> SyncManager:
        """Return a manager whose server has been started.

        Parameters
        ----------
        address : tuple or str, optional
            Where others find it, on this machine or on others: ``("0.0.0.0", 5000)``. Or the URL of
            a Valkey or Redis server, ``"valkey://host:6379/0"``, which has all of it then.
        **options
            `key`, `path`, `sync`, `size` and all else that `garrison.managers.SyncManager` takes.

        Raises
        ------
        OSError
            If the address cannot be had.
        ValueError
            If other computers reach the address, and there is no key.
        StoreBusy
            If another server has the folder `path`.
        """

    @overload
    def get_context(method: Literal["fork"]) -> context.ForkContext: ...
    @overload
    def get_context(method: Literal["spawn"]) -> context.SpawnContext: ...
    @overload
    def get_context(method: Literal["forkserver"]) -> context.ForkServerContext: ...
    @overload
    def get_context(method: str | None = None) -> context.BaseContext: ...
    def get_context(method: str | None = None) -> context.BaseContext:
        """Return the context for a start method, or the default one.

        Raises
        ------
        ValueError
            If there is no such method.
        """

    @overload
    def get_start_method(allow_none: Literal[False] = False) -> str: ...
    @overload
    def get_start_method(allow_none: bool) -> str | None: ...
    def get_start_method(allow_none: bool = False) -> str | None:
        """Return the name of the default start method; None if it is `allow_none` and not set."""

    def set_start_method(method: str | None, force: bool = False) -> None:
        """Set the default start method: ``'fork'``, ``'spawn'`` or ``'forkserver'``.

        Raises
        ------
        RuntimeError
            If it was set before, unless with `force`.
        ValueError
            If there is no such method.
        """


__version__ = "0.1.0"

__all__ = [
    "NATIVE",
    "NO_KEY",
    "AbandonedLock",
    "ArgumentUnpicklable",
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "DeadlockError",
    "EngineLost",
    "EngineMismatch",
    "EngineUnavailable",
    "Event",
    "Executor",
    "Failure",
    "GarrisonError",
    "JoinableQueue",
    "LeaseLost",
    "Lock",
    "Manager",
    "ManagerLost",
    "NeedsLinux",
    "Options",
    "OwnerDied",
    "Pipe",
    "Pool",
    "PoolBroken",
    "PoolClosed",
    "PoolTerminated",
    "Process",
    "ProcessError",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "ResultUnpicklable",
    "Semaphore",
    "Shared",
    "SharedMemoryCorrupt",
    "SharedMemoryFull",
    "SharedMemoryGone",
    "SimpleQueue",
    "TaskCancelled",
    "TaskInterrupt",
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


SUBDEBUG = 5
SUBWARNING = 25

_HOMES = {
    "errors": (
        "AbandonedLock",
        "ArgumentUnpicklable",
        "DeadlockError",
        "EngineLost",
        "EngineMismatch",
        "EngineUnavailable",
        "GarrisonError",
        "LeaseLost",
        "ManagerLost",
        "NeedsLinux",
        "OwnerDied",
        "PoolBroken",
        "PoolClosed",
        "PoolTerminated",
        "ResultUnpicklable",
        "SharedMemoryCorrupt",
        "SharedMemoryFull",
        "SharedMemoryGone",
        "TaskCancelled",
        "TaskInterrupt",
        "TaskTimeout",
        "WorkerDied",
    ),
    "executor": ("Executor", "ProcessPoolExecutor"),
    "manager": ("NO_KEY", "connect"),
    "memory": (
        "RawArray",
        "RawValue",
        "Shared",
        "ndarray",
        "share",
    ),
    "options": ("Options",),
    "pool": ("Failure", "Pool"),
    "sync": (
        "Array",
        "Barrier",
        "BoundedSemaphore",
        "Condition",
        "Event",
        "JoinableQueue",
        "Lock",
        "Queue",
        "RLock",
        "Semaphore",
        "SimpleQueue",
        "Value",
    ),
}
_MODULES = ("aio", "engines", "managers", "shared_memory", "store")
_homes = _HOMES if NATIVE else _elsewhere.homes(_HOMES)
_load, _own_names = lazily(__name__, globals(), _homes)

# The other standard names are those of the default context, as in the standard library.
for _name in dir(_default_context):
    if not _name.startswith("_") and all(_name not in names for names in _HOMES.values()):
        globals()[_name] = getattr(_default_context, _name)
if not NATIVE:
    Manager = _elsewhere.Manager

# As the standard library does; its children do the same with the main module that they import.
if "__main__" in sys.modules:
    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])

if not TYPE_CHECKING:

    def __dir__() -> list[str]:
        """Return all names, and the modules that are loaded at their first use."""
        return sorted({*_own_names(), *__all__, *_MODULES})

    def __getattr__(name: str) -> Any:
        """Load a class or a module at its first use."""
        if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
            return importlib.import_module(f"{__name__}.{name}")
        return _load(name)


# What the package has besides is no public name of it.
del _name, TYPE_CHECKING
