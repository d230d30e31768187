"""Locks, semaphores, events, conditions and barriers that a server lends.

What a process has borrowed comes back by itself when its connection is gone. A loan has a number
(`fence`) larger than those of all loans before it: send it along to what the lock protects, so that
it can turn away somebody whose loan is over and who does not know it yet.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

from garrison.errors import LeaseLost, ManagerLost, NotHeld
from garrison.manager import _clients
from garrison.manager import _verbs as verbs
from garrison.manager._connection import Refused
from garrison.manager._lender import LOAN_OVER, NOT_LENT, NOT_YOURS
from garrison.sync._condition import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FarBarrier", "FarCondition", "FarEvent", "FarLock", "FarRLock"]
__all__ += ["FarBoundedSemaphore", "FarSemaphore"]

_marks = itertools.count(1)


def _rebuild(kind: type[_Far], address: Any, *rest: Any) -> _Far:
    return kind(_clients.client(address, None), *rest)


class _Far:
    """Something that a server lends, by its name there."""

    _NEED_A_LOAN: tuple[str, ...] = ("release",)
    """What only somebody can do who has it."""

    def __init__(self, client: Any, name: str = "", size: int = 1) -> None:
        self._client = client
        self._name = name
        self._size = size
        self._connected: Any = None
        self._here()

    def _here(self) -> Any:
        """Return the way to the server, where this process uses the thing."""
        client = self._client
        if self._connected != (mark := (client.name, client.connection.epoch)):
            kind = type(self).__name__.removeprefix("Far")
            opened = client.connection.ask(
                verbs.LEASE, "open", self._name, kind, self._size, idempotent=bool(self._name)
            )
            self._name, self._size = opened
            self._connected = mark
        return client.connection

    def _ask(self, operation: str, *fields: Any, again: bool = False) -> Any:
        connection = self._here()
        try:
            return connection.ask(verbs.LEASE, operation, self._name, *fields, idempotent=again)
        except Refused as refusal:
            if not self._is_forgotten(refusal, operation):
                raise self._error(refusal) from None
        return self._ask(operation, *fields, again=again)

    def _is_forgotten(self, refusal: Refused, operation: str) -> bool:
        """Whether another server is there by now, which is to be told of it and asked again."""
        if refusal.kind != NOT_LENT:
            return False
        self._connected = None
        return not (operation in self._NEED_A_LOAN or self._name.startswith("#"))

    def _error(self, refusal: Refused) -> Exception:
        text = f"{refusal.text} ({self!r})"
        if refusal.kind in {LOAN_OVER, NOT_LENT}:
            return LeaseLost(text)
        if refusal.kind == NOT_YOURS:
            return NotHeld(text)
        return RuntimeError(text)

    def _wait(self, operation: str, timeout: float | None) -> Any:
        """Ask for something that may take as long as `timeout`; if interrupted, take it back."""
        thread, mark = threading.get_ident(), next(_marks)
        try:
            return self._ask(operation, thread, mark, timeout)[0]
        except (LeaseLost, NotHeld, RuntimeError, ManagerLost):
            raise
        except BaseException:
            # Such as KeyboardInterrupt: the answer may come, and nobody would take it.
            self._ask("cancel", mark)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._client.address, self._name, self._size)

    def __repr__(self) -> str:
        name = type(self).__name__.removeprefix("Far")
        return f"<{name} {self._name!r} of the manager at {self._client.address!r}>"


def _seconds(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    return None if timeout is None else max(0.0, timeout)


class _Borrowed(_Far):
    """What is acquired and released."""

    fence = 0
    """The number of the loan that this process has, or had last."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Borrow it; return whether it was had in time."""
        number = self._wait("acquire", _seconds(block, timeout))
        if number:
            self.fence = number
        return bool(number)

    def release(self) -> None:
        """Give it back.

        Raises
        ------
        LeaseLost
            If it has come back by itself since: the connection was lost in between.
        NotHeld
            If nobody has it.
        """
        self._ask("release", threading.get_ident(), self._loan())

    def _loan(self) -> int:
        loan, self.fence = self.fence, 0
        return loan

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class FarLock(_Borrowed):
    """A lock that a server lends."""

    def locked(self) -> bool:
        """Whether somebody has it."""
        return not self._ask("value", again=True)[0]


class FarRLock(_Borrowed):
    """A lock that its borrower may take again."""

    def _loan(self) -> int:
        return self.fence


class FarSemaphore(_Borrowed):
    """A number of permits that a server lends."""

    def _loan(self) -> int:
        return 0

    def get_value(self) -> int:
        """Return how many are free."""
        return int(self._ask("value", again=True)[0])


class FarBoundedSemaphore(FarSemaphore):
    """A number of permits, of which no more can be given back than were taken."""


class FarEvent(_Far):
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


class FarCondition(_Borrowed):
    """A lock that a server lends, with a place to wait for a change."""

    _NEED_A_LOAN = ("release", "wait", "notify")

    def _loan(self) -> int:
        return 0  # a wait ends with another loan

    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock up until somebody notifies; return whether somebody did."""
        return bool(self._wait("wait", timeout))

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate` is true, and return what it gave last."""
        return wait_for(self.wait, predicate, timeout)

    def notify(self, n: int = 1) -> None:
        """Let `n` of those who wait go on."""
        self._ask("notify", threading.get_ident(), n)

    def notify_all(self) -> None:
        """Let all who wait go on."""
        self._ask("notify", threading.get_ident(), None)


class FarBarrier(_Far):
    """A point that a number of parties pass together, wherever they are.

    With an action, one of them runs it when all have come, and the others go on when it is done.
    """

    def __init__(
        self,
        client: Any,
        name: str = "",
        size: int = 1,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(client, name, size)
        self._action = action
        self._timeout = timeout
        self._after = FarBarrier(client, f"{self._name}/after", size) if action else None

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
        place = int(self._wait("wait", self._timeout if timeout is None else timeout))
        if place < 0:
            raise threading.BrokenBarrierError
        if self._after is not None:
            self._act(place, self._after)
        return place

    def _act(self, place: int, after: FarBarrier) -> None:
        if place == 0 and self._action is not None:
            try:
                self._action()
            except BaseException:
                self.abort()
                raise
        after.wait()

    def reset(self) -> None:
        """Begin anew; who waits finds it broken."""
        self._ask("reset")
        if self._after is not None:
            self._after.reset()

    def abort(self) -> None:
        """Break it for all."""
        self._ask("abort")
        if self._after is not None:
            self._after.abort()
