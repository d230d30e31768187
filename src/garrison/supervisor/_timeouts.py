"""The end of late tasks: the worker's stack, SIGSTOP, another check, and only then SIGKILL.

So a worker is killed in no other task than the late one. A cancelled task is interrupted first, and
late when its grace is over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from garrison import _os
from garrison._typing import TYPE_CHECKING
from garrison.supervisor import _crash_stack, _syscalls
from garrison.supervisor._cancels import Cancels
from garrison.supervisor._worker_slots import pids_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison import _core
    from garrison.supervisor._orphans import Orphans
    from garrison.supervisor._worker_slots import WorkerSlot

__all__ = ["Timeouts"]

STACK_DUMP_S = 0.05
"""Seconds that a late worker has to write its stack."""
STOPPED_CHECK_S = 0.5
"""Seconds between two checks of a late task whose whole program is stopped."""


class Timeouts:
    """Watches the timeouts of the tasks of one pool."""

    def __init__(
        self,
        table: _core.Table,
        table_writer: _core.Supervisor,
        slots: list[WorkerSlot],
        parent: int,
        orphans: Orphans,
    ) -> None:
        self._table, self._table_writer, self._slots = table, table_writer, slots
        self._parent, self._orphans = parent, orphans
        self._cancels = Cancels(table_writer, slots)
        self._claims = 0
        self._woken_at = time.monotonic()
        self._continued = self._paused = False

    def note_continued(self, *_: object) -> None:
        """Note that this process has had SIGCONT: the handler of that signal."""
        self._continued = True

    def excuse_own_pause(self) -> None:
        """Extend deadlines by the time for which this process may have been stopped."""
        now = time.monotonic()
        if self._continued:
            self._continued = False
            for slot in self._slots:
                if slot.occupied and not slot.stopped:
                    self.postpone(slot, now - self._woken_at)
        self._woken_at = now

    def postpone(self, slot: WorkerSlot, seconds: float) -> None:
        """Extend the deadline of a worker's task."""
        self._table_writer.extend_deadline(slot.index, int(seconds * 1e9))
        slot.stack_requested_at = 0.0
        slot.end_at += seconds

    def ms_until_overdue(self) -> float | None:
        """Milliseconds until a task may be late, or is to be interrupted; None if there is none."""
        cancelled, timed = self._cancels.ms_until_due(), self._ms_until_overdue()
        return min((ms for ms in (cancelled, timed) if ms is not None), default=None)

    def _ms_until_overdue(self) -> float | None:
        if any(slot.stack_requested_at for slot in self._slots):
            return STACK_DUMP_S * 1000 / 2
        if self._paused:
            return STOPPED_CHECK_S * 1000
        earliest, shortest = self._table_writer.deadlines()
        if not shortest:
            return None
        if not earliest:
            # A task that starts during the sleep cannot be due before its own timeout is over. A
            # task that was just claimed may not have its deadline in the table yet.
            claims, self._claims = self._claims, self._table_writer.claims()
            return shortest / 1e6 if self._table.waiting or claims != self._claims else None
        left = earliest - time.monotonic_ns()
        return max(0.0, min(left, shortest) / 1e6) + 1

    def kill_overdue(self) -> None:
        """Do the next step with each task that is late."""
        now = time.monotonic()
        self._paused = False
        for slot in self._cancels.interrupt():
            if slot.stopped and self._program_is_stopped():
                slot.end_at = now + STOPPED_CHECK_S
            else:
                self._kill_if(slot, self._cancels.has_gone_on)
        for slot in self._slots:
            if not slot.occupied or slot.killed_for_timeout:
                continue
            if not self._is_late(slot):
                slot.stack_requested_at = 0.0
            elif slot.stopped and self._program_is_stopped():
                self._paused = True
            elif not slot.stack_requested_at:
                slot.stack_requested_at = now
                slot.clear_stack()
                _os.kill_if_alive(slot.pid, _crash_stack.STACK_SIGNAL)
            elif now - slot.stack_requested_at >= STACK_DUMP_S:
                slot.stack_requested_at = 0.0
                self._kill_if(slot, self._is_late)

    def _program_is_stopped(self) -> bool:
        seen = _os.process_status(self._parent)
        return seen is not None and seen.stopped

    def _is_late(self, slot: WorkerSlot) -> bool:
        return self._table_writer.is_late(slot.index, slot.owner_id)

    def _kill_if(self, slot: WorkerSlot, still: Callable[[WorkerSlot], bool]) -> None:
        """Stop the worker first: it may finish, and must not be killed in its next task."""
        _os.kill_if_alive(slot.pid, signal.SIGSTOP)
        with contextlib.suppress(ChildProcessError):
            options = os.WSTOPPED | os.WEXITED | os.WNOWAIT
            _syscalls.waitid(os.P_PID, slot.pid, options)
        if still(slot):
            slot.killed_for_timeout = True
            self._orphans.spare_present(pids_of(self._slots))
            _os.kill_if_alive(slot.pid, signal.SIGKILL)
        else:
            _os.kill_if_alive(slot.pid, signal.SIGCONT)
