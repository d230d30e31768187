"""The parent's handle of its supervisor: starts it, wakes it, notices its death, replaces it."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import signal
import sys
import threading
from functools import partial

from garrison import _core, _os
from garrison._os import descriptor_channel
from garrison._os.process_watch import ProcessWatch, wait_for_exit
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolBroken
from garrison.memory import InheritedFd
from garrison.supervisor import (
    _fresh_worker,
    _identity,
    _loop,
    _shutdown,
    _start,
    _syscalls,
    _worker_entry,
)
from garrison.supervisor._decisions import PoolPhase
from garrison.supervisor._fresh_worker import PickledWorker
from garrison.supervisor._start import close_fds
from garrison.supervisor.import_guard import check_not_importing

if TYPE_CHECKING:
    from garrison._os.descriptor_channel import DescriptorChannel
    from garrison.supervisor._worker_slots import WorkerSpec

__all__ = ["SupervisorHandle"]

ATTEMPTS = 3
"""Supervisors in a row that may die during their start, before the pool is broken."""
MAX_SUCCESSOR_FAILURES = 100
"""Attempts to start a successor, 100 ms apart, that may fail."""
SUCCESSOR_ATTEMPTS = 20
"""As `ATTEMPTS`, for a successor: the cause of the first death may persist."""
START_TIMEOUT_S = 120.0
"""Seconds in which a supervisor must have started its workers, or it counts as dead."""
HANDLER_LIMIT_S = _shutdown.HANDLER_GRACE_S + 5.0
"""Seconds that a supervisor has once it waits for workers with a handler of SIGTERM."""


def _main(
    table: _core.Table,
    channel: DescriptorChannel,
    parent: int,
    spec: WorkerSpec,
    handover: Any = None,
) -> None:
    """Run in the supervisor's process."""
    _worker_entry.remember_parent()
    if spec.preload:
        _fresh_worker.preload(spec.preload, None)
    _loop.run_supervisor(table, channel, parent, spec, handover)


def _main_afresh(
    shape: tuple[int, int],
    channel: DescriptorChannel,
    inherited: tuple[Any, Any, Any],
    parent: int,
    spec: WorkerSpec,
) -> None:
    """Run in a supervisor without the parent's memory."""
    fd, family, family_fd = inherited
    fds = fd.detach(), family_fd.detach()
    table = _core.Table(*shape, fds[0])
    _core.join_registry(family, fds[1])
    close_fds(*fds)
    handover = None
    if not spec.numbers and isinstance(spec.workers, PickledWorker):
        numbers = [_identity.next_of(spec.counter, slot) for slot in range(spec.size)]
        role, handover = _launch(table, channel, parent, spec, numbers)
        if role == "worker":
            number = numbers[handover[0]]
            raise _worker_entry.begin_launched_worker(spec, table, number, handover)
    _main(table, channel, parent, spec, handover)


def _launch(
    table: _core.Table,
    channel: DescriptorChannel,
    parent: int,
    spec: WorkerSpec,
    numbers: list[int],
) -> tuple[str, Any]:
    """Fork the workers; return what this process is now, and what belongs to that."""
    if spec.preload:
        _fresh_worker.preload(spec.preload, None)
    gc.freeze()
    report = channel.framed(pickle.dumps(("started", None)))
    return _syscalls.launch_workers(table, numbers, channel.fileno(), parent, report)


class SupervisorHandle:
    """A supervisor process, or its successor. Safe to use from several threads."""

    def __init__(self, table: _core.Table, spec: WorkerSpec, *, fork: bool) -> None:
        self.table: _core.Table = table
        self.spec: WorkerSpec = spec
        self.fork: bool = fork
        # Held during the start or end of a supervisor. A signal handler may end the pool then.
        self._lock = threading.RLock()
        self._process: Any = None
        self._watch: ProcessWatch | None = None
        self._channel: DescriptorChannel | None = None
        self._messages: list[tuple[str, Any]] = []
        self._pid = os.getpid()
        self.replaced: int = 0
        self._failures = 0

    def start(self, attempts: int = ATTEMPTS) -> None:
        """Start the supervisor and wait for its workers."""
        check_not_importing()
        for _ in range(attempts):
            kind, detail = self._start_once()
            if kind == "started":
                return
            self._kill_orphaned_workers()
            self._close(wait=True)
            if kind == "failed":
                raise detail
        msg = f"the supervisor did not start, {attempts} times in a row: {detail}"
        raise PoolBroken(msg)

    def _start_once(self) -> tuple[str, Any]:
        ours, theirs = descriptor_channel.descriptor_channels()
        process = None
        try:
            process = self._new_process(ours, theirs)
            process.start()
            descriptor_channel.guard(process._popen)
            self._process, self._channel = process, ours
            with contextlib.suppress(ProcessLookupError):
                # Not waitpid: code of the user may ignore SIGCHLD, or reap all children itself.
                self._watch = ProcessWatch(process.pid)
        except BaseException:
            ours.close()
            _abandon(process)
            raise
        finally:
            theirs.close()
        try:
            return self._receive(START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def _new_process(self, ours: DescriptorChannel, theirs: DescriptorChannel) -> Any:
        self.spec = self.spec.replace(mask=tuple(_syscalls.blocked()))
        table_fd = self.table.fd  # raises if the program has closed it
        family, family_fd = _core.registry()  # workers share locks that are made later
        if self.fork:
            run = partial(_main, self.table, theirs, os.getpid(), self.spec)
            with _identity.uncounted():
                return _start.ForkedSupervisor(
                    run, self.table, (theirs, ours), self._launched_workers()
                )
        shape = (self.table.slots, self.table.region_len)
        inherited = InheritedFd(table_fd), family, InheritedFd(family_fd)
        args = (shape, theirs, inherited, os.getpid(), self.spec.replace(served=None))
        make = self._fresh_process_type()
        with _identity.uncounted():
            # Not daemonic, even if this process is: it has children.
            return make(target=_main_afresh, args=args, name="PoolSupervisor", daemon=False)

    def _launched_workers(self) -> list[tuple[int, Any]]:
        """Return the numbers and the process objects of the workers that the core may fork.

        A successor first sees to the tasks of dead workers; what workers need for an initializer
        is imported once, before they are forked.
        """
        spec = self.spec
        ready = all(name in sys.modules for name in spec.preload)
        if spec.counter is None or spec.numbers or not spec.launches or not ready:
            return []
        numbers = [_identity.draw(spec.counter) for _ in range(spec.size)]
        return list(zip(numbers, _worker_entry.launch_workers(spec, numbers), strict=True))

    def _fresh_process_type(self) -> Any:
        """Return the target and arguments of a supervisor without this process's memory."""
        # Late: fork does not need it.
        wanted = self.spec.served
        if wanted is None:
            from garrison.supervisor._fresh_start import SpawnedSupervisor

            return SpawnedSupervisor
        from garrison.supervisor._fork_server import ServedSupervisor

        return partial(ServedSupervisor, wanted=wanted)

    def _receive(self, seconds: float) -> tuple[str, Any]:
        channel = self._channel
        if channel is None:
            return "gone", "it was never started"
        if not channel.is_ours:
            return "gone", "its channel was closed"
        try:
            if not channel.poll(seconds):
                return "gone", f"no message from it within {seconds:g} s"
            message: tuple[str, Any] = pickle.loads(channel.receive())  # noqa: S301 - written by the supervisor
        except (EOFError, OSError):
            return "gone", "it died"
        return message

    @property
    def pid(self) -> int | None:
        """The supervisor's process number."""
        process = self._process
        return None if process is None else process.pid

    def alive(self) -> bool:
        """Whether the supervisor runs. In another process than the pool's own: no."""
        return os.getpid() == self._pid and not self._gone(0)

    def _gone(self, seconds: float) -> bool:
        """Wait for the supervisor's end."""
        watch = self._watch
        return watch is None or watch.wait(seconds)

    def wake(self) -> None:
        """Wake the supervisor: it checks the table."""
        with self._lock, contextlib.suppress(OSError):
            channel = self._channel
            # Full: it has unread wake-ups already.
            if channel is not None and channel.is_ours:
                _core.send_quietly(channel.fileno(), b".")

    def check(self) -> None:
        """Replace a dead supervisor, or raise if the pool is broken. Called during waits."""
        if self.table.broken:
            raise PoolBroken(self._reason())
        if self.alive() or not self._lock.acquire(blocking=False):
            return
        try:
            if not self.alive() and not self.finished:
                self._start_successor()
        finally:
            self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the supervisor ended in order: its work was done, or the parent stopped it."""
        return self.table.finished or self.table.phase == PoolPhase.TERMINATING

    def _read_messages(self) -> None:
        while True:
            kind, detail = self._receive(0)
            if kind == "gone":
                break
            self._messages.append((kind, detail))

    def _reason(self) -> str:
        self._read_messages()
        broken = [str(detail) for kind, detail in self._messages if kind == "broken"]
        return broken[0] if broken else "its workers cannot start"

    def _start_successor(self) -> None:
        """Start a successor, which finds the tasks of the dead workers in the table."""
        self._kill_orphaned_workers()
        started = self.table.slot(self.table.slots - 1)["owner_id"]
        self.spec = self.spec.replace(numbers=max(self.spec.numbers, started) + 1)
        self._close()
        try:
            self.start(SUCCESSOR_ATTEMPTS)
        except OSError as error:
            # The fork failed; the next check tries again. But closed descriptors stay closed.
            self._failures += 1
            if self._failures >= MAX_SUCCESSOR_FAILURES or error.errno == errno.EBADF:
                msg = f"the supervisor cannot be replaced: {error}"
                raise PoolBroken(msg) from error
            return
        self._failures = 0
        self.replaced += 1

    def _kill_orphaned_workers(self) -> None:
        """Wait for the dead supervisor's workers, which die with it."""
        for index in range(self.spec.size):
            info = self.table.slot(index)
            pid = info["pid"]
            if not pid or info["over"]:
                continue
            # A process that reuses its pid has another start time.
            if info["started"] and _os.start_ticks(pid) == info["started"]:
                _os.kill_if_alive(pid, signal.SIGKILL)
                wait_for_exit(pid, 10.0)
            with contextlib.suppress(ChildProcessError):
                # Orphans must be reaped here if this process is init, or a subreaper.
                os.waitpid(pid, os.WNOHANG)

    def join(self, seconds: float) -> bool:
        """Wait for the supervisor's end; True if there is none any more."""
        return os.getpid() != self._pid or self._gone(seconds)

    def stop(self) -> None:
        """End supervisor and workers now; those that do not end in time are killed."""
        if os.getpid() != self._pid:
            return
        self.table.enter(PoolPhase.TERMINATING)
        with self._lock:
            self._end()

    def _end(self) -> None:
        self.wake()
        gone = self.join(2 * _shutdown.SIGTERM_GRACE_S + 2.0)
        if not gone and self._is_waiting_for_handlers():
            gone = self.join(HANDLER_LIMIT_S)
        if not gone and self.pid is not None:
            _os.kill_if_alive(self.pid, signal.SIGKILL)
            self.join(10.0)
        self._kill_orphaned_workers()
        self._close()

    def _is_waiting_for_handlers(self) -> bool:
        """Whether the supervisor waits for workers that have a handler for SIGTERM."""
        self._read_messages()
        return any(kind == "ending" for kind, _ in self._messages)

    def _close(self, *, wait: bool = False) -> None:
        """Reap first, then drop the process: after an interrupt, the next call continues."""
        process = self._process
        if process is not None:
            if wait:
                if not self._gone(0):
                    _os.kill_if_alive(process.pid, signal.SIGKILL)
                process.join(10.0)
            # Closed already, if a signal handler has ended the pool meanwhile.
            with contextlib.suppress(ValueError, AttributeError):
                process.close()
            self._process = None
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
        channel = self._channel
        if channel is not None:
            channel.close()
            self._channel = None


def _abandon(process: Any) -> None:
    """End a process after its start was interrupted."""
    popen = getattr(process, "_popen", None)
    if popen is not None and popen.pid is not None:
        _os.kill_if_alive(popen.pid, signal.SIGKILL)
        popen.wait(10.0)
