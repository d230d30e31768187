"""Put garrison's pool classes where CPython's tests look for multiprocessing's."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import multiprocessing.dummy
import multiprocessing.managers
import multiprocessing.pool
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("Pool", "ThreadPool", "AsyncResult", "MaybeEncodingError", "RemoteTraceback", "RUN")


def install(module: str, evidence: Path) -> None:
    """Let `module`'s pools stand in; write a line to `evidence` for each pool that is made.

    With ``multiprocessing`` as `module`, only the lines are written.
    """
    own = {multiprocessing.pool.Pool, multiprocessing.pool.ThreadPool}
    source: Any = importlib.import_module(f"{module}.pool")
    for cls in own | {source.Pool, source.ThreadPool}:
        _record(cls, evidence)
    if module == "multiprocessing":
        return
    target: Any = multiprocessing
    for name in NAMES:
        if hasattr(source, name):
            setattr(target.pool, name, getattr(source, name))
    target.Pool = importlib.import_module(module).Pool
    target.dummy.Pool = source.ThreadPool
    manager = target.managers.SyncManager
    manager.register("Pool", source.Pool, target.managers.PoolProxy)


def _record(cls: Any, evidence: Path) -> None:
    cls.__init__ = _recorded(cls, cls.__init__, evidence)


def _recorded(cls: type, init: Callable[..., None], evidence: Path) -> Callable[..., None]:
    @functools.wraps(init)
    def recorded(self: Any, *args: Any, **options: Any) -> None:
        if type(self) is cls:
            with evidence.open("a", encoding="ascii") as file:
                file.write(f"{cls.__module__}.{cls.__qualname__}\n")
        init(self, *args, **options)

    return recorded
