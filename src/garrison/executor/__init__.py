"""`Executor`: the contract of `concurrent.futures`, with garrison's pool beneath it.

Its futures are futures of the standard library: `as_completed`, `wait`, asyncio and all else take
them. The first program that reads a result waits in the core itself; a thread exists only for
futures with callbacks or waiters of another kind.
"""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.executor._errors import (
        ExecutorBroken,
        ExecutorTerminated,
        ExecutorWorkerDied,
        UnpicklableResult,
        UnreadableResult,
    )
    from garrison.executor._executor import Executor, ProcessPoolExecutor
    from garrison.executor._future import Future

__all__ = [
    "Executor",
    "ExecutorBroken",
    "ExecutorTerminated",
    "ExecutorWorkerDied",
    "Future",
    "ProcessPoolExecutor",
    "UnpicklableResult",
    "UnreadableResult",
]

_HOMES = {
    "_errors": (
        "ExecutorBroken",
        "ExecutorTerminated",
        "ExecutorWorkerDied",
        "UnpicklableResult",
        "UnreadableResult",
    ),
    "_executor": ("Executor", "ProcessPoolExecutor"),
    "_future": ("Future",),
}
_load, _own_names = lazily(__name__, globals(), _HOMES)

if not TYPE_CHECKING:
    __dir__ = _own_names

    def __getattr__(name: str) -> Any:
        """Load what is first used now."""
        return _load(name)


del TYPE_CHECKING
