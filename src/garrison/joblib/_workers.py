"""The pools of workers that calls of `joblib.Parallel` use one after the other.

One pool is kept for the next call with the same settings, as joblib's own backend does: a call
takes no longer than its tasks. The workers end when they were idle for a time, with the program, or
by `shutdown`. Calls at the same time share the pool; one with other settings gets its own.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

from garrison._typing import Any
from garrison.errors import PoolTerminated
from garrison.pool import Pool
from garrison.pool.inner_threads import limit_inner_threads

__all__ = ["Settings", "Workers", "acquire", "release", "shutdown"]


class Settings(NamedTuple):
    """What a pool is made from; calls with the same settings share one."""

    n_jobs: int
    start_method: str
    environment: dict[str, str]
    """Limits of inner threads."""
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    idle_worker_timeout: float

    def is_same(self, other: Settings) -> bool:
        """Compare; arguments that cannot be compared count as different."""
        try:
            return bool(self == other)
        except Exception:
            return False


class Workers:
    """A pool, and how many calls use it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.users = 1
        self.usable = True
        self.calls: weakref.WeakSet[Any] = weakref.WeakSet()
        """The backends that use it, which are told if it ends before they do."""
        self._pid = os.getpid()
        self.idle_since = 0.0
        self.timer: threading.Timer | None = None
        start = (settings.environment, settings.initializer, settings.initargs)
        self.pool: Any = Pool(
            settings.n_jobs,
            _prepare_worker,
            start,
            context=_context(settings.start_method),
            engine="processes",
        )

    def end(self) -> None:
        """End the workers now; in a forked child they are its parent's."""
        self.usable = False
        if self._pid != os.getpid():
            return
        if self.timer is not None:
            self.timer.cancel()
        self.pool.terminate()
        self.pool.join()
        for call in tuple(self.calls):
            call.fail(PoolTerminated("the workers were ended before this call was over"))


def _context(method: str) -> Any:
    from garrison import get_context

    return get_context(method)


def _prepare_worker(
    environment: dict[str, str],
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    limit_inner_threads(environment)
    if initializer is not None:
        initializer(*initargs)


# --- The one that is kept -----------------------------------------------------------------------

_lock = threading.Lock()
_kept: Workers | None = None


def acquire(settings: Settings) -> Workers:
    """Return workers for a call, which ends with `release`."""
    global _kept
    with _lock:
        kept = _kept
        if kept is not None and kept.usable and kept.settings.is_same(settings):
            kept.users += 1
            return kept
        if kept is not None and kept.users:
            return Workers(settings)
        _kept = None
    if kept is not None:
        kept.end()
    made = Workers(settings)
    with _lock:
        if _kept is None:
            _kept = made
    return made


def release(workers: Workers) -> None:
    """Note that a call is over. The workers stay for the next one, if they are those kept."""
    global _kept
    with _lock:
        workers.users -= 1
        if workers.users:
            return
        if _kept is workers and workers.usable:
            workers.idle_since = time.monotonic()
            if workers.timer is None:
                _set_timer(workers, workers.settings.idle_worker_timeout)
            return
        if _kept is workers:
            _kept = None
    workers.end()


def _set_timer(workers: Workers, seconds: float) -> None:
    """Look at the workers once they may have been idle for long enough.

    Not anew for each call: a thread takes longer than a short call.
    """
    workers.timer = threading.Timer(seconds, _on_timer, (workers,))
    workers.timer.daemon = True
    workers.timer.name = "garrison-joblib-idle"
    workers.timer.start()


def _on_timer(workers: Workers) -> None:
    global _kept
    with _lock:
        if _kept is not workers:
            return
        timeout = workers.settings.idle_worker_timeout
        idle = 0.0 if workers.users else time.monotonic() - workers.idle_since
        if idle < timeout:
            _set_timer(workers, timeout - idle)
            return
        _kept = None
    workers.end()


def shutdown() -> None:
    """End the workers that are kept for the next call; a call that is running fails.

    Examples
    --------
    >>> import garrison.joblib
    >>> garrison.joblib.shutdown()
    """
    global _kept
    with _lock:
        workers, _kept = _kept, None
    if workers is not None:
        workers.end()


def _forget() -> None:
    """In a forked child: the workers are its parent's."""
    global _kept, _lock
    _lock = threading.Lock()
    _kept = None


atexit.register(shutdown)
os.register_at_fork(after_in_child=_forget)
