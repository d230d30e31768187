"""What a pool tells a cluster that adapts.

Dask's adaptive scaling counts the seconds of work that its scheduler knows of; the work of a pool
is unknown to it. So there are tasks that no worker can run, as many as make up the workers that the
pool could use. Once nothing is wanted they are released. The agents themselves keep their workers:
Dask never closes one that has a task that has seceded.
"""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.engines.dask._connection import Connection

__all__ = ["Growth"]

_TASKS_FOR_A_THREAD = 10
"""Adaptive scaling wants a thread for 5 s of work, and takes an unknown task for 0.5 s."""
_MOST_THREADS = 200
_UNMET = {"garrison-wanted": 1}
"""Resources that no worker has."""


def garrison_wanted(number: int) -> None:
    """Stand for a part of a pool's work. No worker ever runs it."""
    del number


class Growth:
    """Tasks that stand for the workers that a pool could use. Used in the client's loop.

    Parameters
    ----------
    connection : Connection
        The driver's.
    most : int or None
        The most workers of the pool.
    """

    def __init__(self, connection: Connection, most: int | None) -> None:
        self._client = connection.client
        self._most = min(most or _MOST_THREADS, _MOST_THREADS)
        self._futures: list[Any] = []

    def want(self, tasks: int | None) -> None:
        """Ask for a worker for each of some tasks, or for the most."""
        wanted = self._most if tasks is None else min(tasks, self._most)
        count = wanted * _TASKS_FOR_A_THREAD
        have = len(self._futures)
        if count > have:
            numbers = range(have, count)
            more = self._client.map(garrison_wanted, numbers, pure=False, resources=_UNMET)
            self._futures += more
        elif count == 0 or count < have // 2:
            # Not at each little change: it would be a message for each result.
            for future in self._futures[count:]:
                future.release()
            del self._futures[count:]
