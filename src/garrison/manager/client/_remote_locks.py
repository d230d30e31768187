"""Locks, semaphores, events, conditions and barriers that a server lends.

What a process has borrowed comes back by itself when its connection is gone. A loan has a number
(`fence`) larger than those of all loans before it: send it along to what the lock protects, so that
it can turn away somebody whose loan is over and who does not know it yet.
"""

from __future__ import annotations

import threading
from collections import deque

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.client import _standard_proxies as proxies
from garrison.manager.client._remote_objects import ANSWERS, Far, Wait
from garrison.sync._condition import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FarBarrier", "FarCondition", "FarEvent", "FarLock", "FarRLock"]
__all__ += ["FarBoundedSemaphore", "FarSemaphore"]

FOREVER = -1
"""A timeout that is none, as for `threading.Lock`."""
REMEMBERED = 10_000
"""Loans of one semaphore that are remembered: more are not given back by who has them."""


def _seconds(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    return None if timeout is None or timeout == FOREVER else max(0.0, timeout)


class _Borrowed(Far):
    """What is acquired and released."""

    fence = 0
    """The number of the loan that this process has, or had last."""

    def __init__(self, *args: Any) -> None:
        self._loans: deque[int] = deque(maxlen=REMEMBERED)
        super().__init__(*args)

    def acquire(
        self, blocking: bool = True, timeout: float | None = None, *, block: bool = True
    ) -> bool:
        """Borrow it; return whether it was had in time.

        Raises
        ------
        ManagerLost
            If the connection is lost and cannot be made again; it is not borrowed then.
        """
        wait, number = Wait(self), 0
        try:
            # Twice is as good as once: what was lent on a connection that is lost comes back.
            number = wait.ask("acquire", _seconds(blocking and block, timeout), again=True)
            if number:
                self._loans.append(number)
                self.fence = number
            return bool(number)
        except ANSWERS:
            raise
        except BaseException:
            if number in self._loans:
                self._loans.remove(number)
            wait.cancel()
            raise

    def release(self) -> None:
        """Give it back.

        Raises
        ------
        LeaseLost
            If it has come back by itself since: the connection was lost in between.
        NotHeld
            If nobody has it.
        """
        self._ask("release", threading.get_ident(), self._take_loan())

    def _take_loan(self) -> int:
        try:
            return self._loans.pop()
        except IndexError:
            return 0  # somebody else's

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class FarLock(_Borrowed, managers.AcquirerProxy):
    """A lock that a server lends."""

    def locked(self) -> bool:
        """Whether somebody has it."""
        return not self._ask("value", again=True)[0]


class FarRLock(_Borrowed, managers.AcquirerProxy):
    """A lock that its borrower may take again."""

    locked = FarLock.locked


class FarSemaphore(_Borrowed, managers.AcquirerProxy):
    """A number of permits that a server lends."""

    def __init__(
        self, client: Any, name: str = "", size: int = 1, anonymous: bool | None = None
    ) -> None:
        if size < 0:
            raise ValueError(f"a semaphore begins with 0 permits or more, not {size}")
        super().__init__(client, name, size, anonymous)

    def get_value(self) -> int:
        """Return how many are free."""
        return int(self._ask("value", again=True)[0])


class FarBoundedSemaphore(FarSemaphore):
    """A number of permits, of which no more can be given back than were taken."""


class FarEvent(Far, managers.EventProxy):
    """A flag that a server keeps."""

    def is_set(self) -> bool:
        """Whether it is set."""
        return bool(self._ask("is_set", again=True)[0])

    def set(self) -> None:
        """Set it; all who wait go on."""
        self._ask("set", again=True)

    def clear(self) -> None:
        """Let who comes from now on wait."""
        self._ask("clear", again=True)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; return whether it was."""
        return bool(self._wait("wait", timeout))


class FarCondition(Far, managers.ConditionProxy):
    """A lock that a server lends, with a place to wait for a change.

    Parameters
    ----------
    lock : FarLock or FarRLock, optional
        By default one of its own.
    """

    def __init__(
        self,
        client: Any,
        name: str = "",
        size: int = 1,
        anonymous: bool | None = None,
        lock: FarLock | FarRLock | None = None,
    ) -> None:
        self._lock = lock or FarRLock(client, name and f"{name}/lock")
        self.acquire, self.release = self._lock.acquire, self._lock.release
        super().__init__(client, name, size, anonymous)

    def _lock_name(self) -> str:
        return self._lock._name

    def _here(self) -> Any:
        self._lock._here()
        return super()._here()

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = super().__reduce__()
        return make, (*arguments, self._lock)

    @property
    def fence(self) -> int:
        """The number of the loan that this process has, or had last."""
        return self._lock.fence

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _number(self) -> int:
        loans = self._lock._loans
        return loans[-1] if loans else 0

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock up until somebody notifies; return whether somebody did.

        Raises
        ------
        LeaseLost
            If the lock has come back by itself since.
        NotHeld
            If this thread does not have the lock.
        ManagerLost
            If the connection is lost meanwhile, and with it the lock.
        """
        before, wait, outcome = self._number(), Wait(self), 0
        try:
            outcome = wait.ask("wait", timeout, before, again=False)
        except ANSWERS:
            raise
        except BaseException:
            outcome = outcome or wait.cancel()
            raise
        finally:
            self._had_again(before, abs(outcome))
        return bool(outcome > 0)

    def _had_again(self, before: int, number: int) -> None:
        """Note that the lock is lent under a new number, however often it was taken."""
        if number:
            loans = self._lock._loans
            self._lock.fence = number
            for place, each in enumerate(loans):
                if each == before:
                    loans[place] = number

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate` is true, and return what it gave last."""
        return wait_for(self.wait, predicate, timeout)

    def notify(self, n: int = 1) -> None:
        """Let `n` of those who wait go on."""
        self._ask("notify", threading.get_ident(), n, self._number())

    def notify_all(self) -> None:
        """Let all who wait go on."""
        self._ask("notify", threading.get_ident(), None, self._number())


class FarBarrier(Far, managers.BarrierProxy):
    """A point that a number of parties pass together, wherever they are.

    With an action, one of those who have it runs it when all have come, and the others go on when
    it is done.
    """

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
        """How many pass together."""
        return self._size

    @property
    def n_waiting(self) -> int:
        """How many have come."""
        return int(self._ask("state", again=True)[0])

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return bool(self._ask("state", again=True)[1])

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others; return the number of one's place, 0 to parties - 1.

        Raises
        ------
        threading.BrokenBarrierError
            If it is broken, reset, or one of the others is gone or too late.
        """
        limit = self._timeout if timeout is None else timeout
        place, acts = self._wait("wait", limit, self._action is not None, again=False)
        if acts:
            self._act()
        if place < 0:
            raise threading.BrokenBarrierError
        return int(place)

    def _act(self) -> None:
        assert self._action is not None  # noqa: S101 - it was said that there is one
        try:
            self._action()
        except BaseException:
            self.abort()
            raise
        if not self._ask("acted", threading.get_ident())[0]:
            raise threading.BrokenBarrierError

    def reset(self) -> None:
        """Begin anew; who waits finds it broken."""
        self._ask("reset")

    def abort(self) -> None:
        """Break it for all."""
        self._ask("abort")


for _kind in (FarLock, FarRLock, FarSemaphore):
    proxies.AcquirerProxy.register(_kind)
proxies.ConditionProxy.register(FarCondition)
proxies.EventProxy.register(FarEvent)
proxies.BarrierProxy.register(FarBarrier)
del _kind
