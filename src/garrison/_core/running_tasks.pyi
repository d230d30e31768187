"""Tasks that are watched together."""

from typing import Any

from garrison._core.parent import Parent
from garrison._core.task_handle import TaskHandle

class RunningTasks:
    """RunningTasks(parent, tasks=[]): tasks that are watched together."""

    def __init__(self, parent: Parent, tasks: list[TaskHandle] = ...) -> None: ...
    def add(self, task: TaskHandle, value: object) -> None:
        """Watch a task until it is collected; `value` is what `collect` gives for it."""

    def __len__(self) -> int:
        """Return the number of tasks that were not collected."""

    def collect(self, ended: Any) -> bool:
        """Move the values of ended tasks to the end of a list or deque; whether there were any.

        They come in the order in which the tasks ended. An interrupt comes before it or after it.
        """

    def wait(self, limit: float, interrupts: int) -> bool:
        """Wait until one of the tasks has ended; whether one has.

        False after `limit` seconds, or if there are more `interrupts` than the caller knows.
        """
