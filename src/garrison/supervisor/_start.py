"""Starting a supervisor: forked from this process. `_fresh_start` has the other ways.

The standard library's `Process` does the work of a start (flushing, after-fork hooks, passing
descriptors, exit codes). Two things differ here:

* a daemonic process may have a supervisor too, so that a pool works inside any process;
* the supervisor is not among ``active_children()``: the pool ends it, not the interpreter's exit.
"""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import sys
from functools import partial
from multiprocessing import context, popen_fork, process, util

from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _syscalls, _worker_entry
from garrison.supervisor._fresh_worker import Forked, run_to_the_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

    from garrison import _core
    from garrison._os.descriptor_channel import DescriptorChannel

    Ends = tuple[DescriptorChannel, DescriptorChannel]
    """The supervisor's end of its channel, and this process's."""

__all__ = [
    "ForkedSupervisor",
    "close_fds",
    "is_launched",
    "run_supervisor_process",
    "start_hidden",
    "starts_by_fork",
]


def start_hidden(own: Any) -> None:
    """As `BaseProcess.start`, but also for daemons, and without registering the child."""
    own._check_closed()
    own._popen = own._Popen(own)
    own._sentinel = own._popen.sentinel
    del own._target, own._args, own._kwargs


def starts_by_fork(kind: type) -> bool:
    """Whether all that a class of processes does to start one is to fork."""
    plain = getattr(kind, "_Popen", None)
    return (
        getattr(kind, "start", None) is process.BaseProcess.start
        and plain is not None
        and (plain.__module__ in {"garrison.context", context.__name__})
    )


def is_launched(kind: Any) -> bool:
    """Whether an object of a class of processes may be made in the process itself."""
    return (
        isinstance(kind, type)
        and kind.__init__ is process.BaseProcess.__init__  # type: ignore[misc] # of any class
        and starts_by_fork(kind)
    )


def run_supervisor_process(own: BaseProcess) -> int:
    """As `BaseProcess._bootstrap`, without the steps for code of the user.

    Code of the user never runs in a supervisor: after-fork hooks and exit functions are for its
    workers. Each page that is written here is copied.
    """
    try:
        own.run()
    except Forked:
        raise
    except BaseException:
        sys.__excepthook__(*sys.exc_info())
        sys.stderr.flush()
        return 1
    return 0


class ForkedSupervisor(context.ForkProcess):
    """A supervisor that is a copy of this process, and its first workers.

    Where the workers' class has nothing else in mind, the core forks them before the interpreter
    takes a step in the supervisor, and watches them until something is to be decided.
    """

    def __init__(
        self,
        run: Callable[[Any], None],
        table: _core.Table,
        ends: Ends,
        workers: list[tuple[int, Any]],
    ) -> None:
        # Not daemonic, even if this process is: it has children.
        super().__init__(name="PoolSupervisor", daemon=False)
        self._run, self._table, self._ends, self._workers = run, table, ends, workers
        self._handover: Any = None

    def start(self) -> None:
        """Fork."""
        with _syscalls.block_signals():
            start_hidden(self)

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the standard name
        return _SupervisorPopen(process_obj)

    def fork(self) -> tuple[str, Any]:
        """Fork; return what this process is now, and what belongs to that."""
        theirs, ours = self._ends
        report = theirs.framed(pickle.dumps(("started", None)))
        numbers = [number for number, _ in self._workers]
        plan = numbers, theirs.fileno(), ours.fileno(), report
        return _syscalls.fork_supervisor(self._table, *plan)

    def run_as(self, role: str, detail: Any, parent_sentinel: int | None) -> int:
        """Run in the new process."""
        if role == "worker":
            _, worker = self._workers[detail[0]]
            return _worker_entry.run_launched_worker(worker, self._table, detail, parent_sentinel)
        self._handover = detail
        return self._bootstrap(parent_sentinel)

    def run(self) -> None:
        """Run in the supervisor."""
        _, ours = self._ends
        ours.close()
        self._run(self._handover)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        mine: Any = process
        own: Any = self
        mine._process_counter = itertools.count(1)
        mine._children = set()
        mine._current_process = own
        mine._parent_process = mine._ParentProcess(
            own._parent_name, own._parent_pid, parent_sentinel
        )
        # All objects so far stay, and to look through them would copy their pages.
        gc.freeze()
        try:
            return run_supervisor_process(self)
        except Forked as forked:
            start = forked
        # Outside of the handler: there `Forked` would become the context of every exception.
        start.__traceback__ = None
        return start.run(parent_sentinel)


class _SupervisorPopen(popen_fork.Popen):
    """As its base class, with a fork of the core."""

    def _launch(self, process_obj: Any) -> None:
        parent_r, child_w = os.pipe()
        child_r, parent_w = os.pipe()
        try:
            role, detail = process_obj.fork()
        except BaseException:
            close_fds(parent_r, child_w, child_r, parent_w)
            raise
        if role == "parent":
            self.pid: int = detail
            close_fds(child_w, child_r)
            self.finalizer: Any = util.Finalize(self, close_fds, (parent_r, parent_w))
            self.sentinel = parent_r
            return
        close_fds(parent_r, parent_w)
        run_to_the_end(Forked("fork", partial(process_obj.run_as, role, detail)), child_r)


def close_fds(*fds: int) -> None:
    """Close them."""
    for fd in fds:
        os.close(fd)
