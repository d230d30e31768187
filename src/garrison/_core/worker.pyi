"""The side of a pool that runs tasks."""

from collections.abc import Callable
from typing import Any

from garrison._core.table import Table

class Worker:
    """Worker(table, slot, owner_id): the side that works."""

    def __init__(self, table: Table, slot: int, owner_id: int) -> None: ...
    @property
    def busy(self) -> bool:
        """Whether a task was taken whose result has not been handed in."""

    @property
    def taken(self) -> int:
        """Tasks that this worker has taken."""

    def note_start(self) -> None:
        """Record when this process started, in the clock ticks of /proc/PID/stat."""

    def set_children(self, pids: list[int]) -> None:
        """Write down the daemonic children that end with this process.

        As many as there is room for.
        """

    def initialized(self) -> None:
        """The initializer is done."""

    def retire(self) -> None:
        """Leave on purpose, and ask for a successor."""

    def take(self) -> tuple[int, int, Any, list[Any] | None] | None:
        """The next task, or None when the pool is closed and has no more work."""

    def function(self) -> bytes:
        """The pickled function of the present task."""

    def definition(self, at: int) -> bytes:
        """What `Parent.keep` has written at this place."""

    def restart_clock(self) -> None:
        """Another attempt begins: its timeout counts from now."""

    def map(
        self,
        function: Callable[..., Any],
        items: list[Any],
        star: bool,
    ) -> list[Any]:
        """Apply a function to each item of the present task.

        A death or a timeout is charged to the item at work.
        """

    def map_each(
        self,
        function: Callable[..., Any],
        items: list[Any],
        loads: Callable[[bytes], Any] | None,
        failed: Callable[[BaseException], bytes],
        other: Callable[[Any], tuple[bool, bytes]],
    ) -> None:
        """The same, but each item counts for itself.

        `loads` unpickles it just before its turn, and its result is kept as soon as it is there.
        `failed` writes an exception down, `other` a result that is not a small plain one.
        """

    def publish(self, outcome: int, payload: bytes, buffers: list[Any] | None = None) -> None:
        """Hand the result in. Until the last store it is as if the task never ended."""
