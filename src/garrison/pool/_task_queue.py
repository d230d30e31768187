"""`Pool._cache` and `Pool._taskqueue`: the number of tasks, and a way to add a program's own.

Programs extend the standard pool by methods (`istarmap` is the best known). Such a method makes a
result of the standard library, which adds itself to `_cache`, and puts an iterator of tasks into
`_taskqueue`: tuples of (job, index, function, args, kwds).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from garrison._typing import Any
from garrison.pool._stdlib_names import StandardUnorderedIterator

__all__ = ["Cache", "TaskQueue"]

Task = tuple[Any, int, Callable[..., Any], Iterable[Any], dict[str, Any]]
Results = dict[Any, Any]
"""Results that a program has made itself, by job."""


class _Count:
    """The number of tasks."""

    def __init__(self, count: Callable[[], int], results: Results) -> None:
        self._count, self._results = count, results

    def __len__(self) -> int:
        return self._count()


class Cache(_Count):
    """The tasks that have no result yet."""

    def __len__(self) -> int:
        return max(self._count(), len(self._results))

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __contains__(self, job: object) -> bool:
        return job in self._results

    def __getitem__(self, job: Any) -> Any:
        return self._results[job]

    def __setitem__(self, job: Any, result: Any) -> None:
        self._results[job] = result

    def __delitem__(self, job: Any) -> None:
        del self._results[job]


class TaskQueue(_Count):
    """The tasks that no worker has begun."""

    def __init__(self, pool: Any, count: Callable[[], int], results: Results) -> None:
        super().__init__(count, results)
        self._pool = pool

    qsize = _Count.__len__

    def empty(self) -> bool:
        """Whether there is none."""
        return not len(self)

    def put(self, batch: tuple[Iterable[Task], Callable[[int], object] | None]) -> None:
        """Run tasks for which the program has made the results itself.

        Parameters
        ----------
        batch : tuple
            The tasks, and a function that is called with their number, or None.
        """
        tasks, set_length = batch
        sent: deque[tuple[Any, int]] = deque()

        def calls() -> Iterator[tuple[Any, ...]]:
            length = 0
            for job, index, function, args, kwds in tasks:
                sent.append((job, index))
                length = index + 1
                yield function, args, kwds
            if set_length is not None:
                set_length(length)

        latest = next(reversed(self._results.values()), None)
        in_any_order = isinstance(latest, StandardUnorderedIterator)
        run = self._pool.imap_unordered if in_any_order else self._pool.imap
        arguments = (run(_call, calls()), sent, self._results)
        threading.Thread(target=_deliver, args=arguments, name="PoolResults", daemon=True).start()


def _call(call: tuple[Callable[..., Any], Iterable[Any], dict[str, Any]]) -> Any:
    function, args, kwds = call
    return function(*args, **kwds)


def _deliver(outcomes: Iterator[Any], sent: deque[tuple[Any, int]], results: Results) -> None:
    """Pass each result to the object that the program has made for it."""
    while True:
        try:
            outcome = True, next(outcomes)
        except StopIteration:
            return
        except Exception as error:
            if not sent:
                return  # the pool's own end, not a task's
            outcome = False, error
        # In any order: the index only counts them.
        job, index = sent.popleft()
        result = results.get(job)
        if result is not None:
            result._set(index, outcome)
