"""`Semaphore` and `BoundedSemaphore`."""

from __future__ import annotations

import errno
import operator

from garrison import _core, _standard
from garrison._pickling import Transferable, assert_transfer
from garrison._typing import TYPE_CHECKING, Any
from garrison.memory import SharedBlock
from garrison.sync._known_locks import register_for_holders
from garrison.sync._locks import KEPT, WITHOUT
from garrison.sync._slots import bind_methods, register_transfer

if TYPE_CHECKING:
    from multiprocessing import synchronize as _theirs
    from typing import TypeVar

    S = TypeVar("S", bound="Semaphore")
else:
    _theirs = _standard.load("synchronize")

__all__ = ["SEM_VALUE_MAX", "BoundedSemaphore", "Semaphore"]

SEM_VALUE_MAX = (1 << 31) - 1
"""The most permits of a semaphore, as in the standard library."""
MOST_SIGNED = 1 << 16
"""The most permits of a `BoundedSemaphore` whose holders are recorded."""
WORD = 4


class Semaphore(Transferable, _theirs.Semaphore):
    """A number of permits, which processes acquire and release.

    As `multiprocessing.Semaphore`: a process may release a permit that it has not acquired, so a
    semaphore may be used as a signal. Permits have no owner, and those of a dead process are lost;
    those of a `BoundedSemaphore` are returned.

    Parameters
    ----------
    value : int
        The initial number of permits, from 0 to 2147483647.

    Examples
    --------
    >>> from garrison import Semaphore
    >>> semaphore = Semaphore(2)
    >>> with semaphore:
    ...     semaphore.get_value()
    1
    """

    __slots__ = (
        "__enter__",
        "__exit__",
        "_semlock",
        "acquire",
        "get_value",
        "locked",
        "release",
    )
    if TYPE_CHECKING:

        def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
            """Acquire a permit.

            Parameters
            ----------
            block : bool
                Whether to wait.
            timeout : float, optional
                Seconds to wait at most; by default as long as it takes.

            Returns
            -------
            bool
                Whether it was acquired in time.
            """

        def release(self) -> None:
            """Give a permit back, or one more than there were.

            Raises
            ------
            NotHeld
                If a `BoundedSemaphore` would have more permits than at the beginning.
            """

        def get_value(self) -> int:
            """Return the number of free permits."""

        def locked(self) -> bool:
            """Whether no permit is free."""

        def __enter__(self) -> bool: ...
        def __exit__(self, *args: object) -> None: ...

    _is_fork_ctx = False
    _semlock: _core.Semaphore

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        permits = _permits(value)
        self._bind_to(SharedBlock(WORD), SEM_VALUE_MAX, 0, permits)

    def _bind_to(self, spot: SharedBlock, most: int, places: int, value: int | None = None) -> None:
        core = _core.Semaphore(spot, value, most, places)
        self._semlock = core
        bind_methods(
            self, Semaphore, acquire=core.acquire, release=core.release, locked=core.locked
        )
        bind_methods(self, Semaphore, __enter__=core.__enter__, __exit__=core.__exit__)
        bind_methods(self, Semaphore, get_value=core.get_value, locked=core.locked)

    @property
    def _location(self) -> tuple[SharedBlock, int, int]:
        spot, _, most, places = self._semlock.place
        return spot, most, places

    def __reduce__(self) -> tuple[Any, ...]:
        assert_transfer(self)
        return _rebuild, (type(self), *self._location)


class BoundedSemaphore(Semaphore, _theirs.BoundedSemaphore):
    """A semaphore that refuses more releases than acquisitions.

    As `multiprocessing.BoundedSemaphore`. A permit of a dead process is free again within 110 ms,
    if there are at most 65,536 in all. Not so once a process has released a permit of another
    process: then the permits have no owner, as those of a `Semaphore`.

    Parameters
    ----------
    value : int
        The number of permits, from 0 to 2147483647.

    Examples
    --------
    >>> from garrison import BoundedSemaphore
    >>> BoundedSemaphore(2).release()
    Traceback (most recent call last):
    garrison.errors.NotHeld: semaphore or lock released too many times
    """

    __slots__ = ()

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        permits = _permits(value)
        if 0 < permits <= MOST_SIGNED:
            self._bind_to(SharedBlock(WORD * (1 + permits)), 0, permits, 0)
            register_for_holders(self._semlock)
        else:
            self._bind_to(SharedBlock(WORD), permits, 0, permits)


def _rebuild(kind: type[S], *place: Any) -> S:
    semaphore = kind.__new__(kind)
    semaphore._bind_to(*place)
    if place[-1]:
        register_for_holders(semaphore._semlock)
    return semaphore


register_transfer(_core.Semaphore, register_for_holders)


def _permits(value: Any) -> int:
    try:
        permits = operator.index(value)
    except TypeError:
        msg = f"the value of a semaphore must be an int, not {value!r}"
        raise TypeError(msg) from None
    if not 0 <= permits <= SEM_VALUE_MAX:
        msg = f"the value of a semaphore must be from 0 to {SEM_VALUE_MAX}, not {permits}"
        # The errors of sem_open in the standard library, and of Python for a number that is no C
        # int.
        raise OSError(errno.EINVAL, msg) if permits < 0 else OverflowError(msg)
    return permits


for _each in (Semaphore, BoundedSemaphore):
    _standard.hide(_each, WITHOUT, KEPT)
del _each
