"""Starting a supervisor: forked from this process. `_fresh_start` has the other ways.

The standard library's `Process` does the work of a start (flushing, after-fork hooks, passing
descriptors, exit codes). Two things differ here:

* a daemonic process may have a supervisor too, so that a pool works inside any process;
* the supervisor is not among ``active_children()``: the pool ends it, not the interpreter's exit.
"""

from __future__ import annotations

import gc
import itertools
import sys
from multiprocessing import context, process

from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _syscalls
from garrison.supervisor._fresh_worker import Forked

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["ForkedSupervisor", "run_supervisor_process", "start_hidden", "starts_by_fork"]


def start_hidden(own: Any) -> None:
    """As `BaseProcess.start`, but also for daemons, and without registering the child."""
    own._check_closed()
    own._popen = own._Popen(own)
    own._sentinel = own._popen.sentinel
    del own._target, own._args, own._kwargs


def starts_by_fork(own: Any) -> bool:
    """Whether all that its class does to start it is to fork."""
    kind = type(own)
    plain = getattr(kind, "_Popen", None)
    return (
        kind.start is process.BaseProcess.start
        and plain is not None
        and (plain.__module__ in {"garrison.context", context.__name__})
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
    """A supervisor that is a copy of this process."""

    def start(self) -> None:
        """Fork."""
        with _syscalls.block_signals(), _syscalls.plain_fork():
            start_hidden(self)

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
