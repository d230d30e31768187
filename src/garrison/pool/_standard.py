"""Names of `multiprocessing.pool` that programs import, and that type stubs leave out."""

from __future__ import annotations

from typing import Any

from garrison import _standard

_pool: Any = _standard.load("pool")

CLOSE: str = _pool.CLOSE
RUN: str = _pool.RUN
TERMINATE: str = _pool.TERMINATE
MaybeEncodingError: type[Exception] = _pool.MaybeEncodingError
RemoteTraceback: type[Exception] = _pool.RemoteTraceback
ExceptionWithTraceback: Any = _pool.ExceptionWithTraceback
mapstar: Any = _pool.mapstar
starmapstar: Any = _pool.starmapstar
