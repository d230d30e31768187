"""The file into which a worker writes its stack when it crashes, for `WorkerDied` and the user.

faulthandler writes into one file only. A program that has enabled it for a log of its own keeps its
log; what faulthandler would have shown on standard error, the supervisor shows there.
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
"""Has a worker write its stack."""

STDERR = 2
_FATAL = "Fatal Python error"
_enabled_before = False


def begin() -> None:
    """Note in a supervisor whether its workers would show crashes by themselves."""
    global _enabled_before  # noqa: PLW0603 - one per process
    _enabled_before = faulthandler.is_enabled()


def record_crashes(fd: int) -> None:
    """Have a worker's crash recorded, unless the program has a file of its own for it."""
    if not faulthandler.is_enabled() or (_enabled_before and not _has_own_file()):
        faulthandler.enable(file=fd, all_threads=False)


def _has_own_file() -> bool:
    """Whether faulthandler writes into another file than standard error.

    Only a file object is known. With a mere number it counts as standard error. CPython 3.14 no
    longer shows the object: what the program has enabled by a call counts as its own file there.
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
    """Show a crash where the program would have seen it."""
    if _enabled_before and text.startswith(_FATAL):
        with contextlib.suppress(OSError):
            os.write(STDERR, f"{text}\n".encode(errors="replace"))
