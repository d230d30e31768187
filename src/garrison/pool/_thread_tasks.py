"""Tasks of a thread pool, what is watched and read for them. Nothing is encoded."""

from __future__ import annotations

import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from garrison.pool._thread_backend import ThreadBackend

    Result = tuple[bool, Any, int]
    """Success, value or exception, nanoseconds."""

__all__ = ["ItemBuffer", "RunningTasks", "Task"]


class Task:
    """A task of a thread pool, and its result."""

    __slots__ = ("_backend", "ended_at", "items", "job", "result", "state")

    size = 0
    WAITING, RUNNING, ENDED = range(3)

    def __init__(self, backend: ThreadBackend, job: tuple[Any, ...], items: int) -> None:
        self._backend, self.job, self.items = backend, job, items
        self.state = self.WAITING
        self.ended_at = 0
        self.result: Result | None = None

    def ended(self) -> bool:
        """Whether it has a result."""
        return self.state == self.ENDED

    def lost(self) -> bool:
        """Whether its worker ended: never for a thread."""
        return False

    def take_into(self, result: Any) -> None:
        """Take the result into an `AsyncResult`."""
        found, self.result = self.result, None
        if found is None:
            msg = "there is no result to take"
            raise RuntimeError(msg)
        result._outcome = found[:2]

    def take_items_into(self, batch: Any) -> None:
        """Take the results of items into a batch, or the result of the task as a whole."""
        found, self.result = self.result, None
        if found is None:
            msg = "there is no result to take"
            raise RuntimeError(msg)
        # Results in this process's memory do not count.
        success, results, duration = found
        batch.brought = (results, None, 0, duration) if success else (None, found, 0, duration)

    def withdraw(self) -> bool:
        """Withdraw it; return whether no thread had begun it."""
        return self._backend.withdraw(self)


class ItemBuffer:
    """Keeps items that were read, as they are."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._items: deque[Any] = deque()

    def __len__(self) -> int:
        """Return the number of items that were read and not taken."""
        return len(self._items)

    def read(self, source: Any, limit: int, most: int, slow: int) -> tuple[bool, bool]:
        """Read items: (whether there may be more, whether the input is slow)."""
        del most
        start = time.perf_counter_ns()
        for count, item in enumerate(source, start=1):
            self._items.append(item)
            if count >= min(limit, self.size):
                return True, time.perf_counter_ns() - start > slow * count
        return False, False

    def move_to(self, pieces: Any) -> None:
        """Move all items to the end of a list or a deque, as one piece."""
        items = list(self._items)
        if items:
            pieces.append(items)
        self._items.clear()


class RunningTasks:
    """Tasks that are watched together."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._tasks: list[tuple[Task, object]] = [(task, None) for task in tasks]

    def __len__(self) -> int:
        """Return the number of tasks that were not collected."""
        return len(self._tasks)

    def any_ended(self) -> bool:
        """Whether one of them has ended."""
        return any(task.ended() for task, _ in tuple(self._tasks))

    def add(self, task: Task, value: object) -> None:
        """Watch a task until it is collected; `value` is what `collect` gives for it."""
        self._tasks.append((task, value))

    def collect(self, ended: Any) -> bool:
        """Move the values of ended tasks to the end of a list or deque; whether there were any.

        After an interrupt in the middle the next call may give a value again.
        """
        found = [each for each in tuple(self._tasks) if each[0].ended()]
        found.sort(key=lambda each: each[0].ended_at)
        ended.extend([value for _, value in found])
        for each in found:
            self._tasks.remove(each)
        return bool(found)
