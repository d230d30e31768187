"""Locks of a manager for the processes of its machine: in shared memory, with a proxy's methods.

Their methods have the arguments of the standard library's proxies, and like those they can be
pickled at any time.
"""

from __future__ import annotations

import contextlib

from garrison import sync
from garrison._pickling import register
from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any, ClassVar
from garrison.manager.client import _standard_proxies as proxies
from garrison.manager.client._proxy_attributes import ProxyAttributes
from garrison.memory.handles import reduce_block
from garrison.sync import LockBase, register_for_holders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LocalBarrier", "LocalBoundedSemaphore", "LocalCondition", "LocalEvent", "LocalLock"]
__all__ += ["LocalRLock", "LocalSemaphore"]

FOREVER = -1
"""A timeout that is none, as for `threading.Lock`."""


class _LocalProxy(ProxyAttributes):
    """What these locks have in common.

    Bound methods belong to this object, not to one of the core, so that they can be pickled.
    """

    __slots__ = ()
    _PROXY: ClassVar[str]
    """The name of the standard library's proxy type."""
    _TYPEID: ClassVar[str]
    """The name of the type for a manager: "Lock", "Event" ..."""
    _location: Any
    _bind_to: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        register(cls, cls.__reduce__)

    @property
    def _id(self) -> str:
        spot = self._parts()[0]
        return f"{spot.chunk[0][1]:x}{spot.offset:08x}"

    @property
    def _typeid(self) -> str:
        return self._TYPEID

    def _parts(self) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = self._location
        return parts

    def __reduce__(self) -> tuple[Any, ...]:
        spot, *rest = self._parts()
        return _rebuild, (type(self), reduce_block(spot), *rest)

    def __repr__(self) -> str:
        token = self._token
        return f"<{self._PROXY} object, typeid {token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        return super().__repr__().replace("<Local", "<")


def _rebuild(kind: Any, handle: Any, *rest: Any) -> Any:
    make, arguments = handle
    near = kind.__new__(kind)
    near._bind_to(make(*arguments), *rest)
    if kind is LocalBoundedSemaphore and rest[-1]:
        register_for_holders(near._semlock)
    return near


@contextlib.contextmanager
def _as_threading_errors(operation: str) -> Iterator[None]:
    """Raise the error of `threading` where the caller does not hold the lock."""
    try:
        yield
    except AssertionError:
        raise RuntimeError(f"cannot {operation} un-acquired lock") from None


class _Acquirer(_LocalProxy):
    """What is acquired and released."""

    __slots__ = ()
    _PROXY = "AcquirerProxy"
    _take: Callable[..., bool]
    _give: Callable[[], None]

    def acquire(
        self, blocking: bool = True, timeout: float | None = None, *, block: bool = True
    ) -> bool:
        """Acquire it; return whether that was possible in time.

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
        """Release it."""
        self._give()


class LocalLock(_Acquirer, sync.Lock, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """A lock; any process and thread may release it."""

    __slots__ = ()
    _TYPEID = "Lock"
    _take = vars(LockBase)["acquire"]
    _give = vars(LockBase)["release"]


class LocalRLock(_Acquirer, sync.RLock, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """A lock that its owner, a thread, may acquire again."""

    __slots__ = ()
    _TYPEID = "RLock"
    _take = vars(LockBase)["acquire"]
    _give = vars(LockBase)["release"]

    def release(self) -> None:
        """Release it."""
        with _as_threading_errors("release"):
            self._give()


class LocalSemaphore(_Acquirer, sync.Semaphore, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """A semaphore."""

    __slots__ = ()
    _TYPEID = "Semaphore"
    _take = vars(sync.Semaphore)["acquire"]
    _give = vars(sync.Semaphore)["release"]


class LocalBoundedSemaphore(_Acquirer, sync.BoundedSemaphore, managers.AcquirerProxy):  # type: ignore[misc] # of threading
    """A semaphore that refuses more releases than acquisitions."""

    __slots__ = ()
    _TYPEID = "BoundedSemaphore"
    _take = vars(sync.Semaphore)["acquire"]
    _give = vars(sync.Semaphore)["release"]


class LocalCondition(_LocalProxy, sync.Condition, managers.ConditionProxy):
    """A condition."""

    __slots__ = ()
    _PROXY = "ConditionProxy"
    _TYPEID = "Condition"

    def __init__(self, lock: Any = None) -> None:
        super().__init__(LocalRLock(on_abandon="ignore") if lock is None else lock)

    _wait: Any = vars(sync.Condition)["wait"]
    _wake: Any = vars(sync.Condition)["notify"]
    _wake_all: Any = vars(sync.Condition)["notify_all"]

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until a notification; return whether there was one."""
        with _as_threading_errors("wait on"):
            return bool(self._wait(timeout))

    def notify(self, n: int = 1) -> None:
        """Wake `n` waiters."""
        with _as_threading_errors("notify on"):
            self._wake(n)

    def notify_all(self) -> None:
        """Wake all waiters."""
        with _as_threading_errors("notify on"):
            self._wake_all()

    def _parts(self) -> tuple[Any, ...]:
        return self._spot, self._lock


class LocalEvent(_LocalProxy, sync.Event, managers.EventProxy):
    """An event."""

    __slots__ = ()
    _PROXY = "EventProxy"
    _TYPEID = "Event"
    _is_set: Any = vars(sync.Event)["is_set"]
    _set: Any = vars(sync.Event)["set"]
    _clear: Any = vars(sync.Event)["clear"]
    _wait: Any = vars(sync.Event)["wait"]

    def is_set(self) -> bool:
        """Whether it is set."""
        return bool(self._is_set())

    def set(self) -> None:
        """Set it, and wake all waiters."""
        self._set()

    def clear(self) -> None:
        """Clear it: later waits block."""
        self._clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return whether it is."""
        return bool(self._wait(timeout))

    def _parts(self) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = self._core.place
        return parts


class LocalBarrier(_LocalProxy, sync.Barrier, managers.BarrierProxy):
    """A barrier."""

    __slots__ = ()
    _PROXY = "BarrierProxy"
    _TYPEID = "Barrier"

    def _parts(self) -> tuple[Any, ...]:
        return self._spot, self._parties, self._action, self._timeout


for _kind in (LocalLock, LocalRLock, LocalSemaphore, LocalBoundedSemaphore):
    proxies.AcquirerProxy.register(_kind)
proxies.ConditionProxy.register(LocalCondition)
proxies.EventProxy.register(LocalEvent)
proxies.BarrierProxy.register(LocalBarrier)
del _kind
