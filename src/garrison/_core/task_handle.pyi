"""The right to the result of a task."""

from typing import Any

class TaskHandle:
    """The right to one task's result."""

    @property
    def size(self) -> int:
        """Bytes of the task's arguments."""

    @property
    def ended_at(self) -> int:
        """When the task ended, in nanoseconds; 0 while it has not."""

    @property
    def result_size(self) -> int:
        """Bytes of an ended task's result without its buffers; 0 if they are few."""

    def ended(self) -> bool:
        """Whether the result is there, or the loss is known."""

    def lost(self) -> bool:
        """Whether the worker died with the task."""

    def running(self) -> bool:
        """Whether a worker has begun the task, and not ended it."""

    def wait(self, limit: float, failures: int | None = None) -> bool:
        """Wait at most `limit` seconds; True if the task has ended.

        Signal handlers run meanwhile. With `failures`, as many of `Parent.failures` as the caller
        knows of, another one ends the wait too.
        """

    def take(self) -> tuple[int, Any, list[Any] | None, int, int]:
        """The result, once: (outcome, payload, buffers, nanoseconds, owner id).

        The cell is free after it.
        """

    def take_into(self, result: object) -> None:
        """Take the result, once, into an `AsyncResult`, before any interrupt.

        A plain value becomes its ``_outcome``, (True, value). All else becomes its ``_raw``:
        the call if the task was lost, and what `take` gives.
        """

    def take_items_into(self, batch: object) -> None:
        """Take the results of items, once, into a batch, before any interrupt.

        Its ``brought`` becomes (results, raw, bytes, nanoseconds). One of the first two is None.
        The results are as `recover` gives them; `raw` is as for `take_into`, of a task that has one
        result which is not plain.
        """

    def call(self) -> tuple[int, int, int, bytes | None]:
        """What was asked for: (function, kind, index, payload). For messages, before `take`."""

    def recover(self) -> list[Any]:
        """Return the results of a shared cell's first items that are complete.

        A small plain value as it is, all else as a `PickledResult`.

        The worker may be at work still, or dead. There are none any more once the task is done.
        """

    def has_begun(self) -> bool:
        """Whether a worker has begun with the first item of a shared cell, whose task is over."""

    def take_back(self) -> int:
        """Take the items back that the worker has not begun.

        The number of those that stay its own.
        """

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not well."""

    def withdraw(self) -> bool:
        """Take a task back that no worker has claimed. False if it is too late for that."""

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""

    def cancel(self, grace: int) -> int:
        """Give the result up.

        0 if the task had ended, 1 if no worker had claimed it, 2 if one is at it. That one may go
        on for `grace` nanoseconds, and the supervisor is to be woken.
        """
