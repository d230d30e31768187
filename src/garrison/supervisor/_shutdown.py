"""The end of a pool's workers: SIGTERM, time for those that have a handler, SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from garrison import _core, _os
from garrison._os.process_watch import CHECK_INTERVAL_S, NO_DESCRIPTOR, ProcessWatch, wait_for_exit
from garrison._typing import TYPE_CHECKING
from garrison.supervisor._syscalls import waitpid

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from garrison.supervisor._loop import SupervisorLoop

__all__ = ["HANDLER_GRACE_S", "SIGTERM_GRACE_S", "end_workers"]

SIGTERM_GRACE_S = 1.0
"""Seconds between SIGTERM and SIGKILL for a worker that ignores the first."""
HANDLER_GRACE_S = 60.0
"""The same for a worker with a handler for SIGTERM; the standard library waits for ever."""


def end_workers(supervisor: SupervisorLoop, slots: Mapping[int, int], *, forced: bool) -> None:
    """End workers; `slots` maps each pid to its slot. `forced`: kill at once."""
    table, orphans = supervisor.table, supervisor.orphans
    busy = [pid for pid, slot in slots.items() if table.slot(slot)["cell"] is not None]
    inherited: set[int] = set()
    if busy:
        idle = [pid for pid in slots if pid not in busy]
        inherited = {child for pid in idle for child in _os.children(pid)}
        orphans.spare_present(slots)
    if not forced:
        _terminate(supervisor, slots)
    for pid in slots:
        _os.kill_if_alive(pid, signal.SIGKILL)
    for pid, slot in slots.items():
        with contextlib.suppress(ChildProcessError):
            _, status = waitpid(pid, 0)
            supervisor.table_writer.note_exit(slot, os.waitstatus_to_exitcode(status))
    if busy:
        orphans.kill_started_by(inherited, busy)
    orphans.kill_daemons([child for slot in slots.values() for child in table.children(slot)])


def _terminate(supervisor: SupervisorLoop, pids: Collection[int]) -> None:
    """Send SIGTERM and wait; a parent that dies meanwhile ends the wait."""
    slow = {pid for pid in pids if _os.has_handler(pid, signal.SIGTERM)}
    for pid in pids:
        _os.kill_if_alive(pid, signal.SIGTERM)
        _os.kill_if_alive(pid, signal.SIGCONT)
    end = time.monotonic() + SIGTERM_GRACE_S
    for pid in set(pids) - slow:
        wait_for_exit(pid, end - time.monotonic())
    if not slow:
        return
    supervisor.tell("ending", HANDLER_GRACE_S)
    end = time.monotonic() + HANDLER_GRACE_S
    for pid in slow:
        _wait_for_exit(pid, supervisor.watch, end)


def _wait_for_exit(pid: int, parent: ProcessWatch, end: float) -> None:
    """Wait for the end of a worker, or of the parent, until `end` at most."""
    try:
        watch = ProcessWatch(pid)
    except ProcessLookupError:
        return
    try:
        while (left := end - time.monotonic()) > 0:
            fds = [watch.fileno(), parent.fileno()]
            _core.poll(fds, min(left, CHECK_INTERVAL_S if NO_DESCRIPTOR in fds else left) * 1000)
            if watch.has_ended() or parent.has_ended():
                return
    finally:
        watch.close()
