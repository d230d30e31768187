"""Starting a supervisor, or a fork server, in a fresh interpreter.

As in the standard library, with a command line of its own, and one difference: the interpreter
imports neither ``__main__`` nor anything else of the program: workers do.
"""

from __future__ import annotations

import gc
import os
from multiprocessing import context, popen_spawn_posix, reduction, resource_tracker, spawn, util

from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _syscalls
from garrison.supervisor._fresh_worker import Forked, run_to_the_end
from garrison.supervisor._start import close_fds, run_supervisor_process, start_hidden

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

__all__ = [
    "FreshPopen",
    "SpawnedSupervisor",
    "SupervisorPopen",
    "begin_collecting",
    "pickle_for",
]

_PREPARED = ("authkey", "dir", "name", "orig_dir", "start_method", "sys_argv", "sys_path")
"""Preparation data for the supervisor; the rest may run code of the program."""


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
            code = run_supervisor_process(self)
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
