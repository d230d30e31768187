"""The file into which a worker writes its stack when it crashes, for `WorkerDied` and the user.

faulthandler writes into one file only. A program that has enabled it for its own log keeps that.
Otherwise the supervisor prints the stack, which faulthandler would have written to standard error.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys

__all__ = ["STACK_SIGNAL", "begin", "record_crashes", "show"]

STACK_SIGNAL = signal.SIGRTMAX - 5
"""Makes a worker write its stack."""

STDERR = 2
_FATAL = "Fatal Python error"
_enabled_before = False


def begin() -> None:
    """Note in a supervisor, or a new worker, whether workers would print crashes by themselves."""
    global _enabled_before  # noqa: PLW0603 - one per process
    _enabled_before = faulthandler.is_enabled()


def record_crashes(fd: int) -> None:
    """Record a worker's crash, unless the program has its own file for that."""
    if not faulthandler.is_enabled() or (_enabled_before and not _has_own_file()):
        faulthandler.enable(file=fd, all_threads=False)


def _has_own_file() -> bool:
    """Whether faulthandler writes into another file than standard error.

    Only a file object can be found; a descriptor number counts as standard error. CPython 3.14
    hides the object too: there faulthandler counts as the program's own if a call has enabled it.
    """
    if sys.version_info >= (3, 14):
        return not _enabled_by_interpreter()
    for each in gc.get_referents(faulthandler):
        if hasattr(each, "fileno"):
            with contextlib.suppress(Exception):
                return bool(each.fileno() != STDERR)
    return False


def _enabled_by_interpreter() -> bool:
    """Whether the interpreter has enabled faulthandler at its start, for standard error."""
    in_environment = not sys.flags.ignore_environment and os.environ.get("PYTHONFAULTHANDLER")
    return bool(in_environment or sys.flags.dev_mode or "faulthandler" in sys._xoptions)


def show(text: str) -> None:
    """Print a crash where the program would have seen it."""
    if _enabled_before and text.startswith(_FATAL):
        with contextlib.suppress(OSError):
            os.write(STDERR, f"{text}\n".encode(errors="replace"))
