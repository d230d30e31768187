"""The names of `multiprocessing.dummy`: the standard library's, and garrison's pool of threads."""

from __future__ import annotations

import sys

from garrison import _standard
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from garrison.pool import ThreadPool

__all__: list[str] = []


def Pool(  # noqa: N802 - the standard name
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> ThreadPool:
    """Return a pool of threads."""
    from garrison.pool import ThreadPool

    return ThreadPool(processes, initializer, initargs)


def Manager() -> ModuleType:  # noqa: N802 - the standard name
    """Return this module, which has the functions of a manager."""
    return sys.modules[__name__]


if not TYPE_CHECKING:
    __getattr__, __dir__ = _standard.mirror(__name__, globals())
