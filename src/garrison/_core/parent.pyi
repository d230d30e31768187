"""The side of a pool that submits tasks."""

from typing import Any

from garrison._core.encoded_items import EncodedItems
from garrison._core.table import Table
from garrison._core.task_handle import TaskHandle

class Parent:
    """Parent(table): the side that submits."""

    def __init__(self, table: Table) -> None: ...
    def add_function(self, number: int, pickled: bytes) -> None:
        """Make a function known to the workers: `number` is the caller's name for it."""

    def keep(self, data: bytes) -> int:
        """Write bytes down for as long as the pool lives, for `Worker.definition`.

        Where they lie.
        """

    def forget_function(self, number: int) -> None:
        """Let a function go once its last task is over."""

    def submit(
        self,
        function: int,
        kind: int,
        payload: bytes,
        buffers: list[Any] | None = None,
        items: int = 1,
        retries: int = 0,
        timeout: int = 0,
    ) -> TaskHandle:
        """Put one task into the table; the ticket is the only way to its result."""

    def submit_items(
        self, function: int, kind: int, items: EncodedItems, retries: int = 0, timeout: int = 0
    ) -> TaskHandle:
        """Put one task for encoded items into the table."""

    @property
    def interrupts(self) -> int:
        """How often `interrupt_waits` was called."""

    def interrupt_waits(self) -> None:
        """Have the threads in `RunningTasks.wait` come back: there is something new to wait for."""

    @property
    def latest(self) -> int:
        """The task that this thread has submitted last, as a number.

        0 if it was to another pool.
        """

    def cancel_latest(self, grace: int) -> int:
        """Cancel that task, as `TaskHandle.cancel` does: an interrupt may have lost its handle."""

    @property
    def failures(self) -> int:
        """Tasks that have failed or were lost so far."""

    @property
    def in_use(self) -> int:
        """Tasks whose result nobody has taken yet.

        Those of dropped handles count until they have ended.
        """

    @property
    def completed(self) -> int:
        """Tasks that have ended and were taken note of."""

    @property
    def allocated(self) -> int:
        """Bytes of this process's heap that are in use."""
