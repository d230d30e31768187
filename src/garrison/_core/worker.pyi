"""The side of a pool that runs tasks."""

from collections.abc import Callable
from typing import Any

from garrison._core.table import Table

class MadeCall:
    """A call whose result is to be encoded."""

    @property
    def succeeded(self) -> bool:
        """Whether it has returned."""

    @property
    def value(self) -> Any:
        """What it has returned, or the exception."""

class Worker:
    """Worker(table, slot, owner_id): the side that works."""

    def __init__(self, table: Table, slot: int, owner_id: int) -> None: ...
    @property
    def busy(self) -> bool:
        """Whether a task was taken whose result has not been handed in."""

    @property
    def cancelled(self) -> bool:
        """Whether the present task was cancelled."""

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

    def take(
        self,
        functions: dict[int, Callable[..., Any]] | None = None,
        kinds: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> tuple[int, int, Any, list[Any] | None] | MadeCall | None:
        """The next task, or None when the pool is closed and has no more work.

        Calls of `functions`, by number, whose arguments and results are small and plain are made
        and answered before that. If one fails, or its result is for `pickle`, it is returned.
        `kinds` are those of payloads that are a call's positional arguments, its only argument,
        the arguments of one call each, and the tuples of arguments of one call each.
        """

    def function(self) -> bytes:
        """The pickled function of the present task."""

    def definition(self, at: int) -> bytes:
        """What `Parent.keep` has written at this place."""

    def at_work(self) -> tuple[int, Any, list[Any] | None, int, int, int]:
        """What is at work, for the note on its failure.

        Kind, payload, buffers, item, deaths charged to the item, nanoseconds since it began.
        """

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
        items: Any,
        loads: Callable[[bytes], Any],
        failed: Callable[[BaseException], bytes],
        other: Callable[[Any], tuple[bool, bytes]],
    ) -> None:
        """The same, but each item counts for itself: its result is kept as soon as it is there.

        The items are a list, or encoded one after the other. `loads` unpickles one that is not
        small and plain, just before its turn. `failed` writes an exception down, `other` a result
        that is not a small plain one.
        """

    def publish(self, outcome: int, payload: bytes, buffers: list[Any] | None = None) -> None:
        """Hand the result in. Until the last store it is as if the task never ended."""
