"""A module that a worker only imports must not start processes.

A worker imports the modules of its tasks' functions and arguments. If such a module makes a pool
during its import, the workers of that pool import it in turn, and so on without an end. The
standard library refuses that, and so does this module. Tasks and initializers may start processes.
"""

from __future__ import annotations

import sys
from multiprocessing import process, spawn

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = ["check_not_importing", "mark_as_worker"]

_worker_file: str | None = None
_IMPORT = "<frozen importlib._bootstrap>"
_PASSED_THROUGH = ("cloudpickle", "garrison.")
"""Packages with frames between a worker's own and an import."""


def mark_as_worker(work: CodeType) -> None:
    """Note that this process is a worker; its own frames are those of this code's file."""
    global _worker_file  # noqa: PLW0603 - one per process, set once
    _worker_file = work.co_filename


def check_not_importing() -> None:
    """Refuse to start a process while a worker imports a module in order to unpickle.

    Raises
    ------
    RuntimeError
        With the standard library's text.
    """
    if _worker_file is None or not _is_importing(sys._getframe()):
        return
    current: Any = process.current_process()
    current._inheriting = True
    try:
        spawn._check_not_importing_main()  # type: ignore[attr-defined]
    finally:
        del current._inheriting


def _is_importing(frame: FrameType | None) -> bool:
    """Whether the first frame after the worker's own ones is an import."""
    inner: list[FrameType] = []
    while frame is not None and frame.f_code.co_filename != _worker_file:
        inner.append(frame)
        frame = frame.f_back
    if frame is None:
        return False  # a thread
    for each in reversed(inner):
        if each.f_code.co_filename == _IMPORT:
            return True
        if not each.f_globals.get("__name__", "").startswith(_PASSED_THROUGH):
            return False
    return False
