"""`Event`."""

from __future__ import annotations

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any
from garrison.memory import SharedBlock
from garrison.sync._slots import bind_methods, register_transfer

if TYPE_CHECKING:
    from multiprocessing import synchronize as _theirs
else:
    _theirs = _standard.load("synchronize")

__all__ = ["Event"]

SIZE = 4


class Event(Transferable, _theirs.Event):
    """A flag that processes wait for.

    As `multiprocessing.Event`. It is one word in shared memory, and setting it takes no lock. So a
    signal handler may set an event whose wait it interrupts, and no death leaves it half set.

    Examples
    --------
    >>> from garrison import Event
    >>> event = Event()
    >>> event.wait(0.01)
    False
    >>> event.set()
    >>> event.wait()
    True
    """

    __slots__ = ("_core", "clear", "is_set", "set", "wait")
    if TYPE_CHECKING:

        def is_set(self) -> bool:
            """Whether it is set."""

        def set(self) -> None:
            """Set it, and wake all waiters."""

        def clear(self) -> None:
            """Clear it: later waits block."""

        def wait(self, timeout: float | None = None) -> bool:
            """Wait until it is set, at most `timeout` seconds; return whether it is."""

    def __init__(self, *, ctx: Any = None) -> None:
        self._bind_to(SharedBlock(SIZE))

    def _bind_to(self, spot: SharedBlock) -> None:
        self._core = core = _core.Event(spot)
        bind_methods(
            self, Event, is_set=core.is_set, set=core.set, clear=core.clear, wait=core.wait
        )

    def __reduce__(self) -> tuple[Any, ...]:
        assert_transfer(self)
        return _rebuild, self._core.place

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} at {id(self):#x} {'set' if self.is_set() else 'unset'}>"


def _rebuild(spot: SharedBlock) -> Event:
    event = Event.__new__(Event)
    event._bind_to(spot)
    return event


register_transfer(_core.Event)
_standard.hide(Event, "it is one word in shared memory, without a lock")
