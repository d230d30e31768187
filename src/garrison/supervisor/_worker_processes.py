"""A pool's workers as process objects of the program: `active_children`, ``pool._pool``.

They are the supervisor's children, so the program can neither reap them nor break anything by
trying: their ends are read from the task table.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
import weakref
from multiprocessing import process as mp_process

from garrison import _core, _os
from garrison._processes import wait_gone
from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor._identity import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.supervisor._handle import Supervision

__all__ = ["Member", "Roster", "show"]

UNKNOWN = 255
"""The exit code of a worker whose end is forgotten, as with the standard fork server."""
LOOK = 1.0
"""Seconds between two looks at the table while a process runs."""
SLICE = 0.01
"""Seconds between the end of a process and the next look for its exit code."""
_mp: Any = mp_process


class Roster:
    """The workers of one pool."""

    def __init__(self, supervision: Supervision, kind: type) -> None:
        self.supervision, self.table = supervision, supervision.table
        self._kind = _member_type(kind)
        self._members: dict[int, Any] = {}

    def all(self) -> list[Any]:
        """Return the process objects of all slots; the dead are in it until they are replaced."""
        size = self.supervision.crew.size
        return [member for member in map(self._member, range(size)) if member is not None]

    def active(self) -> list[Any]:
        """Return those that run."""
        if not self.supervision.alive():
            return []
        return [member for member in self.all() if member._popen.poll() is None]

    def _member(self, slot: int) -> Any:
        info = self.table.slot(slot)
        if not info["pid"]:
            return None
        member = self._members.get(slot)
        if member is None or member._popen.who != info["who"]:
            member = self._members[slot] = self._kind(self, slot, info)
        return member

    def exit_of(self, slot: int, who: int) -> int | None:
        """Return the exit code of an incarnation; None while it runs."""
        code = self.table.exit_of(who)
        if code is not None:
            return code
        info = self.table.slot(slot)
        if info["who"] != who:
            return UNKNOWN
        return None if self.supervision.alive() else -signal.SIGKILL


class _Popen:
    """What a process object asks its own process with: as `multiprocessing.popen_fork.Popen`."""

    method = "fork"

    def __init__(self, roster: Roster, slot: int, info: Any) -> None:
        self.pid, self.who = info["pid"], info["who"]
        self.returncode: int | None = None
        self._roster, self._slot = roster, slot
        self._lock = threading.Lock()
        self._sentinel: int | None = None

    @property
    def sentinel(self) -> int:
        """A descriptor that can be read when the process has ended."""
        with self._lock:
            if self._sentinel is None:
                self._sentinel = self._open()
                weakref.finalize(self, _close, self._sentinel, os.getpid()).atexit = False
            return self._sentinel

    def _open(self) -> int:
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return _at_its_end()
        except OSError as error:
            msg = "the sentinel of a pool's worker needs pidfd_open: Linux 5.3"
            raise OSError(error.errno, msg) from error
        if self._is_there():
            return fd
        # Somebody else has its number now.
        os.close(fd)
        return _at_its_end()

    def _is_there(self) -> bool:
        """Whether its number is still its own."""
        seen = _os.look_at(self.pid)
        if self.poll() is not None or seen is None:
            return False
        started = self._roster.table.slot(self._slot)["started"]
        if started:
            return seen.started == started
        return seen.parent == self._roster.supervision.pid  # it has only just been forked

    def poll(self, flag: int = os.WNOHANG) -> int | None:  # noqa: ARG002 - the standard name
        """Return the exit code, or None."""
        if self.returncode is None:
            self.returncode = self._roster.exit_of(self._slot, self.who)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end and return the exit code, or None if it has not come in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            if wait_gone(self.pid, LOOK if left is None else min(LOOK, left)):
                # The supervisor has yet to hear of it.
                _core.poll([], SLICE * 1000)
        return self.returncode

    def _send_signal(self, number: int) -> None:
        if self._is_there():
            _os.kill_quietly(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Do nothing: the descriptor is closed with the last reference."""


def _at_its_end() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


def _close(fd: int, pid: int) -> None:
    if os.getpid() == pid:
        os.close(fd)


class Member:
    """Added to a process class: a worker that this process has not started itself."""

    def __init__(self, roster: Roster, slot: int, info: Any) -> None:
        crew, me = roster.supervision.crew, _mp.current_process()
        self._identity = (*crew.identity, info["number"])
        self._name = name_of(crew.name, self._identity)
        self._config = {**me._config, "daemon": True}
        self._parent_pid, self._parent_name = os.getpid(), me.name
        self._popen: Any = _Popen(roster, slot, info)
        self._closed = False

    @property
    def _sentinel(self) -> int:
        sentinel: int = self._popen.sentinel
        return sentinel

    @_sentinel.deleter
    def _sentinel(self) -> None:
        """`close` forgets it."""


@functools.cache
def _member_type(kind: type) -> Any:
    if not issubclass(kind, mp_process.BaseProcess):
        kind = mp_process.BaseProcess
    return type(kind.__name__, (Member, kind), {"__module__": kind.__module__})


# --- Among the program's children ------------------------------------------------------------

_rosters: weakref.WeakSet[Roster] = weakref.WeakSet()


class _Children(set[Any]):
    """The children that `multiprocessing` has started, and with them the workers of live pools."""

    def __iter__(self) -> Iterator[Any]:
        yield from list(super().__iter__())
        for roster in list(_rosters):
            yield from roster.active()


def show(roster: Roster) -> None:
    """Have `active_children` list these workers for as long as they live."""
    _rosters.add(roster)
    if not isinstance(_mp._children, _Children):
        _mp._children = _Children(_mp._children)
