"""What runs a pool's tasks, other than processes of this machine: ``Pool(engine=...)``.

::

    Pool ──▶ Engine.backend(settings) ──▶ Backend ──▶ serial, threads, interpreters
                                              └─────▶ ClusterBackend ──▶ Cluster ──▶ Ray, Dask, ...

An `Engine` is chosen by name, by address or as an object; it makes the `Backend` of one pool.
`garrison.engines.cluster` has the two levels of all that run on several machines.
"""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.engines._engine import Engine, PoolSettings, engine_of_program, find_engine
    from garrison.engines.dask import Dask
    from garrison.engines.executor import OverExecutor
    from garrison.engines.interpreters import Interpreters
    from garrison.engines.ray import Ray
    from garrison.engines.serial import Serial
    from garrison.engines.threads import Threads
    from garrison.pool.backends import Backend, PickledBackend, Task, TaskBackend, run_message

__all__ = [
    "Backend",
    "Dask",
    "Engine",
    "Interpreters",
    "OverExecutor",
    "PickledBackend",
    "PoolSettings",
    "Ray",
    "Serial",
    "Task",
    "TaskBackend",
    "Threads",
    "engine_of_program",
    "find_engine",
    "run_message",
]

_HOMES = {
    "_engine": (
        "Backend",
        "Engine",
        "PickledBackend",
        "PoolSettings",
        "Task",
        "TaskBackend",
        "engine_of_program",
        "find_engine",
        "run_message",
    ),
    "executor": ("OverExecutor",),
    "interpreters": ("Interpreters",),
    "serial": ("Serial",),
    "threads": ("Threads",),
    "dask": ("Dask",),
    "ray": ("Ray",),
}
_load, _own_names = lazily(__name__, globals(), _HOMES)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load what is first used now."""
        return _load(name)

    def __dir__() -> list[str]:
        return _own_names()
