"""Starting the supervisor: forked from this process, or in a fresh interpreter.

The standard library's `Process` does the work of a start (flushing, after-fork hooks, passing
descriptors, exit codes), with its own command line. Three things differ here:

* a daemonic process may have a supervisor too, so that a pool works inside any process;
* the supervisor is not among ``active_children()``: the pool ends it, not the interpreter's exit;
* a fresh interpreter imports neither ``__main__`` nor anything else of the program: workers do.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
from multiprocessing import (
    context,
    popen_spawn_posix,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)

from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _syscalls
from garrison.supervisor._fresh_worker import Forked, run_to_the_end

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

_PREPARED = ("authkey", "dir", "name", "orig_dir", "start_method", "sys_argv", "sys_path")
"""Preparation data for the supervisor; the rest may run code of the program."""


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


def _run(own: BaseProcess) -> int:
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
            return _run(self)
        except Forked as forked:
            start = forked
        # Outside of the handler: there `Forked` would become the context of every exception.
        start.__traceback__ = None
        return start.run(parent_sentinel)


class SpawnedSupervisor(context.SpawnProcess):
    """A supervisor in a new interpreter."""

    def start(self) -> None:
        """Start the interpreter and send its data."""
        start_hidden(self)

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> FreshPopen:  # noqa: N802 - the standard name
        return SupervisorPopen(process_obj)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        begin_collecting()
        try:
            # The process remains as the interpreter began: workers begin there as well.
            code = _run(self)
        except Forked as forked:
            start = forked
        else:
            # No interpreter shutdown: all is flushed already.
            os._exit(code)
        # Outside of the handler: there `Forked` would become the context of every exception.
        start.__traceback__ = None
        return run_to_the_end(start, parent_sentinel)


class FreshPopen(popen_spawn_posix.Popen):
    """A child in a new interpreter. Subclasses override its data."""

    method = "spawn"

    def _prepare(self, name: str) -> dict[str, Any]:
        preparation = spawn.get_preparation_data(name)
        return {key: preparation[key] for key in _PREPARED if key in preparation}

    def _dumps(self, value: object) -> bytes:
        return bytes(reduction.ForkingPickler.dumps(value))

    def _command(self, tracker: int | None, pipe: int) -> list[str]:
        return spawn.get_command_line(tracker_fd=tracker, pipe_handle=pipe)

    def _launch(self, process_obj: BaseProcess) -> None:
        message = pickle_for(self, self._prepare(process_obj.name), process_obj, self._dumps)
        tracker = resource_tracker.getfd()
        data_read, data_write = os.pipe()
        child_dies_read, child_dies_write = os.pipe()
        try:
            command = self._command(tracker, data_read)
            own: Any = self
            launch: Any = util.spawnv_passfds  # typed for bytes, takes either
            fds = [*own._fds, tracker, data_read, child_dies_write]
            # Not earlier: the start of a resource tracker unblocks some.
            with _syscalls.block_signals():
                self.pid: int = launch(spawn.get_executable(), command, fds)
            self.sentinel = child_dies_read
        except BaseException:
            os.close(data_write)
            os.close(child_dies_read)
            raise
        finally:
            os.close(data_read)
            os.close(child_dies_write)
        self.finalizer: Any = util.Finalize(self, close_fds, (data_write, child_dies_read))
        no_signal = _syscalls.block_signals((_syscalls.SIGPIPE,))
        with no_signal, os.fdopen(data_write, "wb", closefd=False) as file:
            file.write(message)


class SupervisorPopen(FreshPopen):
    """A supervisor or fork server in a new interpreter, without garbage collection at first.

    All that it imports stays. To look through it time and again costs as much as a tenth of it.
    """

    def _command(self, tracker: int | None, pipe: int) -> list[str]:
        command = super()._command(tracker, pipe)
        if "-c" in command:  # a frozen program has a command line of its own
            code = command.index("-c") + 1
            command[code] = f"import gc; gc.disable(); {command[code]}"
        return command


def begin_collecting() -> None:
    """Collect from now on what is made from now on, in the process of a `SupervisorPopen`."""
    gc.freeze()
    gc.enable()


def pickle_for(
    popen: Any,
    preparation: dict[str, Any],
    process_obj: BaseProcess,
    dumps: Callable[[object], bytes],
) -> bytes:
    """Pickle before anything starts, so that a failure leaves nothing behind."""
    context.set_spawning_popen(popen)
    try:
        return dumps(preparation) + dumps(process_obj)
    finally:
        context.set_spawning_popen(None)


def close_fds(*fds: int) -> None:
    """Close them."""
    for fd in fds:
        os.close(fd)
