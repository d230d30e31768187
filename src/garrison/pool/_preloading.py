"""What workers have imported before an initializer runs.

It may change the root or the user, and then nothing can be imported any more.
"""

from __future__ import annotations

import sys

__all__ = ["modules"]

_ALWAYS = (
    "cloudpickle",
    "fcntl",
    "garrison.pool._stdlib_names",
    "linecache",
    "multiprocessing.connection",
    "resource",
    "traceback",
)
_OF_SYNC = ("garrison.sync._introspection", "garrison.sync._queue_pickling", "queue")
"""Loaded by their names when something is waited for, or does not fit."""
_TRAVELLING = ("garrison.memory", "garrison.sync", "garrison.store", "garrison.manager")
"""Whose objects are sent; the pool's own side is nothing to a worker."""


def modules() -> tuple[str, ...]:
    """Return what a worker may need: for functions by value, and of garrison what is used here."""
    used = [name for name in sys.modules if name.startswith(_TRAVELLING)]
    late = _OF_SYNC if "garrison.sync" in used else ()
    return (*_ALWAYS, *used, *late)
