"""Errors that are garrison's and the standard executor's at the same time."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback

from garrison.errors import PoolBroken, PoolTerminated, WorkerDied
from garrison.pool import RemoteTraceback

__all__ = ["ExecutorBroken", "ExecutorTerminated", "ExecutorWorkerDied", "error_of_future"]


class ExecutorWorkerDied(WorkerDied, BrokenProcessPool):
    """The process that ran this call went away; only its future is lost, the executor goes on."""


class ExecutorBroken(PoolBroken, BrokenProcessPool):
    """No worker can start, so no call can run: the message says what the workers died of."""


class ExecutorTerminated(PoolTerminated, BrokenProcessPool):
    """The workers were ended before this call was over."""


def error_of_future(error: BaseException) -> BaseException:
    """Return the error that a future has for an error of a pool."""
    for kind, own in _OWN.items():
        if isinstance(error, kind) and not isinstance(error, BrokenProcessPool):
            return own(*error.args).with_traceback(error.__traceback__)
    _mark_remote(error)
    return error


def _mark_remote(error: BaseException) -> None:
    """Give the worker's traceback, the last of the causes, the class that executors give it."""
    seen = set()
    while error.__cause__ is not None and id(error) not in seen:
        cause = error.__cause__
        if type(cause) is RemoteTraceback:
            error.__cause__ = _RemoteTraceback(cause.tb)  # type: ignore[attr-defined]
            return
        seen.add(id(error))
        error = cause


_OWN: dict[type[BaseException], type[BaseException]] = {
    WorkerDied: ExecutorWorkerDied,
    PoolBroken: ExecutorBroken,
    PoolTerminated: ExecutorTerminated,
}
for _kind in _OWN.values():
    _kind.__module__ = "garrison.executor"
