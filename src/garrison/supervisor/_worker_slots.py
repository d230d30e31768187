"""How a supervisor makes its workers, and its record of the worker in each slot."""

from __future__ import annotations

import os

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.supervisor._fork_server import Preload
    from garrison.supervisor._fresh_worker import PickledWorker, WorkerTemplate

__all__ = ["WorkerSlot", "WorkerSpec", "pids_of"]


class WorkerSpec:
    """The number of workers of a supervisor, and how they are started.

    Parameters
    ----------
    size : int
        Number of workers.
    workers : callable, WorkerTemplate or PickledWorker
        Makes a process object, called in the supervisor like `multiprocessing.Process`; where the
        supervisor is a fresh interpreter, the process object that workers unpickle.
    work : callable
        Runs in a worker: ``work(table, slot, owner_id, number, stack_fd, *args)``.
    args : tuple
        The rest of its arguments.
    name : str, optional
        Prefix of the workers' names.
    served : tuple, optional
        Under forkserver, what the fork server imports in advance.
    """

    identity: tuple[int, ...] = ()
    """Identity of the pool's process; a worker's identity has one number more."""
    counter: tuple[_core.Id, int] | None = None
    """The counter of the numbers in the workers' names."""
    mask: tuple[int, ...] = ()
    """Signals that the program has blocked."""
    preload: tuple[str, ...] = ()
    """Modules that are imported before the first worker is started."""
    numbers: int = 0
    """Workers that predecessors have started: seeds continue from this number."""
    launches: bool = False
    """Whether the core may fork the first workers: their class does nothing else to start."""

    def __init__(
        self,
        size: int,
        workers: Callable[..., Any] | WorkerTemplate | PickledWorker,
        work: Callable[..., None],
        args: tuple[Any, ...],
        name: str = "PoolWorker",
        served: Preload | None = None,
    ) -> None:
        self.size: int = size
        self.workers: Callable[..., Any] | WorkerTemplate | PickledWorker = workers
        self.work: Callable[..., None] = work
        self.args: tuple[Any, ...] = args
        self.name: str = name
        self.served: Preload | None = served

    def replace(self, **changes: Any) -> WorkerSpec:
        """Return a copy with other attributes."""
        made = WorkerSpec.__new__(WorkerSpec)
        vars(made).update(vars(self), **changes)
        return made


class WorkerSlot:
    """One place for a worker, as the supervisor sees it."""

    process: Any = None
    pid = 0
    owner_id = 0
    stopped_at = 0.0
    confirmed_started = False
    stack_requested_at = 0.0
    killed_for_timeout = False
    cancelled_task: int | None = None
    """The cancelled task at which the worker was seen last."""
    interrupt_at = end_at = 0.0
    """When it is interrupted again, and when the worker is ended."""

    def __init__(self, index: int, stack_fd: int) -> None:
        self.index, self.stack_fd = index, stack_fd

    def adopt(self, process: Any, owner_id: int) -> None:
        """Enter a worker that the core has forked."""
        self.process, self.owner_id = process, owner_id
        self.started()

    @property
    def occupied(self) -> bool:
        """Whether there is a worker."""
        return self.pid != 0

    @property
    def stopped(self) -> bool:
        """Whether the worker is stopped by a signal."""
        return self.stopped_at != 0

    def started(self) -> None:
        """Note that `process` runs."""
        self.pid = self.process.pid
        self.confirmed_started = self.killed_for_timeout = False
        self.stopped_at = self.stack_requested_at = 0.0
        self.cancelled_task = None

    def clear_stack(self) -> None:
        """Empty the file for the worker's stack."""
        os.ftruncate(self.stack_fd, 0)
        os.lseek(self.stack_fd, 0, os.SEEK_SET)

    def read_stack(self, size: int) -> str:
        """Return the worker's stack, or why it could not start."""
        return os.pread(self.stack_fd, size, 0).decode(errors="replace").strip()


def pids_of(slots: list[WorkerSlot]) -> set[int]:
    """Return the process numbers of all workers."""
    return {slot.pid for slot in slots if slot.occupied}
