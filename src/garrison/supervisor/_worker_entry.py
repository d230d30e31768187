"""The first steps of a new worker: it closes the supervisor's descriptors, then runs tasks."""

from __future__ import annotations

import gc
import os
import signal
from functools import partial
from multiprocessing import process as mp_process

from garrison import _core
from garrison._os.descriptor_sharing import sit_opposite
from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _crash_stack, _syscalls
from garrison.supervisor._fresh_worker import Forked
from garrison.supervisor._identity import name_of
from garrison.supervisor.import_guard import mark_as_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.supervisor._loop import SupervisorLoop
    from garrison.supervisor._worker_slots import WorkerSpec

__all__ = [
    "begin_launched_worker",
    "drop_supervisor_resources",
    "launch_workers",
    "remember_parent",
    "run_forked_worker",
    "run_launched_worker",
    "set_place",
    "work_in_slot",
]

_parent: Any = None
_place: tuple[Any, ...] = ()


def remember_parent() -> None:
    """Store the supervisor's own parent process, for its workers."""
    global _parent  # noqa: PLW0603 - one per process, set once
    _parent = mp_process.parent_process()


def set_place(*place: Any) -> None:
    """Store the slot of a worker that was forked without a process object."""
    global _place  # noqa: PLW0603 - one per process, set once
    _place = place


def work_in_slot(work: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Run the worker of this process's slot: the target of a `WorkerTemplate`."""
    mark_as_worker(work.__code__)
    with _syscalls.quiet_interrupt():
        work(*_place, *args)


def run_forked_worker(
    supervisor: SupervisorLoop,
    supervisor_pid: int,
    slot: int,
    owner_id: int,
    number: int,
    stack_fd: int,
) -> None:
    """Run in a new worker that has a copy of the parent's memory."""
    drop_supervisor_resources(supervisor, supervisor_pid, stack_fd)
    gc.unfreeze()
    # `parent_process()` must be the process that made the pool.
    mine: Any = mp_process
    mine._parent_process = _parent
    me: Any = mp_process.current_process()
    me._parent_pid, me._parent_name = supervisor.parent, mine._parent_process.name
    table, spec = supervisor.table, supervisor.spec
    supervisor.slots.clear()
    mark_as_worker(spec.work.__code__)
    with _syscalls.quiet_interrupt():
        _syscalls.set_mask(spec.mask)
        spec.work(table, slot, owner_id, number, stack_fd, *spec.args)


def launch_workers(spec: WorkerSpec, numbers: Iterable[int]) -> list[Any]:
    """Make the process objects of workers that the core will fork."""
    made = []
    for number in numbers:
        process = spec.workers(target=_work_launched, args=(spec,))  # type: ignore[operator]
        identity = (*spec.identity, number)
        process.name, process._identity = name_of(spec.name, identity), identity
        process.daemon = True
        made.append(process)
    return made


def run_launched_worker(
    process: Any, table: _core.Table, place: tuple[int, int, int, int], sentinel: int | None
) -> int:
    """Run in a worker that the core has forked; return its exit code."""
    _take_place(table, *place)
    _syscalls.refresh_event_loop()
    # An event loop of the parent may have set its own descriptor.
    signal.set_wakeup_fd(-1)
    code: int = process._bootstrap(parent_sentinel=sentinel)
    return code


def begin_launched_worker(
    spec: WorkerSpec, table: _core.Table, number: int, place: tuple[int, int, int, int]
) -> Forked:
    """Take a place in a worker that the core has forked in a fresh interpreter.

    Return what unwinds the supervisor's frames, and runs the worker.
    """
    workers: Any = spec.workers
    if workers.method != "spawn":
        gc.unfreeze()
    _take_place(table, *place)
    identity = (*spec.identity, number)
    name, stack_fd = name_of(spec.name, identity), place[2]
    return Forked(workers.method, partial(workers.run, name, identity, spec.mask, stack_fd))


def _take_place(table: _core.Table, slot: int, owner_id: int, stack_fd: int, desk: int) -> None:
    _crash_stack.begin()
    sit_opposite(desk)
    set_place(table, slot, owner_id, slot + 1, stack_fd)


def _work_launched(spec: WorkerSpec) -> None:
    mark_as_worker(spec.work.__code__)
    with _syscalls.quiet_interrupt():
        _syscalls.set_mask(spec.mask)
        spec.work(*_place, *spec.args)


def drop_supervisor_resources(
    supervisor: SupervisorLoop, supervisor_pid: int, stack_fd: int
) -> None:
    """Close the supervisor's descriptors in a new worker, and die with the supervisor."""
    if not _core.die_with_parent(supervisor_pid):
        os._exit(1)
    _syscalls.restore_fork()
    _syscalls.refresh_event_loop()
    signal.set_wakeup_fd(-1)
    for number, handler in supervisor.handlers.items():
        # None: a handler that is not Python's.
        _syscalls.set_handler(number, _syscalls.SIG_DFL if handler is None else handler)
    for slot in supervisor.slots:
        if slot.stack_fd != stack_fd:
            os.close(slot.stack_fd)
    for fd in (supervisor.wake_read, supervisor.wake_write):
        os.close(fd)
    supervisor.watch.close()
    supervisor.desk.sit_opposite()
    supervisor.channel.close()
