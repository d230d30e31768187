"""Put garrison's classes where CPython's tests look for multiprocessing's."""

from __future__ import annotations

import functools
import importlib
import inspect
import multiprocessing
import multiprocessing.dummy
import multiprocessing.managers
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .parts import PARTS

current_class = "-"
"""The test class at work, for which objects are made."""


def install(module: str, part: str, evidence: Path) -> None:
    """Let `module`'s classes stand in; write a line to `evidence` for each object that is made.

    With ``multiprocessing`` as `module`, only the lines are written.
    """
    _stand_in(module, part, evidence)
    if "pool" in PARTS[part].faces and module != "multiprocessing":
        source: Any = importlib.import_module(f"{module}.pool")
        dummy: Any = multiprocessing.dummy
        dummy.Pool = source.ThreadPool
    if "shared_memory" in PARTS[part].faces and module != "multiprocessing":
        # The tests choose names by putting a function of theirs in this one's place.
        named: Any = importlib.import_module("multiprocessing.shared_memory")
        blocks: Any = importlib.import_module(f"{module}.memory.shared_memory")
        blocks._make_filename = lambda: named._make_filename()  # noqa: PLW0108 - looked up late


def _stand_in(module: str, part: str, evidence: Path) -> None:
    classes: set[Any] = set()
    for target, name, ours, theirs in list(_places(module, part)):
        if ours is theirs and module != "multiprocessing":
            continue  # the package's own name for what is still the standard library's
        stands_in = ours
        if inspect.isclass(ours):
            classes |= {each for each in (ours, theirs) if inspect.isclass(each)}
        elif callable(ours):
            stands_in = _noted(ours, evidence)
        setattr(target, name, stands_in)
    for cls in classes:
        if not issubclass(cls, BaseException):
            cls.__init__ = _recorded(cls, cls.__init__, evidence)


def _places(module: str, part: str) -> Iterator[tuple[Any, str, Any, Any]]:
    """Yield where a name is looked for, the name, what stands in, and what stood there."""
    source: Any = importlib.import_module(module)
    target: Any = multiprocessing
    for submodule, names in PARTS[part].faces.items():
        if submodule:
            importlib.import_module(f"multiprocessing.{submodule}")
        there: Any = getattr(target, submodule) if submodule else target
        here: Any = getattr(source, submodule) if submodule else source
        for name in names:
            if hasattr(here, name):
                yield there, name, getattr(here, name), getattr(there, name)


def _note(kind: type, evidence: Path) -> None:
    with evidence.open("a", encoding="ascii") as file:
        file.write(f"{current_class} {kind.__module__}.{kind.__qualname__}\n")


def _noted(function: Callable[..., Any], evidence: Path) -> Callable[..., Any]:
    """Note what a function makes: a value, or a pair such as that of a pipe."""

    @functools.wraps(function)
    def noted(*args: Any, **options: Any) -> Any:
        made = function(*args, **options)
        _note(type(made[0] if type(made) is tuple else made), evidence)
        return made

    return noted


def _recorded(cls: type, init: Callable[..., None], evidence: Path) -> Callable[..., None]:
    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **options: Any) -> None:
        if type(self) is cls:
            _note(cls, evidence)
        init(self, *args, **options)

    return recorded
