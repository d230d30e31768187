"""Children that workers leave behind: which of them end with the worker.

As in the standard library, a worker that ends in order, or between two tasks, ends only its
daemonic children. If a worker is killed in a task, all processes that the task has started are
killed too, unless they have made a session of their own.

Linux gives the children of a dead worker to the supervisor, which is a subreaper. So they are found
by their parent, and recognized by their session.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from garrison import _os
from garrison._os.process_watch import wait_for_exit
from garrison._typing import TYPE_CHECKING
from garrison.supervisor._syscalls import waitpid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from garrison._os import ProcessStatus

__all__ = ["Orphans", "find_descendants"]

ORPHAN_KILL_S = 2.0
"""Seconds during which new children of a dead task are found and killed."""


class Orphans:
    """The orphans that a supervisor has adopted."""

    def __init__(self) -> None:
        self._spared: dict[int, int] = {}

    def spare_present(self, workers: Collection[int]) -> None:
        """Spare all orphans adopted so far."""
        orphans = [pid for pid in _os.children(os.getpid()) if pid not in workers]
        if orphans or self._spared:
            found = ((pid, _os.start_ticks(pid)) for pid in orphans)
            self._spared = {pid: started for pid, started in found if started}

    def kill_started_by(self, workers: Collection[int], dead: Iterable[int]) -> None:
        """Kill the processes that the dead workers' tasks have started, until none is left."""
        sessions = {os.getsid(0), *dead}
        end = time.monotonic() + ORPHAN_KILL_S
        while time.monotonic() < end and _os.children(os.getpid()):
            found = find_descendants(_os.processes(), os.getpid(), workers, self._spared, sessions)
            if not found:
                return
            for pid in found:
                _os.kill_if_alive(pid, signal.SIGKILL)
            for pid in found:
                wait_for_exit(pid, end - time.monotonic())
                _reap(pid)

    def kill_daemons(self, pids: Iterable[int]) -> None:
        """Kill the daemonic children of a dead worker; a pid that is no child of ours is reused."""
        for pid in pids:
            if _os.parent_of(pid) == os.getpid():
                _os.kill_if_alive(pid, signal.SIGKILL)
                wait_for_exit(pid, ORPHAN_KILL_S)
                _reap(pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        waitpid(pid, os.WNOHANG)


def find_descendants(
    table: dict[int, ProcessStatus],
    root: int,
    workers: Collection[int],
    spared: dict[int, int],
    sessions: Collection[int],
) -> list[int]:
    """Find the living descendants of `root` that have stayed in these sessions.

    The pool's workers and the spared processes are left out, with all their descendants.
    """
    found: list[int] = []
    generation = {root}
    while generation:
        below = {
            pid
            for pid, seen in table.items()
            if seen.parent in generation and pid not in workers and spared.get(pid) != seen.started
        }
        found += [pid for pid in below if table[pid].alive and table[pid].session in sessions]
        generation = below
    return found
