"""The supervisor: a single-threaded process that forks, watches, replaces and ends the workers.

::

    start ──▶ fork every worker ──▶ report to the parent
      ┌──────────────────────────────────────────────┐
      │ wait   SIGCHLD | a byte from the parent | the parent's end | the next deadline
      │ reap   a dead worker: requeue its tasks or fail them with the reason; its children; replace
      │ late   stack, stop, check again, kill: only the task that is late
      └──────────────────────────────────────────────┘
    end   the parent is gone or asks for it: workers, their children, itself

The supervisor is in the program's process group and session, as the workers are, and blocks the
signals of a terminal: the program decides about them. No task passes through it: workers and parent
use the task table. If it is killed, its workers die with it, and the parent starts a successor,
which finds their tasks in the table.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import sys
import time
from functools import partial
from multiprocessing import process as mp_process
from multiprocessing import util

from garrison import _core, _os
from garrison._os.descriptor_sharing import DescriptorServer
from garrison._os.process_watch import CHECK_INTERVAL_S, NO_DESCRIPTOR, ProcessWatch
from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _crash_stack, _identity, _syscalls, _worker_entry
from garrison.supervisor._decisions import (
    Exit,
    PoolPhase,
    StartFailures,
    decide_retry,
    strip_worker_frames,
)
from garrison.supervisor._fresh_worker import Forked, PickledWorker
from garrison.supervisor._orphans import Orphans
from garrison.supervisor._shutdown import end_workers
from garrison.supervisor._start import starts_by_fork
from garrison.supervisor._timeouts import Timeouts
from garrison.supervisor._worker_slots import WorkerSlot, pids_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison._os.descriptor_channel import DescriptorChannel
    from garrison.supervisor._worker_slots import WorkerSpec

    Handover = tuple[_core.Supervisor, list[tuple[int, int, int]], int, int, int, int | None]

__all__ = ["SupervisorLoop", "run_supervisor"]

MAX_STACK_BYTES = 64 << 10
START_RETRY_S = 0.1
"""Seconds until the next attempt to start a worker after a failed fork."""


def run_supervisor(
    table: _core.Table,
    channel: DescriptorChannel,
    parent: int,
    spec: WorkerSpec,
    handover: Handover | Exception | None = None,
) -> None:
    """Supervise `table` in this process, until the pool ends.

    `handover` is what the core has begun, or why it could not.
    """
    if isinstance(handover, Exception):
        _report(channel, "failed", handover)
        return
    try:
        supervisor = SupervisorLoop(table, channel, parent, spec, handover)
    except Exception as error:
        _report(channel, "failed", error)
        return
    supervisor.run()
    supervisor.desk.close()  # not after an exception: that may be the way to a new worker


def _report(channel: DescriptorChannel, kind: str, detail: object) -> None:
    """Send the parent a message about something that is not in the table."""
    try:
        message = pickle.dumps((kind, detail))
    except Exception:
        message = pickle.dumps((kind, RuntimeError(str(detail))))
    with contextlib.suppress(OSError):
        channel.send(message)


class SupervisorLoop:
    """The state of a supervisor between two waits."""

    def __init__(
        self,
        table: _core.Table,
        channel: DescriptorChannel,
        parent: int,
        spec: WorkerSpec,
        handover: Handover | None = None,
    ) -> None:
        self.table, self.channel, self.parent, self.spec = table, channel, parent, spec
        self.start_failures = StartFailures(spec.size)
        self.started = spec.numbers
        self.oom_kills = 0
        self.is_handed_over = handover is not None
        if handover is None:
            self.table_writer = _core.Supervisor(table)
            self.slots = [WorkerSlot(index, _core.memory_file()) for index in range(spec.size)]
            self.desk = DescriptorServer()
            self.watch = ProcessWatch(parent)
        else:
            self._take_over(*handover)
        self.completed = 0
        self.completed_before = 0
        self.parent_gone = False
        self.orphans = Orphans()
        self.timeouts = Timeouts(table, self.table_writer, self.slots, parent, self.orphans)
        self.start_again_at = 0.0
        # A predecessor may have been killed while it waited.
        self.table_writer.set_dozing(False)
        self._prepare()

    # --- Setting up -----------------------------------------------------------------------

    def _take_over(
        self,
        table_writer: _core.Supervisor,
        workers: list[tuple[int, int, int]],
        ours: int,
        theirs: int,
        parent: int,
        oom_kills: int | None,
    ) -> None:
        """Go on with the workers that the core has forked."""
        self.table_writer = table_writer
        self.slots = [WorkerSlot(index, fd) for index, (_, _, fd) in enumerate(workers)]
        for slot, (pid, owner_id, _) in zip(self.slots, workers, strict=True):
            if pid:
                slot.adopt(ForkedWorker(pid), owner_id)
        self.started += len(workers)
        self.desk = DescriptorServer((ours, theirs))
        # Not opened again: the end of the parent may be what brings this here.
        self.watch = ProcessWatch(self.parent, parent)
        self.oom_kills = _os.oom_kills() if oom_kills is None else oom_kills

    def _prepare(self) -> None:
        for fd in range(3):
            # A daemon may have closed them; no other file must get these numbers.
            try:
                os.fstat(fd)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        _core.adopt_orphans()
        _crash_stack.begin()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # An event loop of the parent may have set its own descriptor.
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        self.handlers = {
            _syscalls.SIGCHLD: _syscalls.set_handler(_syscalls.SIGCHLD, lambda *_: None),
            _syscalls.SIGCONT: _syscalls.set_handler(
                _syscalls.SIGCONT, self.timeouts.note_continued
            ),
        }
        _syscalls.block_all_but(self.handlers)
        gc.freeze()

    def run(self) -> None:
        """Keep the workers running until the pool ends."""
        if not self.is_handed_over and not self._start():
            return
        while True:
            self.timeouts.excuse_own_pause()
            self._reap()
            self.timeouts.kill_overdue()
            self._replace_missing()
            if self._is_finished():
                break
            self._wait_for_event()
        self._finish()

    def _start(self) -> bool:
        """Start the workers, and report; False if that failed."""
        try:
            self._recover_from_predecessor()
            self._start_all()
        except Forked:
            raise
        except BaseException as error:
            self._end_workers(forced=True)
            _report(self.channel, "failed", error)
            return False
        _report(self.channel, "started", None)
        self.oom_kills = _os.oom_kills()
        return True

    def _recover_from_predecessor(self) -> None:
        """Requeue or fail the tasks of a dead predecessor's workers, if there was one."""
        pids = {}
        for index in range(self.spec.size):
            info = self.table.slot(index)
            if info["owner_id"] and not info["over"]:
                pids[info["owner_id"]] = info["pid"]
                self.table_writer.free_slot(index)
        held, unlisted = self.table_writer.stranded()
        for cell, owner_id in held:
            note = "was killed together with its supervisor"
            self._resolve_task(cell, Exit(pids.get(owner_id, 0), -signal.SIGKILL, note=note))
        for cell in unlisted:
            self.table_writer.enqueue_retry(cell)

    # --- Starting workers -----------------------------------------------------------------

    def _start_all(self) -> None:
        # After a fork each page that this process writes is copied anew: so the forks come last.
        for fork in [self._prepare_worker(slot) for slot in self.slots]:
            fork()
        for slot in self.slots:
            self._publish_pid(slot)

    def _start_worker(self, slot: WorkerSlot) -> None:
        try:
            self._prepare_worker(slot)()
        except OSError as error:
            self.start_again_at = time.monotonic() + START_RETRY_S
            others = any(each.occupied for each in self.slots)
            hopeless = self.start_failures.refused(others=others)
            self._break_pool_if(hopeless, f"cannot start a worker: {error}")
            return
        self._publish_pid(slot)

    def _prepare_worker(self, slot: WorkerSlot) -> Callable[[], None]:
        """Enter a worker into the table; what is returned forks it."""
        number = _identity.next_of(self.spec.counter, self.started)
        slot.owner_id = self.table_writer.enlist(slot.index, number)
        slot.clear_stack()
        self.started += 1
        # Programs read `current_process()._identity` to find their worker's number.
        identity = (*self.spec.identity, number)
        name = _identity.name_of(self.spec.name, identity)
        place = slot.index, slot.owner_id, self.started, slot.stack_fd
        workers: Any = self.spec.workers
        if isinstance(workers, PickledWorker):
            run = partial(workers.run, name, identity, self.spec.mask, slot.stack_fd)
            return partial(self._fork, slot, Forked(workers.method, run), place)
        args = (self, os.getpid(), *place)
        process = workers(target=_worker_entry.run_forked_worker, args=args)
        process.name, process._identity = name, identity
        process.daemon = True
        if starts_by_fork(type(process)):
            return partial(self._fork, slot, Forked("fork", process._bootstrap))
        return partial(self._start_process, slot, process)

    def _start_process(self, slot: WorkerSlot, process: Any) -> None:
        """Start a process of a class that has its own way to start."""
        with _syscalls.plain_fork():
            process.start()
        # Else the next start of multiprocessing would reap it, and its end would be missed.
        known: Any = mp_process
        known._children.discard(process)
        slot.process = process
        _core.crash_point("supervisor.forked")

    def _fork(
        self, slot: WorkerSlot, start: Forked, place: tuple[int, int, int, int] | None = None
    ) -> None:
        """Fork a worker that unwinds these frames, and begins where this process did."""
        supervisor_pid = os.getpid()
        util._flush_std_streams()  # type: ignore[attr-defined]
        pid = _syscalls.fork()
        if not pid:
            if place is not None:
                self._leave(supervisor_pid, start.method, place)
            raise start
        slot.process = ForkedWorker(pid)
        _core.crash_point("supervisor.forked")

    def _leave(self, supervisor_pid: int, method: str, place: tuple[int, int, int, int]) -> None:
        try:
            _worker_entry.drop_supervisor_resources(self, supervisor_pid, place[-1])
            if method != "spawn":
                gc.unfreeze()
            # A spawned worker has no objects of the user yet, and a collection would copy every
            # page that it shares with this process.
            _worker_entry.set_place(self.table, *place)
        except BaseException:
            sys.__excepthook__(*sys.exc_info())
            os._exit(1)

    def _publish_pid(self, slot: WorkerSlot) -> None:
        slot.started()
        self.table_writer.set_pid(slot.index, slot.pid)

    def _break_pool_if(self, hopeless: bool, why: str) -> None:
        if hopeless:
            _report(self.channel, "broken", why)
            self.table_writer.give_up()

    def _replace_missing(self) -> None:
        for slot in self.slots:
            if self._may_start() and not slot.occupied and self._is_wanted():
                self._start_worker(slot)

    def _may_start(self) -> bool:
        return not self.table.broken and time.monotonic() >= self.start_again_at

    def _is_wanted(self) -> bool:
        phase = self.table.phase
        closing = phase == PoolPhase.CLOSING
        return phase == PoolPhase.RUNNING or (closing and self.table.waiting > 0)

    # --- Waiting --------------------------------------------------------------------------

    def _wait_for_event(self) -> None:
        limit = self._ms_until_next_event()
        if limit is None:
            self.table_writer.set_dozing(True)
            limit = self._ms_until_next_event()
        parent, desk = self.watch.fileno(), self.desk.fileno()
        if parent == NO_DESCRIPTOR:
            longest = CHECK_INTERVAL_S * 1000
            limit = longest if limit is None else min(longest, limit)
        ready = _core.poll([self.wake_read, self.channel.fileno(), parent, desk], limit)
        self.table_writer.set_dozing(False)
        if self.wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake_read, 4096)
        if self.channel.fileno() in ready:
            self._read_parent_messages()
        if desk in ready:
            self.desk.serve(self._is_known)
        if parent in ready or (parent == NO_DESCRIPTOR and self.watch.has_ended()):
            self.parent_gone = True

    def _is_known(self, pid: int) -> bool:
        """Whether a process belongs to this pool, and so may open the memory of the others."""
        return pid in {os.getpid(), self.parent} or any(slot.pid == pid for slot in self.slots)

    def _read_parent_messages(self) -> None:
        """Read the parent's wake-up bytes. Their cause is in the table."""
        try:
            received = os.read(self.channel.fileno(), 4096)
        except OSError:
            received = b""
        if not received:
            # The parent has executed another program, and all copies of it are gone.
            self.parent_gone = True

    def _ms_until_next_event(self) -> float | None:
        """Milliseconds until the next check is due; None if there is none."""
        until_start = max(0.0, self.start_again_at - time.monotonic()) * 1000
        if any(not slot.occupied for slot in self.slots) and self._is_wanted():
            overdue = self.timeouts.ms_until_overdue() if until_start else None
            return until_start if overdue is None else min(until_start, overdue)
        return self.timeouts.ms_until_overdue()

    # --- Deaths ---------------------------------------------------------------------------

    def _reap(self) -> None:
        # Ctrl-C during a worker's initializer is no failed start.
        if _syscalls.was_sent(_syscalls.SIGINT):
            self.start_failures.succeeded()
        options = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
        while True:
            try:
                pid, status = _syscalls.waitpid(-1, options)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = next((slot for slot in self.slots if slot.pid == pid), None)
            if slot is None:
                continue
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                self._on_stop_or_continue(slot, stopped=os.WIFSTOPPED(status))
            else:
                self._on_worker_exit(slot, os.waitstatus_to_exitcode(status))

    def _on_stop_or_continue(self, slot: WorkerSlot, *, stopped: bool) -> None:
        now = time.monotonic()
        if slot.stopped and not stopped:
            self.timeouts.postpone(slot, now - slot.stopped_at)
        slot.stopped_at = now if stopped else 0.0
        self.table_writer.set_stopped(sum(each.stopped for each in self.slots))

    def _on_worker_exit(self, slot: WorkerSlot, exitcode: int) -> None:
        info = self.table.slot(slot.index)
        held = self.table_writer.held_by(slot.owner_id)
        in_order = exitcode == 0 and not held
        # Also of a worker that ended in order, if it ended before its first task.
        reason = None if in_order and info["initialized"] else self._describe_exit(slot, exitcode)
        self._kill_children(slot, was_killed_in_task=bool(held))
        _core.crash_point("supervisor.reaped")
        if reason is not None:
            for cell in held:
                self._resolve_task(cell, reason)
        if slot.stopped:
            self._on_stop_or_continue(slot, stopped=False)
        self.completed += info["tasks"]
        pid, slot.pid, slot.process = slot.pid, 0, None
        self.table_writer.free_slot(slot.index, lost=not in_order, exitcode=exitcode)
        _core.announce_death()
        self._note_successful_starts()
        if info["initialized"]:
            self.start_failures.succeeded()
        elif reason is not None and self.table.phase == PoolPhase.RUNNING:
            text = reason.stack or reason.text
            message = f"worker {pid} died before its first task: {text}"
            self._break_pool_if(self.start_failures.failed(), message)

    def _kill_children(self, slot: WorkerSlot, *, was_killed_in_task: bool) -> None:
        workers = pids_of(self.slots)
        if was_killed_in_task:
            self.orphans.kill_started_by(workers, [slot.pid])
        self.orphans.kill_daemons(self.table.children(slot.index))
        self.orphans.spare_present(workers)

    def _note_successful_starts(self) -> None:
        """Reset the failures after a worker got past its initializer, or a task was done."""
        occupied = [slot for slot in self.slots if slot.occupied]
        running = sum(self.table.slot(slot.index)["tasks"] for slot in occupied)
        if self.completed + running != self.completed_before:
            self.completed_before = self.completed + running
            self.start_failures.succeeded()
        for slot in occupied:
            if not slot.confirmed_started and self.table.slot(slot.index)["initialized"]:
                slot.confirmed_started = True
                self.start_failures.succeeded()

    def _describe_exit(self, slot: WorkerSlot, exitcode: int) -> Exit:
        kills = _os.oom_kills() if exitcode == -signal.SIGKILL else self.oom_kills
        by_oom = kills > self.oom_kills and not slot.killed_for_timeout
        self.oom_kills = kills
        stack = slot.read_stack(MAX_STACK_BYTES)
        _crash_stack.show(stack)
        stack = strip_worker_frames(stack, self.spec.work.__code__.co_filename)
        return Exit(slot.pid, exitcode, by_oom, late=slot.killed_for_timeout, stack=stack)

    def _resolve_task(self, cell: int, reason: Exit) -> None:
        """Give a dead worker's task another attempt, or fail it."""
        task = self.table_writer.task(cell)
        retry, attempts = decide_retry(task, reason)
        if not (retry and self.table_writer.requeue(cell, attempts)):
            exit_info = {
                **reason.exit_info,
                "timeout": task["timeout"] / 1e9,
                "attempt": attempts,
            }
            self.table_writer.mark_lost(cell, pickle.dumps(exit_info))

    # --- The end --------------------------------------------------------------------------

    def tell(self, kind: str, detail: object) -> None:
        """Report the end of the pool to the parent."""
        _report(self.channel, kind, detail)

    def _is_finished(self) -> bool:
        if self.parent_gone or self.table.broken or self.table.phase == PoolPhase.TERMINATING:
            return True
        any_left = any(slot.occupied for slot in self.slots)
        return self.table.phase == PoolPhase.CLOSING and not any_left and self.table.waiting == 0

    def _finish(self) -> None:
        in_order = self.table.phase == PoolPhase.CLOSING and not self.parent_gone
        if in_order:
            self.table_writer.finish()
        else:
            self._end_workers(forced=self.watch.has_ended())

    def _end_workers(self, *, forced: bool) -> None:
        """End every worker, and all processes that running tasks have started."""
        for slot in self.slots:
            if slot.process is not None and not hasattr(slot.process, "_popen"):
                # A process class of the user, with its own way to end.
                slot.process.terminate()
                slot.process.join()
        slots = {
            slot.process.pid: slot.index
            for slot in self.slots
            if getattr(slot.process, "pid", None)
        }
        end_workers(self, slots, forced=forced)


class ForkedWorker:
    """A worker that was forked without a process object."""

    _popen: None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
