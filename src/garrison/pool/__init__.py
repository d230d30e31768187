"""The pool: `Pool`, `ThreadPool`, what their methods return, and the standard library's names."""

from garrison import _standard as _library
from garrison.pool._imap import IMapIterator, IMapUnorderedIterator
from garrison.pool._pool import Pool, Statistics
from garrison.pool._results import AsyncResult, MapResult
from garrison.pool._standard import (
    CLOSE,
    RUN,
    TERMINATE,
    ExceptionWithTraceback,
    MaybeEncodingError,
    RemoteTraceback,
    mapstar,
    starmapstar,
)
from garrison.pool._threads import ThreadPool

ApplyResult = AsyncResult

for _public in (AsyncResult, IMapIterator, IMapUnorderedIterator, MapResult, Pool, Statistics):
    _public.__module__ = __name__
ThreadPool.__module__ = __name__

__all__ = [
    "CLOSE",
    "RUN",
    "TERMINATE",
    "ApplyResult",
    "AsyncResult",
    "ExceptionWithTraceback",
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

__getattr__, __dir__ = _library.mirror(__name__, globals())
