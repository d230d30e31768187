"""The interrupt of a cancelled task in its worker: `TaskInterrupt` is raised in it, once."""

from __future__ import annotations

from functools import partial

from garrison._typing import TYPE_CHECKING
from garrison.errors import TaskInterrupt
from garrison.supervisor import handle_cancels

if TYPE_CHECKING:
    from types import FrameType

    from garrison import _core

__all__ = ["begin", "end"]

_UNSAFE = {
    "importlib._bootstrap",
    "garrison.pool._definitions",
    "garrison.pool._seeds",
    "garrison.pool._worker_namespaces",
}
"""Modules that an interrupt would leave half-done, for all later tasks: many a module in C cannot
be imported a second time. The supervisor sends its signal again."""
_WORKER = "garrison.pool._worker"

_interrupted = 0
"""The number of the worker's task that was interrupted last."""


def begin(worker: _core.Worker) -> None:
    """Have this worker's tasks interrupted when they are cancelled."""
    global _interrupted  # noqa: PLW0603 - a process is one worker
    _interrupted = 0  # a pool within a task has a copy of that task's
    handle_cancels(partial(_interrupt, worker))


def end() -> None:
    """Interrupt nothing any more: this process ends, and exit functions are no task's."""
    handle_cancels(_ignore)


def _ignore(*_: object) -> None: ...


def _interrupt(worker: _core.Worker, _number: int, frame: FrameType | None) -> None:
    """Raise in the present task if it was cancelled: the signal may have been for another one."""
    global _interrupted  # noqa: PLW0603 - see above
    number = worker.taken
    if number == _interrupted or not worker.cancelled or _is_unsafe(frame):
        return
    _interrupted = number
    msg = "this task was cancelled"
    raise TaskInterrupt(msg)


def _is_unsafe(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name == _WORKER:
            break  # what is below a fork has copied from the program
        if name in _UNSAFE:
            return True
        frame = frame.f_back
    return False
