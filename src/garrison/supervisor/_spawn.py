"""Starting the supervisor: forked from this process, or in a fresh interpreter.

The standard library's `Process` does the work of a start (flushing, after-fork hooks, handing
descriptors over, exit codes). Three things differ here:

* a daemonic process may have a supervisor too, so that a pool inside any process works;
* the supervisor is not one of ``active_children()``: the pool ends it, not the interpreter's exit;
* a fresh interpreter does not import ``__main__``: functions of it travel by value, so a script
  needs no ``if __name__ == "__main__"`` guard.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import traceback
from multiprocessing import (
    context,
    popen_spawn_posix,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

# Only the standard library until the parent's sys.path is known.
_CHILD = (
    "import os, pickle; file = os.fdopen({fd}, 'rb'); "
    "from multiprocessing import spawn; spawn.prepare(pickle.load(file)); "
    "from garrison.supervisor._spawn import serve; serve(file, {sentinel}, {tracker})"
)


def _start(own: Any) -> None:
    """As `BaseProcess.start`, without its ban on children of daemons and its register."""
    own._check_closed()
    own._popen = own._Popen(own)
    own._sentinel = own._popen.sentinel
    del own._target, own._args, own._kwargs


class ForkedSupervisor(context.ForkProcess):
    """A supervisor that is a copy of this process."""

    def start(self) -> None:
        """Fork."""
        _start(self)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """As the standard library's, without what only code of the user needs.

        None of that ever runs in a supervisor: after-fork hooks, exit functions and a standard
        input of one's own are for its workers. Each page that is written to here costs a copy.
        """
        mine: Any = process
        mine._process_counter = itertools.count(1)
        mine._children = set()
        mine._current_process = self
        own: Any = self
        mine._parent_process = mine._ParentProcess(
            own._parent_name, own._parent_pid, parent_sentinel
        )
        try:
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            if null:
                os.close(null)
            self.run()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            return 1
        return 0


class SpawnedSupervisor(context.SpawnProcess):
    """A supervisor in a new interpreter."""

    def start(self) -> None:
        """Start the interpreter and send it what it needs."""
        _start(self)

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> _FreshPopen:  # noqa: N802 - the standard name
        return _FreshPopen(process_obj)


class _FreshPopen(popen_spawn_posix.Popen):
    method = "spawn"

    def _launch(self, process_obj: BaseProcess) -> None:
        preparation = spawn.get_preparation_data(process_obj.name)
        for key in ("init_main_from_name", "init_main_from_path"):
            preparation.pop(key, None)
        # A tracker is handed on only where one runs: the pool itself needs none.
        tracker = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
        message = self._pickle(preparation, process_obj)
        data_read, data_write = os.pipe()
        parent_dies_read, parent_dies_write = os.pipe()
        child_dies_read, child_dies_write = os.pipe()
        try:
            code = _CHILD.format(fd=data_read, sentinel=parent_dies_read, tracker=tracker)
            flags = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
            command = [spawn.get_executable(), *flags, "-c", code]
            own: Any = self
            launch: Any = util.spawnv_passfds  # typed for bytes, takes either
            fds = [*own._fds, data_read, parent_dies_read, child_dies_write]
            if tracker is not None:
                fds.append(tracker)
            self.pid = launch(spawn.get_executable(), command, fds)
            self.sentinel = child_dies_read
        except BaseException:
            os.close(data_write)
            os.close(parent_dies_write)
            os.close(child_dies_read)
            raise
        finally:
            os.close(data_read)
            os.close(parent_dies_read)
            os.close(child_dies_write)
        self.finalizer = util.Finalize(self, _close_fds, (parent_dies_write, child_dies_read))
        with os.fdopen(data_write, "wb") as file:
            file.write(message)

    def _pickle(self, preparation: dict[str, Any], process_obj: BaseProcess) -> bytes:
        """Pickle before anything starts: what cannot be pickled must leave nothing behind."""
        context.set_spawning_popen(self)
        try:
            parts = (preparation, process_obj)
            return b"".join(bytes(reduction.ForkingPickler.dumps(part)) for part in parts)
        finally:
            context.set_spawning_popen(None)


def _close_fds(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def serve(file: BinaryIO, sentinel: int, tracker: int | None) -> None:
    """Be the process that the parent described. Runs in the fresh interpreter."""
    if tracker is not None:
        resource_tracker._resource_tracker._fd = tracker  # type: ignore[attr-defined]
    process = pickle.load(file)
    file.close()
    # Nothing here is worth the interpreter's tidying up: it has flushed already.
    os._exit(process._bootstrap(parent_sentinel=sentinel))


class Deferred:
    """An object that the supervisor carries and only the workers unpickle.

    Objects that may cross only at a start (locks, queues, connections) are pickled while the
    supervisor is being started; a worker forked from it finds their descriptors open.
    """

    def __init__(self, value: object) -> None:
        self._value = value
        self._pickled: bytes | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        data = self._pickled
        if data is None:
            data = bytes(reduction.ForkingPickler.dumps(self._value))
        return (_deferred, (data,))

    def get(self) -> Any:
        """Return the object; in a worker of a spawned supervisor, unpickle it now."""
        if self._pickled is not None:
            self._value, self._pickled = pickle.loads(self._pickled), None
        return self._value


def _deferred(data: bytes) -> Deferred:
    deferred = Deferred(None)
    deferred._pickled = data
    return deferred
