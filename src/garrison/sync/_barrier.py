"""`Barrier`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from threading import BrokenBarrierError

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any
from garrison.memory import SharedBlock

if TYPE_CHECKING:
    from multiprocessing import synchronize as _theirs
else:
    _theirs = _standard.load("synchronize")

__all__ = ["Barrier", "BrokenBarrierError"]

WORD = 8
MOST = 1 << 16


class Barrier(Transferable, _theirs.Barrier):
    """A point that a number of processes pass together.

    As `multiprocessing.Barrier`. If a process dies while it waits at the barrier, the barrier
    breaks for the others within 110 ms, as it does after a timeout.

    Parameters
    ----------
    parties : int
        The number of parties, from 1 to 65,536.
    action : callable, optional
        Called without arguments by the last party to arrive, before any of them passes.
    timeout : float, optional
        The default timeout of `wait`; a timeout breaks the barrier.

    Examples
    --------
    >>> from garrison import Barrier
    >>> barrier = Barrier(1)
    >>> barrier.wait()
    0
    """

    __slots__ = ("_action", "_core", "_parties", "_spot", "_timeout")

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        number = _number(parties)
        if action is not None and not callable(action):
            msg = f"the action of a Barrier must be callable, not {action!r}"
            raise TypeError(msg)
        self._bind_to(SharedBlock(WORD * (1 + number)), number, action, timeout)

    def _bind_to(
        self,
        spot: SharedBlock,
        parties: int,
        action: Callable[[], object] | None,
        timeout: float | None,
    ) -> None:
        self._spot, self._parties, self._action, self._timeout = spot, parties, action, timeout
        self._core = _core.Barrier(spot, parties)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others; return this party's index, from 0 to ``parties - 1``.

        Raises
        ------
        threading.BrokenBarrierError
            If a party timed out, died, was interrupted in the action, or called `abort` or
            `reset`.
        """
        number = self._core.wait(self._timeout if timeout is None else timeout, self._action)
        if number is None:
            msg = "the barrier is broken: a party timed out, died or left; reset() repairs it"
            raise BrokenBarrierError(msg)
        return number

    def reset(self) -> None:
        """Repair and empty it; present waiters raise `BrokenBarrierError`."""
        self._core.reset()

    def abort(self) -> None:
        """Break it, until `reset`."""
        self._core.abort()

    @property
    def parties(self) -> int:
        """The number of parties."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """The number of parties that have arrived."""
        return self._core.n_waiting

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return self._core.broken

    @property
    def _state(self) -> int:
        return -2 if self.broken else 0

    @property
    def _count(self) -> int:
        return self.n_waiting

    def __reduce__(self) -> tuple[Any, ...]:
        assert_transfer(self)
        return _rebuild, (self._spot, self._parties, self._action, self._timeout)

    def __repr__(self) -> str:
        state = "broken" if self.broken else f"{self.n_waiting} of {self.parties} waiting"
        return f"<Barrier {state}>"


def _rebuild(*parts: Any) -> Barrier:
    barrier = Barrier.__new__(Barrier)
    barrier._bind_to(*parts)
    return barrier


def _number(parties: Any) -> int:
    try:
        number = operator.index(parties)
    except TypeError:
        msg = f"the parties of a Barrier must be an int, not {parties!r}"
        raise TypeError(msg) from None
    if not 0 < number <= MOST:
        msg = f"a Barrier is for 1 to {MOST} parties, not {number}"
        raise ValueError(msg)
    return number


_standard.hide(Barrier, "its words lie in shared memory, without a condition")
