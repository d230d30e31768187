"""``engine="threads"``: tasks run in threads of this process."""

from __future__ import annotations

from garrison import _os
from garrison.engines._engine import Engine, PoolSettings
from garrison.pool.backends import ThreadBackend

__all__ = ["Threads"]


class Threads(Engine):
    """Runs tasks in threads, as `garrison.pool.ThreadPool` does.

    Nothing is pickled, and nothing is copied. No task can be ended from outside: there is no
    `timeout`, and `terminate` lets running functions run to their end.

    Examples
    --------
    >>> from garrison import Pool
    >>> with Pool(2, engine="threads") as pool:
    ...     pool.map(str, range(3))
    ['0', '1', '2']
    """

    name: str = "threads"

    def backend(self, settings: PoolSettings) -> ThreadBackend:
        """Return a backend with so many threads."""
        threads = settings.processes or _os.usable_cpus()
        return ThreadBackend(threads, settings.initializer, settings.initargs, settings.options)
