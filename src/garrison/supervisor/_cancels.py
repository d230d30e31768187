"""The end of cancelled tasks that are at work: interrupted, and after their grace ended.

The parent has marked the task's state, and woken this process. The worker's handler of the signal
asks for that mark again: a worker that has gone on to another task is not interrupted in it. The
signal is repeated, since the handler lets a moment pass in which an interrupt would do harm.
"""

from __future__ import annotations

import time

from garrison import _os
from garrison._typing import TYPE_CHECKING
from garrison.supervisor._syscalls import CANCEL_SIGNAL

if TYPE_CHECKING:
    from garrison import _core
    from garrison.supervisor._worker_slots import WorkerSlot

__all__ = ["Cancels"]

FIRST_REPEAT_S = 0.01
"""Seconds until the signal is sent again. Each further one waits for twice as long."""


class Cancels:
    """Watches the cancelled tasks of one pool."""

    def __init__(self, table_writer: _core.Supervisor, slots: list[WorkerSlot]) -> None:
        self._table_writer, self._slots = table_writer, slots
        self._cancels = 0
        self._repeats: dict[int, float] = {}
        """Slots with a cancelled task at work, with the seconds to the next signal."""

    def ms_until_due(self) -> float | None:
        """Milliseconds until the next step with a cancelled task; None if there is none."""
        if not self._repeats:
            return 0.0 if self._table_writer.cancels != self._cancels else None
        slots = [self._slots[index] for index in self._repeats]
        due = min(min(slot.interrupt_at, slot.end_at) for slot in slots)
        return max(0.0, due - time.monotonic()) * 1000 + 1

    def interrupt(self) -> list[WorkerSlot]:
        """Interrupt cancelled tasks; return the workers whose grace is over."""
        cancels = self._table_writer.cancels
        if cancels == self._cancels and not self._repeats:
            return []
        self._cancels = cancels
        return [slot for slot in self._slots if self._step(slot)]

    def has_gone_on(self, slot: WorkerSlot) -> bool:
        """Whether a worker is still at the cancelled task that it was seen at."""
        found = self._table_writer.cancelled(slot.index, slot.owner_id)
        return found is not None and found[0] == slot.cancelled_task

    def _step(self, slot: WorkerSlot) -> bool:
        found = None
        if slot.occupied and not slot.killed_for_timeout:
            found = self._table_writer.cancelled(slot.index, slot.owner_id)
        if found is None:
            self._repeats.pop(slot.index, None)
            return False
        now = time.monotonic()
        task, grace = found
        if task != slot.cancelled_task:
            slot.cancelled_task = task
            slot.interrupt_at, slot.end_at = now, now + grace / 1e9
            self._repeats[slot.index] = FIRST_REPEAT_S
        if now >= slot.end_at:
            return True
        if now >= slot.interrupt_at:
            slot.interrupt_at = now + self._repeats[slot.index]
            self._repeats[slot.index] *= 2
            _os.kill_if_alive(slot.pid, CANCEL_SIGNAL)
        return False
