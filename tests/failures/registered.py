"""Managers of either module with classes of our own, importable by spawned processes as well."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import time
from typing import Any

from .subject import Subject

PREFIX = "Manager_of_"


class Tally:
    """Counts, and fails as told."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self, number: int = 1) -> int:
        """Count."""
        self.count += number
        return self.count

    def give(self, value: Any) -> Any:
        """Return what was given."""
        return value

    def fail_oddly(self) -> None:
        """Raise what cannot be rebuilt from its pickle."""
        raise Odd("seventeen", "eighteen")

    def sleep(self, seconds: float) -> None:
        """Take a while."""
        time.sleep(seconds)

    def die(self) -> None:
        """End the server in the middle of a call."""
        os.kill(os.getpid(), signal.SIGKILL)


class Odd(Exception):
    """Pickles well, and cannot be rebuilt."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Shelf:
    """Holds whatever it is given."""

    def __init__(self) -> None:
        self.things: list[Any] = []

    def put(self, thing: Any) -> None:
        """Keep something."""
        self.things.append(thing)


@functools.cache
def _made(module: str) -> Any:
    base = importlib.import_module(f"{module}.managers").BaseManager
    made = type(f"{PREFIX}{module}", (base,), {"__module__": __name__})
    made.register("Tally", Tally)  # type: ignore[attr-defined]
    made.register("Shelf", Shelf)  # type: ignore[attr-defined]
    return made


def __getattr__(name: str) -> Any:
    if not name.startswith(PREFIX):
        raise AttributeError(name)
    return _made(name.removeprefix(PREFIX))


def manager(subject: Subject, *args: Any, **options: Any) -> Any:
    """A manager of the module under test with `Tally` and `Shelf`, not started yet."""
    context = subject.module.get_context(subject.method)
    return _made(subject.name)(*args, ctx=context, **options)
