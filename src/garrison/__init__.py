"""garrison: the multiprocessing that Python should have.

``import garrison as multiprocessing`` is the whole migration. The pool is garrison's own; what
garrison does not have yet (processes, locks, queues, managers) is the standard library's, under the
standard library's names, so that a program can move as it is.
"""

from __future__ import annotations

import multiprocessing as _multiprocessing
from typing import TYPE_CHECKING, Any

from garrison import errors, pool
from garrison._contexts import get_context, get_start_method, set_start_method
from garrison.errors import *  # noqa: F403 - its __all__ is this package's too
from garrison.options import Options
from garrison.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

__version__ = "0.1.0"

_OWN = ["Options", "Pool", "errors", "get_context", "get_start_method", "pool", "set_start_method"]
_STANDARD = [name for name in _multiprocessing.__all__ if name not in _OWN]

__all__: Sequence[str] = [*_OWN, *errors.__all__, *_STANDARD]  # type: ignore[assignment] # noqa: PLE0605


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the standard library has there
    """Find what is not garrison's own in the standard library, submodules included."""
    if name.startswith("__"):
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        return getattr(_multiprocessing, name)
    except AttributeError:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
