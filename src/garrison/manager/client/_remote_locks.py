"""Locks, semaphores, events, conditions and barriers of a server.

A process holds such a lock by a lease, which ends when its connection is lost. Each lease has a
number (`fence`), larger than those of all earlier leases: send it to the resource that the lock
protects, so that the resource can reject an owner whose lease has expired.
"""

from __future__ import annotations

import threading
from collections import deque

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.client import _standard_proxies as proxies
from garrison.manager.client._remote_objects import DEFINITE_ERRORS, RemoteObject, RemoteWait
from garrison.sync import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RemoteBarrier", "RemoteCondition", "RemoteEvent", "RemoteLock", "RemoteRLock"]
__all__ += ["RemoteBoundedSemaphore", "RemoteSemaphore"]

FOREVER = -1
"""A timeout that is none, as for `threading.Lock`."""
MAX_TRACKED_FENCES = 10_000
"""Fences of one semaphore that are tracked; the oldest are forgotten."""


def _seconds(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    return None if timeout is None or timeout == FOREVER else max(0.0, timeout)


class _RemoteAcquirable(RemoteObject):
    """Locks and semaphores: acquired and released."""

    fence: int = 0
    """The number of this process's lease, or of its last one."""

    def __init__(self, *args: Any) -> None:
        self._fences: deque[tuple[int, int]] = deque(maxlen=MAX_TRACKED_FENCES)
        """The thread and the number of each lease."""
        super().__init__(*args)

    def acquire(
        self, blocking: bool = True, timeout: float | None = None, *, block: bool = True
    ) -> bool:
        """Acquire it; return whether that was possible in time.

        Raises
        ------
        ManagerLost
            If the connection is lost and cannot be made again; it is not acquired then.
        """
        wait, number = RemoteWait(self), 0
        thread = threading.get_ident()
        try:
            # The request may be repeated: a lease of a lost connection ends by itself.
            number = wait.ask("acquire", _seconds(blocking and block, timeout), again=True)
            if number:
                self._fences.append((thread, number))
                self.fence = number
            return bool(number)
        except DEFINITE_ERRORS:
            raise
        except BaseException:
            if (thread, number) in self._fences:
                self._fences.remove((thread, number))
            wait.cancel()
            raise

    def release(self) -> None:
        """Release it.

        Raises
        ------
        LeaseLost
            If the lease had expired, because the connection was lost in between.
        NotHeld
            If no thread holds it.
        """
        self._ask("release", threading.get_ident(), self._pop_fence())

    def _pop_fence(self) -> int:
        """Forget the number of this thread's last lease, or else of another thread's; return it."""
        try:
            lease = self._last_lease() or self._fences[-1]
            self._fences.remove(lease)
        except (IndexError, ValueError):
            return 0  # another process's
        return lease[1]

    def _last_lease(self) -> tuple[int, int] | None:
        """Return this thread's last lease."""
        thread = threading.get_ident()
        leases = list(self._fences)  # other threads change it meanwhile
        return next((each for each in reversed(leases) if each[0] == thread), None)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RemoteLock(_RemoteAcquirable, managers.AcquirerProxy):
    """A lock of a server."""

    _TYPEID = "Lock"

    def locked(self) -> bool:
        """Whether any thread holds it."""
        return not self._ask("value", again=True)[0]


class RemoteRLock(_RemoteAcquirable, managers.AcquirerProxy):
    """A lock that its owner may acquire again."""

    _TYPEID = "RLock"

    if TYPE_CHECKING:

        def locked(self) -> bool:
            """Whether any thread holds it."""
    else:
        locked = RemoteLock.locked


class RemoteSemaphore(_RemoteAcquirable, managers.AcquirerProxy):
    """A semaphore of a server."""

    _TYPEID = "Semaphore"

    def __init__(
        self, client: Any, name: str = "", size: int = 1, anonymous: bool | None = None
    ) -> None:
        if size < 0:
            raise ValueError(f"a semaphore begins with 0 permits or more, not {size}")
        super().__init__(client, name, size, anonymous)

    def get_value(self) -> int:
        """Return the number of free permits."""
        return int(self._ask("value", again=True)[0])


class RemoteBoundedSemaphore(RemoteSemaphore):
    """A semaphore that refuses more releases than acquisitions."""

    _TYPEID = "BoundedSemaphore"


class RemoteEvent(RemoteObject, managers.EventProxy):
    """An event of a server."""

    _TYPEID = "Event"

    def is_set(self) -> bool:
        """Whether it is set."""
        return bool(self._ask("is_set", again=True)[0])

    def set(self) -> None:
        """Set it, and wake all waiters."""
        self._ask("set", again=True)

    def clear(self) -> None:
        """Clear it: later waits block."""
        self._ask("clear", again=True)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return whether it was."""
        return bool(self._wait("wait", timeout))


class RemoteCondition(RemoteObject, managers.ConditionProxy):
    """A condition of a server.

    Parameters
    ----------
    lock : RemoteLock or RemoteRLock, optional
        By default a new `RemoteRLock`.
    """

    _TYPEID = "Condition"

    def __init__(
        self,
        client: Any,
        name: str = "",
        size: int = 1,
        anonymous: bool | None = None,
        lock: RemoteLock | RemoteRLock | None = None,
    ) -> None:
        self._lock = lock or RemoteRLock(client, name and f"{name}/lock")
        self.acquire: Callable[..., bool] = self._lock.acquire
        self.release: Callable[[], None] = self._lock.release
        super().__init__(client, name, size, anonymous)

    def _lock_name(self) -> str:
        return self._lock._name

    def _ensure_opened(self) -> Any:
        self._lock._ensure_opened()
        return super()._ensure_opened()

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = super().__reduce__()
        return make, (*arguments, self._lock)

    @property
    def fence(self) -> int:
        """The number of this process's lease, or of its last one."""
        return self._lock.fence

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _current_fence(self) -> int:
        lease = self._lock._last_lease()
        return 0 if lease is None else lease[1]

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until a notification; return whether there was one.

        Raises
        ------
        LeaseLost
            If the lease of the lock had expired.
        NotHeld
            If this thread does not hold the lock.
        ManagerLost
            If the connection is lost meanwhile, and with it the lock.
        """
        before, wait, outcome = self._current_fence(), RemoteWait(self), 0
        try:
            outcome = wait.ask("wait", timeout, before, again=False)
        except DEFINITE_ERRORS:
            raise
        except BaseException:
            outcome = outcome or wait.cancel()
            raise
        finally:
            self._set_reacquired_fence(before, abs(outcome))
        return bool(outcome > 0)

    def _set_reacquired_fence(self, before: int, number: int) -> None:
        """Store the number of the lock's new lease, for each time that it was acquired."""
        if number:
            loans = self._lock._fences
            self._lock.fence = number
            thread = threading.get_ident()
            for place, each in enumerate(loans):
                if each == (thread, before):
                    loans[place] = (thread, number)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate` is true; return its last value."""
        return wait_for(self.wait, predicate, timeout)

    def notify(self, n: int = 1) -> None:
        """Wake `n` waiters."""
        self._ask("notify", threading.get_ident(), n, self._current_fence())

    def notify_all(self) -> None:
        """Wake all waiters."""
        self._ask("notify", threading.get_ident(), None, self._current_fence())


class RemoteBarrier(RemoteObject, managers.BarrierProxy):
    """A barrier of a server.

    With an action, one of the parties that have it runs it once all have arrived; the others pass
    when it is done.
    """

    _TYPEID = "Barrier"

    def __init__(
        self,
        client: Any,
        name: str = "",
        size: int = 1,
        anonymous: bool | None = None,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"a barrier has one party or more, not {size}")
        super().__init__(client, name, size, anonymous)
        self._action = action
        self._timeout = timeout

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = super().__reduce__()
        return make, (*arguments, self._action, self._timeout)

    @property
    def parties(self) -> int:
        """The number of parties that pass together."""
        return self._size

    @property
    def n_waiting(self) -> int:
        """The number of parties that have arrived."""
        return int(self._ask("state", again=True)[0])

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return bool(self._ask("state", again=True)[1])

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the other parties; return this one's index, 0 to parties - 1.

        Raises
        ------
        threading.BrokenBarrierError
            If it is broken or reset, or another party is gone or too late.
        """
        limit = self._timeout if timeout is None else timeout
        place, acts = self._wait("wait", limit, self._action is not None, again=False)
        if acts:
            self._act()
        if place < 0:
            raise threading.BrokenBarrierError
        return int(place)

    def _act(self) -> None:
        assert self._action is not None  # noqa: S101 - the server chose this party for its action
        try:
            self._action()
        except BaseException:
            self.abort()
            raise
        if not self._ask("acted", threading.get_ident())[0]:
            raise threading.BrokenBarrierError

    def reset(self) -> None:
        """Start a new round; present waiters find the barrier broken."""
        self._ask("reset")

    def abort(self) -> None:
        """Break it: all waiters raise `BrokenBarrierError`."""
        self._ask("abort")


for _kind in (RemoteLock, RemoteRLock, RemoteSemaphore):
    proxies.AcquirerProxy.register(_kind)
proxies.ConditionProxy.register(RemoteCondition)
proxies.EventProxy.register(RemoteEvent)
proxies.BarrierProxy.register(RemoteBarrier)
del _kind
