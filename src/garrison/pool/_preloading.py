"""Modules that workers import before an initializer runs.

The initializer may change the root directory or the user, and then imports may fail.
"""

from __future__ import annotations

import sys

__all__ = ["modules"]

_ALWAYS = (
    "cloudpickle",
    "fcntl",
    "garrison.pool._facts",
    "garrison.pool._safe_repr",
    "garrison.pool._stdlib_names",
    "linecache",
    "multiprocessing.connection",
    "resource",
    "traceback",
)
_OF_SYNC = ("garrison.sync._introspection", "garrison.sync._queue_pickling", "queue")
"""Modules that the core loads when a wait is long, or an item does not fit."""
_OF_ARGUMENTS = ("garrison.memory", "garrison.sync", "garrison.store", "garrison.manager")
"""Packages whose objects tasks receive."""


def modules() -> tuple[str, ...]:
    """Return the modules for functions by value, and those of garrison that this process uses."""
    used = [name for name in sys.modules if name.startswith(_OF_ARGUMENTS)]
    late = _OF_SYNC if "garrison.sync" in used else ()
    return (*_ALWAYS, *used, *late)
