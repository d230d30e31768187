"""A worker of a supervisor in a fresh interpreter: from its fork to its end.

Such a worker behaves as a child of the standard library: it unpickles the preparation data and its
process object itself, so it imports the main module itself, and it ends as such a child does. The
forked interpreter has imported nothing of the user.

::

    parent      pickles the process while the supervisor is being started: WorkerTemplate.__reduce__
    supervisor  keeps the bytes: PickledWorker
    worker      unwinds the supervisor's frames by `Forked`, prepares, unpickles, runs, ends
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import pickle
import sys
from multiprocessing import popen_fork, process, util

from garrison._typing import TYPE_CHECKING, Any
from garrison.supervisor import _syscalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

__all__ = ["MAIN_IMPORTS", "Forked", "PickledWorker", "WorkerTemplate", "preload", "run_to_the_end"]

RUNS_EXIT_FUNCTIONS = hasattr(popen_fork, "atexit")
"""Whether a process that was forked runs its exit functions, on this version of Python."""
PRELOADS_MAIN = sys.version_info >= (3, 13, 1) or (3, 12, 8) <= sys.version_info < (3, 13)
"""Whether a fork server imports the main module, on this version of Python."""

MAIN_IMPORTS = ("pkgutil",)
"""Modules that `runpy` imports to run the main module; else each worker imports them."""


class Forked(BaseException):
    """Unwinds the supervisor's frames in a new worker, up to the interpreter's first."""

    def __init__(self, method: str, run: Callable[[int | None], int]) -> None:
        self.method, self.run = method, run


class WorkerTemplate:
    """The process object of workers, as bytes that only workers unpickle.

    Parameters
    ----------
    method
        The start method whose children the workers imitate: spawn or forkserver.
    make
        Makes the process object. Called in the parent, once for each supervisor.
    dumps
        Pickles it. Called while the supervisor is being started, so locks, queues and connections
        may be part of it.
    prepare
        Returns the preparation data of a process with this name.
    """

    def __init__(
        self,
        method: str,
        make: Callable[[], BaseProcess],
        dumps: Callable[[object], bytes],
        prepare: Callable[[str], dict[str, Any]],
    ) -> None:
        self._parts = method, make, dumps, prepare

    def __reduce__(self) -> tuple[Any, ...]:
        method, make, dumps, prepare = self._parts
        made = make()
        data = prepare(made.name)
        imports = MAIN_IMPORTS if "init_main_from_path" in data else ()
        # Unpickling the process may need what the preparation data have imported.
        return PickledWorker, (method, bytes(dumps(data)), bytes(dumps(made)), imports)


class PickledWorker:
    """A `WorkerTemplate` in the supervisor."""

    def __init__(
        self, method: str, preparation: bytes, process: bytes, imports: tuple[str, ...]
    ) -> None:
        self.method: str = method
        self.preparation: bytes = preparation
        self.process: bytes = process
        preload(imports, None)

    def run(
        self,
        name: str,
        identity: tuple[int, ...],
        mask: tuple[int, ...],
        stack_fd: int,
        sentinel: int | None,
    ) -> int:
        """Run the process; return its exit code. A failure is also written to `stack_fd`."""
        # A spawned process was not forked.
        util._finalizer_registry.clear()  # type: ignore[attr-defined]
        util._run_after_forkers()  # type: ignore[attr-defined]
        try:
            with _syscalls.quiet_interrupt():
                _syscalls.set_mask(mask)
                made = self._unpickle(name)
                # Else an interrupt before the first task would be shown.
                _syscalls.hold_interrupt()
        except BaseException as error:
            import traceback

            text = "a worker cannot start\n" + "".join(traceback.format_exception(error))
            os.write(stack_fd, text.encode(errors="replace"))
            raise
        made._name, made._identity = name, identity
        code: int = made._bootstrap(parent_sentinel=sentinel)
        return code

    def _unpickle(self, name: str) -> Any:
        # Late: a pool under fork does not need it.
        from multiprocessing import spawn

        current: Any = process.current_process()
        current._inheriting = True
        try:
            # One stream each: the order matters, and the first may patch the second.
            data = pickle.load(io.BytesIO(self.preparation))  # noqa: S301 - written by the parent
            data["name"] = name
            spawn.prepare(data)
            return pickle.load(io.BytesIO(self.process))  # noqa: S301 - written by the parent
        finally:
            del current._inheriting


def run_to_the_end(forked: Forked, sentinel: int | None) -> int:
    """Run a worker, and end it as a child of the standard library with its start method.

    Under spawn the exit code is returned, for the interpreter to exit with.
    """
    if forked.method == "spawn":
        return forked.run(sentinel)
    code = 1
    try:
        if RUNS_EXIT_FUNCTIONS:
            atexit._clear()
            atexit.register(util._exit_function)  # type: ignore[attr-defined]
        code = forked.run(sentinel)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        if RUNS_EXIT_FUNCTIONS:
            atexit._run_exitfuncs()
        os._exit(code)


def preload(modules: tuple[str, ...], main_path: str | None) -> None:
    """Import the modules for workers, as a fork server does. Workers report failures."""
    from multiprocessing import spawn

    current: Any = process.current_process()
    if main_path is not None and "__main__" in modules and PRELOADS_MAIN:
        current._inheriting = True
        try:
            with contextlib.suppress(Exception):
                spawn.import_main_path(main_path)
        finally:
            del current._inheriting
    for module in modules:
        with contextlib.suppress(Exception):
            __import__(module)
    util._flush_std_streams()  # type: ignore[attr-defined]
