"""The first steps of a new worker: it closes the supervisor's descriptors, then runs tasks."""

from __future__ import annotations

import gc
import os
import signal
from multiprocessing import process as mp_process

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _syscalls
from garrison.supervisor.import_guard import mark_as_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.supervisor._loop import SupervisorLoop

__all__ = [
    "drop_supervisor_resources",
    "remember_parent",
    "run_forked_worker",
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
