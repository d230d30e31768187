"""``engine="interpreters"``: tasks run in sub-interpreters of this process (CPython 3.14)."""

from __future__ import annotations

import importlib
import sys
import threading
import time

from garrison import _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.engines._engine import Engine, PickledBackend, PoolSettings, run_message
from garrison.errors import EngineUnavailable
from garrison.pool.backends import Seeds, prepare, refuse_timeout

if TYPE_CHECKING:
    from garrison.options import Options

__all__ = ["Interpreters"]

NEEDED = (3, 14)
END_S = 1.0
"""Seconds that idle interpreters have to end when the pool is terminated."""


class Interpreters(Engine):
    """Runs tasks in sub-interpreters, one in each of several threads, each with its own GIL.

    Functions, arguments and results travel as between processes. What a task imports must be
    prepared for sub-interpreters: pure Python is; numpy and garrison's core are not (2026).

    Raises
    ------
    EngineUnavailable
        Before CPython 3.14.
    """

    name: str = "interpreters"

    def __init__(self) -> None:
        if sys.version_info < NEEDED or sys.implementation.name != "cpython":
            raise EngineUnavailable(
                "the engine 'interpreters' needs CPython 3.14 or newer, this is "
                f"{sys.implementation.name} {sys.version.split()[0]}: "
                'use engine="threads" or "processes"'
            )

    def backend(self, settings: PoolSettings) -> InterpreterBackend:
        """Return a backend with so many interpreters."""
        return InterpreterBackend(settings)


class InterpreterBackend(PickledBackend):
    """Runs each task in one of several interpreters."""

    def __init__(self, settings: PoolSettings) -> None:
        workers = settings.processes or _os.usable_cpus()
        super().__init__(workers, settings.initializer, settings.initargs)
        self._interpreters: Any = importlib.import_module("concurrent.interpreters")
        self._lifetime = settings.maxtasksperchild
        self._seeds = Seeds(settings.seed, inherited=True)
        self._numbers = iter(range(1 << 62))
        self.threads: list[threading.Thread] = [
            threading.Thread(target=self._work, name=f"garrison-interpreter-{n + 1}", daemon=True)
            for n in range(workers)
        ]

    def members(self) -> list[Any]:
        """Return the threads."""
        return self.threads

    def check_options(self, options: Options) -> None:
        """Refuse a timeout."""
        super().check_options(options)
        refuse_timeout(options, "a sub-interpreter")

    def start(self) -> None:
        """Start the threads, each of which makes its interpreter."""
        for thread in self.threads:
            thread.start()

    # --- A thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        while self._serve_with_one():
            pass

    def _serve_with_one(self) -> bool:
        """Make an interpreter and run tasks in it; return whether another one is to follow."""
        try:
            interpreter = self._interpreters.create()
        except Exception as error:
            self._break(error)
            return False
        try:
            return self._serve(interpreter)
        finally:
            interpreter.close()

    def _serve(self, interpreter: Any) -> bool:
        run = interpreter.call
        try:
            interpreter.exec(f"import sys; sys.path[:] = {sys.path!r}")
            run(prepare, self._seeds, next(self._numbers))
            self.begin(run(run_message, self.message(None)))
        except Exception as error:
            self._break(error)
            return False
        served = 0
        while (task := self.next_task()) is not None:
            try:
                self.finish(task, run(run_message, self.message(task)))
            except Exception as error:
                self.fail(task, error)
            del task
            served += 1
            if served == self._lifetime:
                return True
        return False

    # --- The end ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin no further task; running ones run to their end."""
        super().stop()
        if not self._running:
            # An interpreter should be closed before its program ends.
            self.join(END_S)

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end; True when they have."""
        end = time.monotonic() + seconds
        for thread in self.threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
                if thread.is_alive():
                    return False
        return True
