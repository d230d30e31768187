"""Objects that only a transfer to another process may pickle.

A lock, a queue or a shared value is pickled as a handle, which is valid only while its object
lives. So handles are made by the picklers of transfers alone: garrison's own, and the standard
library's (`Process.start`, `Connection.send`, queues), which share `ForkingPickler`'s table.
`pickle.dumps` of such an object raises RuntimeError, as in the standard library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler

from garrison._typing import Any

__all__ = ["Transferable", "assert_transfer", "reduce_for_transfer", "register", "transferring"]

Reduced = Any
"""A result of `__reduce__`."""


class _State(threading.local):
    depth = 0


_state = _State()


def register(cls: type, reduce: Callable[[Any], Reduced] | None = None) -> None:
    """Register how objects of exactly this class are pickled for another process.

    Parameters
    ----------
    cls
        The class. Its subclasses need a registration of their own: see `Transferable`.
    reduce
        Called with the object; returns a result of ``__reduce__``. By default the object's own
        ``__reduce_ex__`` is called, in which `assert_transfer` passes.
    """
    ForkingPickler.register(cls, reduce or reduce_for_transfer)


def reduce_for_transfer(obj: Any) -> Reduced:
    """Return the result of the object's own ``__reduce_ex__``, as in a transfer."""
    _state.depth += 1
    try:
        return obj.__reduce_ex__(4)
    finally:
        _state.depth -= 1


def transferring() -> bool:
    """Whether the present call pickles an object for another process."""
    return _state.depth > 0 or context.get_spawning_popen() is not None


def assert_transfer(obj: object) -> None:
    """Raise unless the object is pickled for a transfer.

    Raises
    ------
    RuntimeError
        With the standard library's text.
    """
    if not transferring():
        raise RuntimeError(
            f"{type(obj).__name__} objects should only be shared between processes "
            "through inheritance"
        )


class Transferable:
    """Mixin: every subclass is registered with its own ``__reduce__`` or ``__getstate__``.

    These call `assert_transfer` first. A user's subclass may extend them, as with the standard
    library's classes.
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwds: Any) -> None:
        super().__init_subclass__(**kwds)
        register(cls)
