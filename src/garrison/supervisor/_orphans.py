"""Children that workers leave behind: which of them end with the worker.

As in the standard library a worker that leaves in order, or between two tasks, takes nobody with
it but its daemonic children. One that is killed in a task takes along what the task has started,
unless that has made a session of its own.

Linux gives the children of a dead worker to the supervisor, which is a subreaper. So they are found
by their parent, and told from others by their session.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from garrison import _os
from garrison._processes import wait_gone
from garrison._typing import TYPE_CHECKING
from garrison.supervisor._syscalls import waitpid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from garrison._os import Seen

__all__ = ["Strays", "doomed"]

PATIENCE = 2.0
"""Seconds for which new children of a dead task are looked for and killed."""


class Strays:
    """The orphans that a supervisor has adopted."""

    def __init__(self) -> None:
        self._spared: dict[int, int] = {}

    def spare(self, crew: Collection[int]) -> None:
        """Let live all that have been adopted so far."""
        orphans = [pid for pid in _os.children(os.getpid()) if pid not in crew]
        if orphans or self._spared:
            found = ((pid, _os.start_ticks(pid)) for pid in orphans)
            self._spared = {pid: started for pid, started in found if started}

    def end(self, crew: Collection[int], dead: Iterable[int]) -> None:
        """Kill what the dead workers' tasks have started, until nothing is left of it."""
        sessions = {os.getsid(0), *dead}
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and _os.children(os.getpid()):
            found = doomed(_os.processes(), os.getpid(), crew, self._spared, sessions)
            if not found:
                return
            for pid in found:
                _os.kill_quietly(pid, signal.SIGKILL)
            for pid in found:
                wait_gone(pid, end - time.monotonic())
                _reap(pid)

    def end_daemons(self, pids: Iterable[int]) -> None:
        """Kill the daemonic children of a dead worker. A foreign process is not a child of ours."""
        for pid in pids:
            if _os.parent_of(pid) == os.getpid():
                _os.kill_quietly(pid, signal.SIGKILL)
                wait_gone(pid, PATIENCE)
                _reap(pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        waitpid(pid, os.WNOHANG)


def doomed(
    table: dict[int, Seen],
    root: int,
    crew: Collection[int],
    spared: dict[int, int],
    sessions: Collection[int],
) -> list[int]:
    """Find the living descendants of `root` that have stayed in these sessions.

    Not looked at are the workers of the crew and those that were spared, with all below them.
    """
    found: list[int] = []
    generation = {root}
    while generation:
        below = {
            pid
            for pid, seen in table.items()
            if seen.parent in generation and pid not in crew and spared.get(pid) != seen.started
        }
        found += [pid for pid in below if table[pid].alive and table[pid].session in sessions]
        generation = below
    return found
