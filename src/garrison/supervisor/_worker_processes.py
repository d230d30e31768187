"""A pool's workers as process objects of the program: `active_children`, ``pool._pool``.

They are the supervisor's children, so the program cannot reap them: their ends are read from the
task table.
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
from garrison._os.process_watch import wait_for_exit
from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor._identity import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.supervisor._handle import SupervisorHandle

__all__ = ["WorkerProcess", "WorkerProcesses", "list_among_children"]

UNKNOWN = 255
"""The exit code of a worker that ended long ago, as with the standard fork server."""
RUNNING_CHECK_S = 1.0
"""Seconds between two checks of the table while a process runs."""
ENDED_CHECK_S = 0.01
"""Seconds between two checks for the exit code of an ended process."""
_mp: Any = mp_process


class WorkerProcesses:
    """The workers of one pool."""

    def __init__(self, supervisor: SupervisorHandle, kind: type) -> None:
        self.supervisor: SupervisorHandle = supervisor
        self.table: _core.Table = supervisor.table
        self._type = _worker_process_type(kind)
        self._made: dict[int, Any] = {}

    def all(self) -> list[Any]:
        """Return the process objects of all slots; dead ones remain until they are replaced."""
        size = self.supervisor.spec.size
        return [worker for worker in map(self._worker, range(size)) if worker is not None]

    def active(self) -> list[Any]:
        """Return those that run."""
        if not self.supervisor.alive():
            return []
        return [worker for worker in self.all() if worker._popen.poll() is None]

    def _worker(self, slot: int) -> Any:
        info = self.table.slot(slot)
        if not info["pid"]:
            return None
        worker = self._made.get(slot)
        if worker is None or worker._popen.owner_id != info["owner_id"]:
            worker = self._made[slot] = self._type(self, slot, info)
        return worker

    def exit_of(self, slot: int, owner_id: int) -> int | None:
        """Return the exit code of an incarnation; None while it runs."""
        code = self.table.exit_of(owner_id)
        if code is not None:
            return code
        info = self.table.slot(slot)
        if info["owner_id"] != owner_id:
            return UNKNOWN
        return None if self.supervisor.alive() else -signal.SIGKILL


class _Popen:
    """The ``_popen`` of a process object, as `multiprocessing.popen_fork.Popen`."""

    method = "fork"

    def __init__(self, workers: WorkerProcesses, slot: int, info: Any) -> None:
        self.pid, self.owner_id = info["pid"], info["owner_id"]
        self.returncode: int | None = None
        self._workers, self._slot = workers, slot
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
            return _ended_sentinel()
        except OSError as error:
            msg = "the sentinel of a pool's worker needs pidfd_open: Linux 5.3"
            raise OSError(error.errno, msg) from error
        if self._is_there():
            return fd
        # Another process has its pid now.
        os.close(fd)
        return _ended_sentinel()

    def _is_there(self) -> bool:
        """Whether its pid is still its own."""
        seen = _os.process_status(self.pid)
        if self.poll() is not None or seen is None:
            return False
        started = self._workers.table.slot(self._slot)["started"]
        if started:
            return seen.started == started
        return seen.parent == self._workers.supervisor.pid  # it has only just been forked

    def poll(self, flag: int = os.WNOHANG) -> int | None:  # noqa: ARG002 - the standard name
        """Return the exit code, or None."""
        if self.returncode is None:
            self.returncode = self._workers.exit_of(self._slot, self.owner_id)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end and return the exit code, or None if it has not come in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            if wait_for_exit(
                self.pid, RUNNING_CHECK_S if left is None else min(RUNNING_CHECK_S, left)
            ):
                # The supervisor has not reaped it yet.
                _core.poll([], ENDED_CHECK_S * 1000)
        return self.returncode

    def _send_signal(self, number: int) -> None:
        if self._is_there():
            _os.kill_if_alive(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Do nothing: the descriptor is closed with the last reference."""


def _ended_sentinel() -> int:
    read, write = os.pipe()
    os.close(write)
    return read


def _close(fd: int, pid: int) -> None:
    if os.getpid() == pid:
        os.close(fd)


class WorkerProcess:
    """Mixed into a process class: a worker that this process has not started itself."""

    def __init__(self, workers: WorkerProcesses, slot: int, info: Any) -> None:
        spec, me = workers.supervisor.spec, _mp.current_process()
        self._identity = (*spec.identity, info["number"])
        self._name = name_of(spec.name, self._identity)
        self._config = {**me._config, "daemon": True}
        self._parent_pid, self._parent_name = os.getpid(), me.name
        self._popen: Any = _Popen(workers, slot, info)
        self._closed = False

    @property
    def _sentinel(self) -> int:
        sentinel: int = self._popen.sentinel
        return sentinel

    @_sentinel.deleter
    def _sentinel(self) -> None:
        """`close` forgets it."""


@functools.cache
def _worker_process_type(kind: type) -> Any:
    if not issubclass(kind, mp_process.BaseProcess):
        kind = mp_process.BaseProcess
    return type(kind.__name__, (WorkerProcess, kind), {"__module__": kind.__module__})


# --- Among the program's children ------------------------------------------------------------

_of_live_pools: weakref.WeakSet[WorkerProcesses] = weakref.WeakSet()


class _Children(set[Any]):
    """The children of `multiprocessing`, and the workers of live pools."""

    def __iter__(self) -> Iterator[Any]:
        yield from list(super().__iter__())
        for workers in list(_of_live_pools):
            yield from workers.active()


def list_among_children(workers: WorkerProcesses) -> None:
    """Let `active_children` list these workers as long as they live."""
    _of_live_pools.add(workers)
    if not isinstance(_mp._children, _Children):
        _mp._children = _Children(_mp._children)
