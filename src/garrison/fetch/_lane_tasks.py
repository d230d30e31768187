"""The lanes as tasks of the pool: starts them, and tells why one has ended."""

from __future__ import annotations

from garrison._typing import Any
from garrison.errors import WorkerDied, _signal_name
from garrison.fetch._lane_worker import run_lane
from garrison.fetch._messages import Settings

_SECONDS_TO_LEARN_WHY = 1.0


class LaneTasks:
    """Keeps one lane in each process of a pool.

    Parameters
    ----------
    pool
        The pool.
    size
        How many processes it has.
    address
        The address of the `LaneServer`.
    settings
        The settings of their transfers.
    """

    def __init__(self, pool: Any, size: int, address: str, settings: Settings) -> None:
        self._pool = pool
        self._size = size
        self._address = address
        self._settings = settings
        self._started = 0
        self._tasks: dict[int, Any] = {}

    @property
    def running(self) -> list[int]:
        """The lanes that have not ended."""
        return list(self._tasks)

    def has(self, lane: int) -> bool:
        """Whether a lane has not ended."""
        return lane in self._tasks

    def start(self, sites: int) -> None:
        """Start a lane in every process, but no more lanes than sites."""
        while len(self._tasks) < min(self._size, sites):
            arguments = (self._address, self._started, self._settings)
            self._tasks[self._started] = self._pool.apply_async(run_lane, arguments)
            self._started += 1

    def any_unconnected(self, connected: list[int]) -> bool:
        """Whether a lane has not connected yet."""
        return len(connected) < len(self._tasks)

    def ended_unconnected(self, connected: list[int]) -> list[int]:
        """Return the lanes that ended before they connected."""
        if not self.any_unconnected(connected):
            return []
        return [
            lane for lane, task in self._tasks.items() if lane not in connected and task.ready()
        ]

    def remove(self, lane: int) -> Any:
        """Remove an ended lane; return its task."""
        return self._tasks.pop(lane)


def why_lane_ended(task: Any) -> str:
    """Return why a lane has ended that was not stopped.

    Parameters
    ----------
    task
        The lane's task, as `LaneTasks.remove` gave it.
    """
    task.wait(_SECONDS_TO_LEARN_WHY)
    if not task.ready():
        return "its process died"
    try:
        task.get()
    except WorkerDied as death:
        return _death_text(death)
    except Exception as error:
        return f"its process failed: {type(error).__name__}: {error}".partition("\n")[0]
    return "its process left"


def _death_text(death: WorkerDied) -> str:
    if death.out_of_memory:
        return "its process was killed because memory ran out"
    if death.signal is not None:
        return f"its process was killed by {_signal_name(death.signal)}"
    return f"its process left with exit code {death.exitcode}"
