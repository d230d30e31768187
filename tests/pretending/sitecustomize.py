"""Makes this interpreter look like one of another system: ``PRETEND=darwin`` or ``win32``.

Python imports it at the start of each process whose path has this folder, so also in those that the
standard library starts. What the other system does not have is not there: the core, modules and
functions. What remains is Linux's: a pool of the standard library starts its workers.
"""

from __future__ import annotations

import importlib.abc
import os
import sys

PRETENDED = os.environ["PRETEND"]
NOT_ON_WINDOWS = ("fcntl", "grp", "pty", "pwd", "resource", "termios")
MISSING_CALLS = {
    "darwin": ("memfd_create", "pidfd_open", "sched_getaffinity", "sched_setaffinity"),
    "win32": (
        *("fork", "geteuid", "getuid", "memfd_create", "pidfd_open", "register_at_fork"),
        *("sched_getaffinity", "sched_setaffinity", "setsid", "sysconf", "uname", "waitid"),
    ),
}


class Missing(importlib.abc.MetaPathFinder):
    """Says that modules are not there."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raise ModuleNotFoundError for the missing ones."""
        if fullname in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def pretend() -> None:
    """Take away what the system does not have."""
    if PRETENDED == "win32":
        # These would load Windows' own modules later. As they are, they start processes afresh.
        import multiprocessing.pool
        import multiprocessing.shared_memory
        import multiprocessing.sharedctypes
        import multiprocessing.synchronize
        import subprocess  # noqa: F401

        multiprocessing.set_start_method("spawn")
        for name in NOT_ON_WINDOWS:
            sys.modules.pop(name, None)
        sys.meta_path.insert(0, Missing(*NOT_ON_WINDOWS, "garrison._core"))
    else:
        sys.meta_path.insert(0, Missing("garrison._core"))
    sys.platform = PRETENDED
    for call in MISSING_CALLS[PRETENDED]:
        if hasattr(os, call):
            delattr(os, call)


pretend()
