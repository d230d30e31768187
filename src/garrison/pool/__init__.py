"""Pools: `Pool`, `ThreadPool`, their results, and the standard library's names.

Each is loaded at its first use: workers do not need the parent's side.
"""

from __future__ import annotations

from garrison import _standard as _library
from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.pool._failure import Failure
    from garrison.pool._imap import IMapIterator, IMapUnorderedIterator
    from garrison.pool._map_results import MapResult
    from garrison.pool._pool import Pool
    from garrison.pool._results import ApplyResult, AsyncResult
    from garrison.pool._statistics import Statistics
    from garrison.pool._stdlib_names import (
        CLOSE,
        RUN,
        TERMINATE,
        ExceptionWithTraceback,
        MaybeEncodingError,
        RemoteTraceback,
        mapstar,
        starmapstar,
    )
    from garrison.pool._thread_pool import ThreadPool

__all__ = [
    "CLOSE",
    "RUN",
    "TERMINATE",
    "ApplyResult",
    "AsyncResult",
    "ExceptionWithTraceback",
    "Failure",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "RemoteTraceback",
    "Statistics",
    "ThreadPool",
    "mapstar",
    "starmapstar",
]

_HOMES = {
    "_failure": ("Failure",),
    "_imap": ("IMapIterator", "IMapUnorderedIterator"),
    "_pool": ("Pool",),
    "_map_results": ("MapResult",),
    "_results": ("ApplyResult", "AsyncResult"),
    "_statistics": ("Statistics",),
    "_stdlib_names": (
        "CLOSE",
        "RUN",
        "TERMINATE",
        "ExceptionWithTraceback",
        "MaybeEncodingError",
        "RemoteTraceback",
        "mapstar",
        "starmapstar",
    ),
    "_thread_pool": ("ThreadPool",),
}
_load, _own_names = lazily(__name__, globals(), _HOMES)
_load_standard, _standard_names = _library.mirror(__name__, globals(), complete=True)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load what is first used now."""
        try:
            return _load(name)
        except AttributeError:
            return _load_standard(name)

    def __dir__() -> list[str]:
        return sorted({*_own_names(), *_standard_names()})


del TYPE_CHECKING
