"""Locks, semaphores, events, conditions and barriers that a server lends.

What a process has borrowed comes back by itself when its connection is gone. A loan has a number
(`fence`) larger than those of all loans before it: send it along to what the lock protects, so that
it can turn away somebody whose loan is over and who does not know it yet.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import deque
from multiprocessing import util
from typing import TYPE_CHECKING, Any

from garrison.errors import LeaseLost, ManagerLost, NotHeld, WrongKind
from garrison.manager import _clients
from garrison.manager import _verbs as verbs
from garrison.manager._lender import LOAN_OVER, NOT_YOURS, UNKNOWN, WRONG_KIND
from garrison.manager._pipeline import Refused
from garrison.manager._refusals import RemoteError
from garrison.store._held import Held
from garrison.sync._condition import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FarBarrier", "FarCondition", "FarEvent", "FarLock", "FarRLock"]
__all__ += ["FarBoundedSemaphore", "FarSemaphore"]

REMEMBERED = 10_000
"""Loans of one semaphore that are remembered: more are not given back by who has them."""

_marks = itertools.count(1)
_used: weakref.WeakKeyDictionary[Any, Held[str]] = weakref.WeakKeyDictionary()
"""Of each server, the names of what this process uses there."""


def _users_of(client: Any) -> Held[str]:
    found = _used.get(client)
    if found is None:
        server = weakref.ref(client)

        def close(name: str) -> bool:
            there = server()
            if there is not None and there.is_connected:
                there.connection.tell(verbs.LEASE, "close", name)
            return True

        found = _used[client] = Held(lambda _: None, close)
    return found


def _after_fork() -> None:
    for held in list(_used.values()):
        held.forget_others()


os.register_at_fork(after_in_child=_after_fork)


def _rebuild(kind: type[_Far], place: tuple[Any, ...], *rest: Any) -> _Far:
    address, *key = place
    if key:
        _clients.know_key(address, *key)
    return kind(_clients.client(address, None, local=False), *rest)


class _Far:
    """Something that a server lends, by its name there."""

    def __init__(
        self, client: Any, name: str = "", size: int = 1, anonymous: bool | None = None
    ) -> None:
        self._client = client
        self._name = name
        self._size = size
        self._is_anonymous = not name if anonymous is None else anonymous
        self._opened_by = b""
        self._here()
        users = _users_of(client)
        users.has(self._name)
        weakref.finalize(self, users.drop, self._name).atexit = False
        if self._is_anonymous:
            util.register_after_fork(self, _Far._here)

    @property
    def _kind(self) -> str:
        return type(self).__name__.removeprefix("Far")

    def _lock_name(self) -> str:
        return ""

    def _here(self) -> Any:
        """Return the way to the server, where this process uses the thing."""
        client = self._client
        name = client.name
        if self._opened_by != name:
            fields = (self._name, self._kind, self._size, self._lock_name(), self._is_anonymous)
            try:
                opened = client.connection.ask(
                    verbs.LEASE, "open", *fields, idempotent=bool(self._name)
                )
            except Refused as refusal:
                raise self._error(refusal) from None
            self._name, self._size = opened
            self._opened_by = name
        return client.connection

    def _ask(self, operation: str, *fields: Any, again: bool = False) -> Any:
        while True:
            connection = self._here()
            try:
                return connection.ask(verbs.LEASE, operation, self._name, *fields, idempotent=again)
            except Refused as refusal:
                if refusal.kind != UNKNOWN:
                    raise self._error(refusal) from None
                self._opened_by = b""  # the server was started anew

    def _error(self, refusal: Refused) -> Exception:
        text = f"{refusal.text} ({self!r})"
        kinds: dict[str, type[Exception]] = {
            LOAN_OVER: LeaseLost,
            NOT_YOURS: NotHeld,
            WRONG_KIND: WrongKind,
        }
        return kinds.get(refusal.kind, RemoteError)(text)

    def _wait(self, operation: str, timeout: float | None, *more: Any, again: bool = True) -> Any:
        """Ask for something that may take as long as `timeout`; if interrupted, take it back."""
        wait = _Wait(self)
        try:
            return wait.ask(operation, timeout, *more, again=again)
        except _ANSWERS:
            raise
        except BaseException:
            wait.cancel()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_anonymous:
            self._ask("send", again=True)
        place = (self._client.address, *self._client.credentials())
        return _rebuild, (type(self), place, self._name, self._size, self._is_anonymous)

    def __repr__(self) -> str:
        return f"<{self._kind} {self._name!r} of the manager at {self._client.address!r}>"


_ANSWERS = (LeaseLost, NotHeld, ManagerLost, WrongKind, RemoteError)
"""What the server, or the end of the connection to it, has made of a wait: it is over there."""


class _Wait:
    """A wait that can be taken back: the answer may come when nobody takes it any more."""

    def __init__(self, far: _Far) -> None:
        self._far = far
        self._id = (threading.get_ident(), next(_marks))

    def ask(self, operation: str, timeout: float | None, *more: Any, again: bool) -> Any:
        """Wait; on a new connection begin again, if that is asked for."""
        return self._far._ask(operation, *self._id, timeout, *more, again=again)[0]

    def cancel(self) -> Any:
        """Undo what has come of it, and return that."""
        try:
            return self._far._ask("cancel", *self._id)[0]
        except _ANSWERS:
            return 0  # gone with the connection


def _seconds(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    return None if timeout is None else max(0.0, timeout)


class _Borrowed(_Far):
    """What is acquired and released."""

    fence = 0
    """The number of the loan that this process has, or had last."""

    def __init__(self, *args: Any) -> None:
        self._loans: deque[int] = deque(maxlen=REMEMBERED)
        super().__init__(*args)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Borrow it; return whether it was had in time.

        Raises
        ------
        ManagerLost
            If the connection is lost and cannot be made again; it is not borrowed then.
        """
        wait, number = _Wait(self), 0
        try:
            # Twice is as good as once: what was lent on a connection that is lost comes back.
            number = wait.ask("acquire", _seconds(block, timeout), again=True)
            if number:
                self._loans.append(number)
                self.fence = number
            return bool(number)
        except _ANSWERS:
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


class FarLock(_Borrowed):
    """A lock that a server lends."""

    def locked(self) -> bool:
        """Whether somebody has it."""
        return not self._ask("value", again=True)[0]


class FarRLock(_Borrowed):
    """A lock that its borrower may take again."""

    locked = FarLock.locked


class FarSemaphore(_Borrowed):
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


class FarCondition(_Far):
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
        before, wait, outcome = self._number(), _Wait(self), 0
        try:
            outcome = wait.ask("wait", timeout, before, again=False)
        except _ANSWERS:
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


class FarBarrier(_Far):
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
