"""Engines: how one is chosen, and what it has to do."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from multiprocessing.process import parent_process
from typing import NamedTuple

from garrison._typing import Any
from garrison.errors import EngineUnavailable
from garrison.options import Options
from garrison.pool.backends import Backend, PickledBackend, Task, TaskBackend, run_message

__all__ = [
    "Backend",
    "Engine",
    "PickledBackend",
    "PoolSettings",
    "Task",
    "TaskBackend",
    "engine_of_program",
    "find_engine",
    "run_message",
]

VARIABLE = "GARRISON_ENGINE"


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
        The pool's options.
    seed : int
        What `Pool.seed` says: the seeds of the workers are derived from it, if they have any. If
        the program has chosen it, it is among the options too.
    """

    processes: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    maxtasksperchild: int | None
    options: Options
    seed: int


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
        EngineUnavailable
            If it is not there.
        """


# --- Choosing one ---------------------------------------------------------------------------------


class _Known(NamedTuple):
    """An engine that is loaded when it is chosen."""

    module: str
    kind: str
    package: str | None = None
    """What has to be installed; the extra has the engine's name."""


_LOCAL = {
    "serial": _Known("garrison.engines.serial", "Serial"),
    "threads": _Known("garrison.engines.threads", "Threads"),
    "interpreters": _Known("garrison.engines.interpreters", "Interpreters"),
}
_CLUSTERS = {
    "ray": _Known("garrison.engines.ray", "Ray", "ray"),
    "dask": _Known("garrison.engines.dask", "Dask", "distributed"),
}
_NAMES = {**_LOCAL, **_CLUSTERS}
_SCHEMES = {"ray": "ray", "tcp": "dask", "tls": "dask"}
"""The engines of addresses: each is made with the address."""
_EXECUTOR = _Known("garrison.engines.executor", "OverExecutor")
_OBJECTS = {
    "distributed.client.Client": _CLUSTERS["dask"],
    "distributed.deploy.cluster.Cluster": _CLUSTERS["dask"],
    "concurrent.futures._base.Executor": _EXECUTOR,
}
"""The engines of objects, by the object's class or a base of it: each is made with the object."""


def find_engine(chosen: Any) -> Engine:
    """Return the engine of a name, an address or an object; an `Engine` as it is.

    Parameters
    ----------
    chosen : str or object
        A name (``"serial"``), an address (``"tcp://scheduler:8786"``), a class of yours
        (``"module:Class"``), an `Engine`, or what an engine works with: a
        `concurrent.futures.Executor`, a `distributed.Client`.

    Raises
    ------
    ValueError, TypeError
        If there is no such engine; the message lists what there is.
    EngineUnavailable
        If a package is missing; the message names the extra to install.

    Examples
    --------
    >>> from garrison.engines import find_engine
    >>> find_engine("serial").name
    'serial'
    """
    if isinstance(chosen, Engine):
        return chosen
    if isinstance(chosen, str):
        return _of_text(chosen)
    for each in type(chosen).__mro__:
        known = _OBJECTS.get(f"{each.__module__}.{each.__qualname__}")
        if known is not None:
            return _made(known, chosen)
    raise TypeError(f"no engine works with {chosen!r}; there are {_choices()}")


def _of_text(text: str) -> Engine:
    scheme, slashes, _ = text.partition("://")
    if slashes and scheme in _SCHEMES:
        return _made(_CLUSTERS[_SCHEMES[scheme]], text)
    if text in _NAMES:
        return _made(_NAMES[text])
    module, colon, kind = text.partition(":")
    if colon and kind.isidentifier() and all(map(str.isidentifier, module.split("."))):
        return _made(_Known(module, kind))
    raise ValueError(f"there is no engine {text!r}; there are {_choices()}")


def _choices() -> str:
    names = ", ".join(["processes", *_NAMES])
    schemes = ", ".join(f"{scheme}://..." for scheme in _SCHEMES)
    return (
        f"{names}; addresses ({schemes}); a class of yours as 'module:Class'; and objects: "
        "a garrison.engines.Engine, a concurrent.futures.Executor, a distributed.Client or cluster"
    )


def _made(known: _Known, *target: Any) -> Engine:
    package = known.package
    if package is not None and importlib.util.find_spec(package) is None:
        extra = next(name for name, each in _CLUSTERS.items() if each == known)
        raise EngineUnavailable(
            f'the engine {extra!r} needs the package {package!r}: pip install "garrison[{extra}]"'
        )
    kind: Any = getattr(importlib.import_module(known.module), known.kind)
    made = kind(*target)
    if not isinstance(made, Engine):
        raise TypeError(f"{known.module}:{known.kind} is no garrison.engines.Engine: {made!r}")
    return made


def engine_of_program(environment: Mapping[str, str]) -> Any:
    """Return what ``GARRISON_ENGINE`` chooses for pools of this process; None for processes.

    A cluster is chosen for the program alone. In a worker, or in another process that the program
    has started, a pool that does not say has processes of its own machine: else each worker of a
    node would start, or enter, a cluster.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    chosen = environment.get(VARIABLE, "")
    if chosen in {"", "processes"} or (chosen not in _LOCAL and parent_process() is not None):
        return None
    try:
        return find_engine(chosen)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        raise ValueError(f"{VARIABLE}={chosen}: {error}") from error
