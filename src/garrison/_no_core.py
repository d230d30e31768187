"""What stands in for the core where it cannot be: on Windows, macOS and other systems.

Some modules import the core for a part of what they do. With a stand-in they can be loaded, and
what they do without the core works: so a pool of threads is garrison's own everywhere.
"""

from __future__ import annotations

import sys
from types import ModuleType

from garrison._typing import Any
from garrison.errors import NeedsLinux

__all__ = ["StandIn", "absent", "missing", "needs_linux", "without_gil"]


def missing() -> ImportError:
    """Return the error of an installation on Linux whose core is for another Python, or gone."""
    python = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        python += ", free-threaded"
    return ImportError(
        f"garrison is installed without its core for this Python ({python}): "
        "pip install --force-reinstall --no-deps garrison (in a checkout: pip install .)"
    )


def without_gil() -> ImportError:
    """Return the error of a free-threaded Python that was told to do without its lock."""
    return ImportError(
        "garrison's core relies on the global interpreter lock, which was switched off: leave out "
        "-X gil=0 and PYTHON_GIL=0. A free-threaded Python then switches it on with the core, and "
        "says so; tasks in processes run in parallel as ever"
    )


def needs_linux(what: str) -> NeedsLinux:
    """Return the error that is raised where `what` is used."""
    return NeedsLinux(
        f"{what} needs garrison's core, which is there on Linux only, and this is {sys.platform}: "
        "ask garrison.NATIVE before it is used, or run on Linux (on Windows: in WSL)"
    )


class _Absent:
    def __new__(cls, *_: Any, **__: Any) -> Any:
        raise needs_linux(f"{cls.__module__}.{cls.__qualname__}")


def absent(module: str, name: str) -> type:
    """Return a class in the place of a class or function that needs the core.

    It is good for annotations and for `isinstance`. A call raises `NeedsLinux`.
    """
    return type(name, (_Absent,), {"__module__": module, "__slots__": ()})


class _Rules:
    """Rules of pickling, of which modules make some while they are loaded."""

    def __init__(self, *_: Any) -> None: ...


class StandIn(ModuleType):
    """The module ``garrison._core`` where there is no core."""

    Rules: Any = _Rules

    def __getattr__(self, name: str) -> Any:
        """Make a class that refuses to be called; for a constant, a number of its own."""
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = -len(vars(self)) if name.isupper() else absent("garrison", name)
        setattr(self, name, value)
        return value
