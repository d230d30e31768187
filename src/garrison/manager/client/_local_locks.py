"""Locks of a manager for the processes of its machine: in shared memory, proxies to programs.

They are taken as the standard library's proxies of locks of `threading` are, with the same names of
arguments, and are pickled at any time as those are.
"""

from __future__ import annotations

import contextlib

from garrison import sync
from garrison._pickling import register
from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, ClassVar
from garrison.manager.client import _standard_proxies as proxies
from garrison.manager.client._as_proxy import AsProxy
from garrison.memory._handles import _reduce
from garrison.sync._graph import remember
from garrison.sync._locks import Mutex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NearBarrier", "NearBoundedSemaphore", "NearCondition", "NearEvent", "NearLock"]
__all__ += ["NearRLock", "NearSemaphore"]

FOREVER = -1
"""A timeout that is none, as for `threading.Lock`."""


class _Near(AsProxy):
    """What they have in common.

    Their methods are of this object, not of the core's: they are pickled at any time as well.
    """

    __slots__ = ()
    _PROXY: ClassVar[str]
    _place: Any
    _settle: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        register(cls, cls.__reduce__)

    @property
    def _id(self) -> str:
        spot = self._parts()[0]
        return f"{spot.chunk[0][1]:x}{spot.offset:08x}"

    @property
    def _typeid(self) -> str:
        return type(self).__name__.removeprefix("Near")

    def _parts(self) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = self._place
        return parts

    def __reduce__(self) -> tuple[Any, ...]:
        spot, *rest = self._parts()
        return _arrived, (type(self), _reduce(spot), *rest)

    def __repr__(self) -> str:
        token = self._token
        return f"<{self._PROXY} object, typeid {token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        return super().__repr__().replace("<Near", "<")


def _arrived(kind: Any, handle: Any, *rest: Any) -> Any:
    make, arguments = handle
    near = kind.__new__(kind)
    near._settle(make(*arguments), *rest)
    if kind is NearBoundedSemaphore and rest[-1]:
        remember(near._semlock)
    return near


@contextlib.contextmanager
def _held(operation: str) -> Iterator[None]:
    """Have whoever does not hold the lock told in the words of `threading`."""
    try:
        yield
    except AssertionError:
        raise RuntimeError(f"cannot {operation} un-acquired lock") from None


class _Acquirer(_Near):
    __slots__ = ()
    _PROXY = "AcquirerProxy"
    _take: Callable[..., bool]
    _give: Callable[[], None]

    def acquire(
        self, blocking: bool = True, timeout: float | None = None, *, block: bool = True
    ) -> bool:
        """Take it; return whether it was had in time.

        Parameters
        ----------
        blocking, block : bool
            Whether to wait.
        timeout : float, optional
            Seconds to wait at most; -1 is no limit.

        Raises
        ------
        ValueError
            If there is a timeout and no wait, or it is negative.
        """
        waits = bool(blocking and block)
        if timeout is None or (waits and timeout == FOREVER):
            return self._take(waits)
        if not waits:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout < 0:
            raise ValueError("timeout value must be a non-negative number")
        return self._take(True, timeout)

    def release(self) -> None:
        """Give it back."""
        self._give()


class NearLock(_Acquirer, sync.Lock, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """A lock; any process and thread may release it."""

    __slots__ = ()
    _take = vars(Mutex)["acquire"]
    _give = vars(Mutex)["release"]


class NearRLock(_Acquirer, sync.RLock, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """A lock that its owner, a thread, may take again."""

    __slots__ = ()
    _take = vars(Mutex)["acquire"]
    _give = vars(Mutex)["release"]

    def release(self) -> None:
        """Give it back."""
        with _held("release"):
            self._give()


class NearSemaphore(_Acquirer, sync.Semaphore, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """Permits."""

    __slots__ = ()
    _take = vars(sync.Semaphore)["acquire"]
    _give = vars(sync.Semaphore)["release"]


class NearBoundedSemaphore(_Acquirer, sync.BoundedSemaphore, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """Permits of which no more can be given back than were taken."""

    __slots__ = ()
    _take = vars(sync.Semaphore)["acquire"]
    _give = vars(sync.Semaphore)["release"]


class NearCondition(_Near, sync.Condition, managers.ConditionProxy):
    """A lock with a place to wait for a change."""

    __slots__ = ()
    _PROXY = "ConditionProxy"

    def __init__(self, lock: Any = None) -> None:
        super().__init__(NearRLock(on_abandon="ignore") if lock is None else lock)

    _wait: Any = vars(sync.Condition)["wait"]
    _wake: Any = vars(sync.Condition)["notify"]
    _wake_all: Any = vars(sync.Condition)["notify_all"]

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock up until somebody notifies; return whether somebody did."""
        with _held("wait on"):
            return bool(self._wait(timeout))

    def notify(self, n: int = 1) -> None:
        """Let `n` of those who wait go on."""
        with _held("notify on"):
            self._wake(n)

    def notify_all(self) -> None:
        """Let all who wait go on."""
        with _held("notify on"):
            self._wake_all()

    def _parts(self) -> tuple[Any, ...]:
        return self._spot, self._lock


class NearEvent(_Near, sync.Event, managers.EventProxy):
    """A flag."""

    __slots__ = ()
    _PROXY = "EventProxy"
    _is_set: Any = vars(sync.Event)["is_set"]
    _set: Any = vars(sync.Event)["set"]
    _clear: Any = vars(sync.Event)["clear"]
    _wait: Any = vars(sync.Event)["wait"]

    def is_set(self) -> bool:
        """Whether it is set."""
        return bool(self._is_set())

    def set(self) -> None:
        """Set it, for all who wait and who will."""
        self._set()

    def clear(self) -> None:
        """Have those who wait from now on wait."""
        self._clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return whether it is."""
        return bool(self._wait(timeout))

    def _parts(self) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = self._core.place
        return parts


class NearBarrier(_Near, sync.Barrier, managers.BarrierProxy):
    """A point that a number of parties pass together."""

    __slots__ = ()
    _PROXY = "BarrierProxy"

    def _parts(self) -> tuple[Any, ...]:
        return self._spot, self._parties, self._action, self._timeout


for _kind in (NearLock, NearRLock, NearSemaphore, NearBoundedSemaphore):
    proxies.AcquirerProxy.register(_kind)
proxies.ConditionProxy.register(NearCondition)
proxies.EventProxy.register(NearEvent)
proxies.BarrierProxy.register(NearBarrier)
del _kind
