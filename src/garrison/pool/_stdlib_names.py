"""The names and classes of `multiprocessing.pool`, and private attributes of a standard pool."""

from __future__ import annotations

from collections.abc import Callable

from garrison import _standard
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ResultUnpicklable

if TYPE_CHECKING:
    from garrison.pool._backend import Backend
    from garrison.pool._task_queue import Cache, TaskQueue

_pool: Any = _standard.load("pool")

CLOSE: str = _pool.CLOSE
RUN: str = _pool.RUN
TERMINATE: str = _pool.TERMINATE
MaybeEncodingError: type[Exception] = _pool.MaybeEncodingError
RemoteTraceback: type[Exception] = _pool.RemoteTraceback
ExceptionWithTraceback: Any = _pool.ExceptionWithTraceback
mapstar: Any = _pool.mapstar
starmapstar: Any = _pool.starmapstar

if TYPE_CHECKING:
    import multiprocessing.pool

    StandardPool = multiprocessing.pool.Pool
    StandardThreadPool = multiprocessing.pool.ThreadPool
    StandardResult = multiprocessing.pool.ApplyResult
    StandardMapResult = multiprocessing.pool.MapResult
    StandardIterator = multiprocessing.pool.IMapIterator
    StandardUnorderedIterator = multiprocessing.pool.IMapUnorderedIterator
else:
    StandardPool, StandardThreadPool = _pool.Pool, _pool.ThreadPool
    StandardResult, StandardMapResult = _pool.ApplyResult, _pool.MapResult
    StandardIterator = _pool.IMapIterator
    StandardUnorderedIterator = _pool.IMapUnorderedIterator


class ExceptionUnpicklable(ResultUnpicklable, MaybeEncodingError):  # type: ignore[misc, valid-type]
    """A task's exception could not be pickled: an error of the standard library's kind too."""

    def __init__(self, message: str, type_name: str, remote: str, exc: str, value: str) -> None:
        Exception.__init__(self, message, type_name, remote, exc, value)
        self.type_name, self.remote_traceback = type_name, remote
        self.exc, self.value = exc, value


KEPT = (
    "Process",
    "_get_tasks",
    "_get_worker_sentinels",
    "_guarded_task_generation",
    "_join_exited_workers",
    "_wrap_exception",
)
"""Attributes of the standard pool that do nothing to an instance."""


def hide(*classes: type) -> None:
    """Make classes refuse inherited attributes that do not apply."""
    for each in classes:
        _standard.hide(each, "it has no threads that pass tasks and results on", KEPT)


class Insides:
    """Mixed into pools: private attributes of a standard pool that programs read."""

    _backend: Backend
    _initializer: Callable[..., object] | None
    _initargs: tuple[Any, ...]
    _maxtasks: int | None

    @property
    def _cache(self) -> Cache:
        """The tasks that have no result yet."""
        from garrison.pool._task_queue import Cache

        return Cache(lambda: self._backend.waiting + self._backend.busy, self._own_results())

    @property
    def _taskqueue(self) -> TaskQueue:
        """The tasks that no worker has begun."""
        from garrison.pool._task_queue import TaskQueue

        return TaskQueue(self, lambda: self._backend.waiting, self._own_results())

    def _own_results(self) -> dict[Any, Any]:
        results: dict[Any, Any] = vars(self).setdefault("_results", {})
        return results

    @property
    def _maxtasksperchild(self) -> int | None:
        return self._maxtasks
