"""The lanes as tasks of the pool: hiring them, and asking what became of one."""

from __future__ import annotations

from garrison._typing import Any
from garrison.errors import WorkerDied, _signal_name
from garrison.fetch._lane import run_lane
from garrison.fetch._messages import Settings

_SECONDS_TO_LEARN_WHY = 1.0


class Crew:
    """Keeps one lane in each process of a pool.

    Parameters
    ----------
    pool
        The pool.
    size
        How many processes it has.
    address
        Where lanes join.
    settings
        What they are told.
    """

    def __init__(self, pool: Any, size: int, address: str, settings: Settings) -> None:
        self._pool = pool
        self._size = size
        self._address = address
        self._settings = settings
        self._hired = 0
        self._tasks: dict[int, Any] = {}

    @property
    def lanes(self) -> list[int]:
        """The lanes that have not left."""
        return list(self._tasks)

    def has(self, lane: int) -> bool:
        """Tell whether a lane has not left."""
        return lane in self._tasks

    def hire(self, sites: int) -> None:
        """Have a lane in every process, but no more lanes than sites."""
        while len(self._tasks) < min(self._size, sites):
            arguments = (self._address, self._hired, self._settings)
            self._tasks[self._hired] = self._pool.apply_async(run_lane, arguments)
            self._hired += 1

    def awaited(self, joined: list[int]) -> bool:
        """Tell whether a lane has not joined yet."""
        return len(joined) < len(self._tasks)

    def vanished(self, joined: list[int]) -> list[int]:
        """Return the lanes that ended without ever joining."""
        if not self.awaited(joined):
            return []
        return [lane for lane, task in self._tasks.items() if lane not in joined and task.ready()]

    def forget(self, lane: int) -> Any:
        """Take a lane that has left off the list; return its task."""
        return self._tasks.pop(lane)


def fate(task: Any) -> str:
    """Say why a lane has left that nobody sent away.

    Parameters
    ----------
    task
        The lane's task, as `Crew.forget` gave it.
    """
    task.wait(_SECONDS_TO_LEARN_WHY)
    if not task.ready():
        return "its process died"
    try:
        task.get()
    except WorkerDied as death:
        return _cause(death)
    except Exception as error:
        return f"its process failed: {type(error).__name__}: {error}".partition("\n")[0]
    return "its process left"


def _cause(death: WorkerDied) -> str:
    if death.out_of_memory:
        return "its process was killed because memory ran out"
    if death.signal is not None:
        return f"its process was killed by {_signal_name(death.signal)}"
    return f"its process left with exit code {death.exitcode}"
