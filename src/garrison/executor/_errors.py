"""Errors that are garrison's and the standard executor's at the same time."""

from __future__ import annotations

import pickle
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback

from garrison._typing import Any
from garrison.errors import (
    GarrisonError,
    PoolBroken,
    PoolTerminated,
    ResultUnpicklable,
    WorkerDied,
)
from garrison.pool import MaybeEncodingError, RemoteTraceback

__all__ = [
    "ExecutorBroken",
    "ExecutorTerminated",
    "ExecutorWorkerDied",
    "UnpicklableResult",
    "UnreadableResult",
    "error_of_future",
]


class ExecutorWorkerDied(WorkerDied, BrokenProcessPool):
    """The process that ran this call went away; only its future is lost, the executor goes on."""


class ExecutorBroken(PoolBroken, BrokenProcessPool):
    """No worker can start, so no call can run: the message says what the workers died of."""


class ExecutorTerminated(PoolTerminated, BrokenProcessPool):
    """The workers were ended before this call was over."""


class UnpicklableResult(GarrisonError, pickle.PicklingError, TypeError, AttributeError):
    """The call returned what cannot be pickled. Pickling raises any of these types.

    Attributes
    ----------
    exc, value : str
        What pickling has raised, and the result, as `repr` shows them.
    """

    exc: str
    value: str

    def __str__(self) -> str:
        return f"the result {self.value} cannot be sent: {self.exc}"


class UnreadableResult(ResultUnpicklable, BrokenProcessPool):
    """The result arrived but cannot be unpickled here; the standard executor would be broken."""


def error_of_future(error: BaseException) -> BaseException:
    """Return the error that a future has for an error of a pool."""
    own = _OWN.get(type(error))
    if own is not None:
        error = _as(own, error)
    _mark_remote(error)
    return error


def _as(kind: type[BaseException], error: BaseException) -> BaseException:
    """Return an error of another class, with all that this one has."""
    made: Any = kind.__new__(kind, *error.args)
    made.args = error.args
    vars(made).update(vars(error))
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made  # type: ignore[no-any-return]


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
    MaybeEncodingError: UnpicklableResult,
    ResultUnpicklable: UnreadableResult,
    WorkerDied: ExecutorWorkerDied,
    PoolBroken: ExecutorBroken,
    PoolTerminated: ExecutorTerminated,
}
for _kind in _OWN.values():
    _kind.__module__ = "garrison.executor"
