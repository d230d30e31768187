"""Engines: how one is chosen, and what it has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from garrison._typing import Any
from garrison.options import Options
from garrison.pool.backends import Backend, TaskBackend

__all__ = ["Backend", "Engine", "PoolSettings", "TaskBackend", "find_engine"]


class PoolSettings(NamedTuple):
    """What a pool asks of its engine.

    Parameters
    ----------
    processes : int or None
        Workers; None for as many as the engine has room for.
    initializer : callable or None
        Called as ``initializer(*initargs)`` in each worker before its first task.
    initargs : tuple
        Its arguments.
    maxtasksperchild : int or None
        Tasks after which a worker is replaced by a fresh one.
    options : Options
        The pool's options: its seed, for instance.
    """

    processes: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    maxtasksperchild: int | None
    options: Options


class Engine(ABC):
    """Runs the tasks of pools. One engine may serve several pools, one after the other."""

    name: str
    """As in ``Pool(engine=name)``."""

    @abstractmethod
    def backend(self, settings: PoolSettings) -> Backend:
        """Return a new backend, not started.

        Raises
        ------
        ValueError
            If a setting is one that this engine cannot have.
        """


def find_engine(chosen: str | Engine) -> Engine:
    """Return the engine of a name, an address, or as it is.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    if isinstance(chosen, Engine):
        return chosen
    raise ValueError(f"there is no engine {chosen!r}")
