"""What driver and node say to each other.

A message to a node has functions, tasks and what to forget; a message from it has results. All are
pickles of tuples of plain values. Pickles of the user's objects are bytes in them: neither the
agent nor its pool's parent unpickles one, only workers and the driver do.

Nothing here is authenticated by garrison: the cluster carries the messages, and whoever may submit
work to the cluster may run any code on it anyway.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
from typing import NamedTuple

from garrison import _os
from garrison._typing import Any
from garrison.errors import EngineMismatch

__all__ = [
    "BLOB",
    "BROKEN",
    "ITEMS",
    "LOST",
    "MISSING",
    "OPENED",
    "RAW",
    "READY",
    "RESULTS",
    "RETURNED",
    "TASKS",
    "UNLOADED",
    "VALUE",
    "Batch",
    "Pickled",
    "Setup",
    "about",
    "check_versions",
]

TASKS, BLOB = b"T", b"B"
"""First byte of what the agent sends: a `Batch`, or number and address of a blob."""
OPENED = b"O"
"""First byte of what its pool answers to a blob, before the number: it has the memory now."""
READY, RESULTS, RETURNED, BROKEN, MISSING = range(5)
"""Kinds of messages from a node: it has started, to its agent only; results of tasks, with how many
workers have died so far; numbers of tasks that it gives back;
the error that ends it all; and the number of a blob for which there was no memory."""
VALUE, RAW, ITEMS, LOST, UNLOADED = range(5)
"""Kinds of results: a plain value; an encoded result; several items; a task whose worker ended; the
encoded error of a chunk that no worker could load: none of its items was begun."""


class Setup(NamedTuple):
    """What a node's pool is like.

    Parameters
    ----------
    versions : dict
        Those of the driver: see `about`.
    path : list of str
        The driver's `sys.path`: modules beside its script are found on a machine that has them.
    folder : str
        The driver's working directory, where it is on a node.
    initializer : bytes or None
        The pickled initializer and its arguments.
    maxtasks : int or None
        Tasks after which a worker is replaced.
    seed : int
        The pool's seed.
    seeded : bool
        Whether the program chose it.
    """

    versions: dict[str, Any]
    path: list[str]
    folder: str
    initializer: bytes | None
    maxtasks: int | None
    seed: int
    seeded: bool

    def dumps(self) -> bytes:
        """Return it as bytes."""
        return pickle.dumps(tuple(self))

    @classmethod
    def loads(cls, data: bytes) -> Setup:
        """Return it again."""
        return cls(*pickle.loads(data))  # noqa: S301 - written by the driver


class Batch(NamedTuple):
    """A message to a node.

    Parameters
    ----------
    functions : list of (int, bytes)
        Functions that it does not have, by number.
    tasks : list of tuple
        Number, function, kind, pickle or pickles, buffers, items, timeout (seconds).
    forget : list of int
        Functions that will not be used again.
    drop : list of int
        Blobs that will not be used again.
    recall : int
        Tasks to give back, if so many were not begun.
    linger : float
        Seconds to gather results while more tasks wait than there are workers.
    cancel : list of (int, float)
        Tasks to end, each with its grace in seconds.
    """

    functions: list[tuple[int, bytes]]
    tasks: list[tuple[Any, ...]]
    forget: list[int]
    drop: list[int]
    recall: int
    linger: float
    cancel: list[tuple[int, float]]


class Pickled(tuple[bool, bytes]):
    """The result of an item that is no plain value: success, and the pickle of it or the error."""

    __slots__ = ()

    def __new__(cls, succeeded: bool, data: bytes) -> Pickled:
        """Make one."""
        return super().__new__(cls, (succeeded, data))

    def __reduce__(self) -> Any:
        return Pickled, tuple(self)


def about() -> dict[str, Any]:
    """Return what driver and node must agree on, and where this is."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.cache_tag,
        "garrison": vars(sys.modules["garrison"])["__version__"],
        "host": platform.node(),
        "pid": os.getpid(),
        "cpus": _os.usable_cpus(),
    }


def check_versions(driver: dict[str, Any], node: dict[str, Any], name: str) -> None:
    """Raise if a node cannot run what the driver sends.

    By-value functions are bytecode, which another minor version of Python does not understand.

    Raises
    ------
    EngineMismatch
        With both versions.
    """
    for what, shown in (("implementation", "python"), ("garrison", "garrison")):
        if driver.get(what) != node.get(what):
            here, there = driver.get(shown), node.get(shown)
            raise EngineMismatch(
                f"node {name} has {shown} {there}, and this program {shown} {here}: "
                "install the same version on both"
            )
