"""The part of a server that lends locks to its sessions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from garrison.manager import _verbs as verbs
from garrison.manager._leases import (
    BarrierLoan,
    ConditionLoan,
    EventLoan,
    LoanOver,
    LockLoan,
    NotYours,
    Waiter,
)
from garrison.manager._service import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager._loop import Loop
    from garrison.manager._service import Peer

__all__ = ["LOAN_OVER", "NOT_LENT", "NOT_YOURS", "UNHELD", "LeasePart"]

NOT_LENT = "not lent"
NOT_YOURS = "not yours"
LOAN_OVER = "loan over"
WRONG_KIND = "wrong kind"
UNHELD = "un-acquired"


@dataclass
class Lent:
    """Something lent, who uses it, and who waits for it by the number of the wait."""

    kind: str
    size: int
    loan: Any
    users: set[Any] = field(default_factory=set)
    waits: dict[tuple[Any, int], Waiter] = field(default_factory=dict)

    def settled(self, session: Any, mark: int) -> None:
        """Forget the waits of a session that it has had the answer of: all before its last."""
        for key in [key for key in self.waits if key[0] is session and key[1] < mark]:
            if self.waits[key].over:
                del self.waits[key]


class LeasePart(Part):
    """Locks, semaphores, events, conditions and barriers, by name.

    Parameters
    ----------
    loop
        Tells the time.
    first_number : int
        Loans are counted from here; a server that was started again begins beyond what it has lent.
    """

    def __init__(self, loop: Loop, first_number: int = 1) -> None:
        self._loop = loop
        self._numbers = itertools.count(first_number)
        # Nor must a client of the server before this one find another's under its own's name.
        self._anonymous = itertools.count(first_number)
        self._lent: dict[str, Lent] = {}
        self.verbs = {verbs.LEASE: self._lease}
        self._operations: dict[str, Callable[..., None]] = {
            "open": self._open,
            "close": self._close,
            "acquire": self._acquire,
            "release": self._release,
            "value": self._value,
            "is_set": self._is_set,
            "set": self._set,
            "clear": self._clear,
            "wait": self._wait,
            "notify": self._notify,
            "cancel": self._cancel,
            "state": self._state,
            "reset": self._reset,
            "abort": self._abort,
        }

    def _lease(self, peer: Peer, rid: int, args: list[Any]) -> None:
        operation, name, *rest = args
        if operation == "open":
            self._open(peer, rid, name, *rest)
            return
        lent = self._lent.get(name)
        if lent is None:
            peer.session.fail(rid, NOT_LENT, f"nothing is lent here under the name {name!r}")
            return
        # It may have opened it on a connection that is gone.
        lent.users.add(peer.session)
        try:
            self._operations[operation](peer, rid, lent, *rest)
        except LoanOver as error:
            peer.session.fail(rid, LOAN_OVER, str(error))
        except NotYours as error:
            peer.session.fail(rid, NOT_YOURS, str(error))
        except RuntimeError as error:
            peer.session.fail(rid, UNHELD, str(error))

    # -- having it --------------------------------------------------------------------------------

    def _open(self, peer: Peer, rid: int, name: str, kind: str, size: int) -> None:
        chosen = name or f"#{next(self._anonymous)}"
        lent = self._lent.get(chosen)
        if lent is None:
            lent = self._lent[chosen] = Lent(kind, size, self._make(kind, size))
        elif lent.kind != kind:
            peer.session.fail(rid, WRONG_KIND, f"{name!r} is a {lent.kind} here, not a {kind}")
            return
        lent.users.add(peer.session)
        peer.session.reply(rid, chosen, lent.size)

    def _make(self, kind: str, size: int) -> Any:
        number = self._numbers.__next__
        if kind == "Event":
            return EventLoan()
        if kind == "Barrier":
            return BarrierLoan(size)
        if kind == "Condition":
            return ConditionLoan(LockLoan(number, recursive=True))
        if kind in {"Lock", "RLock", "Semaphore", "BoundedSemaphore"}:
            return LockLoan(number, size, kind != "Semaphore", kind == "RLock")
        raise ValueError(f"no such thing is lent: {kind!r}")

    def _close(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.users.discard(peer.session)
        self._tidy()
        peer.session.reply(rid)

    def _tidy(self) -> None:
        """Forget what nobody uses and what would be made again as it is."""
        for name, lent in list(self._lent.items()):
            if not lent.users and (lent.loan.at_rest or name.startswith("#")):
                del self._lent[name]

    def closed(self, peer: Peer) -> None:
        """Take back what a session had."""
        for lent in self._lent.values():
            if peer.session in lent.users:
                lent.users.discard(peer.session)
                lent.loan.forget(peer.session)
                for key in [key for key in lent.waits if key[0] is peer.session]:
                    del lent.waits[key]
        # What was sent in a pickle may be on its way to another client.
        self._loop.call_later(60.0, self._tidy)

    # -- waiting ----------------------------------------------------------------------------------

    def _waiter(self, peer: Peer, rid: int, lent: Lent, thread: int, mark: int) -> Waiter:
        def answer(result: Any) -> None:
            if peer.alive:
                peer.session.reply(rid, result)
                lent.settled(peer.session, mark)

        waiter = Waiter((peer.session, thread), answer)
        lent.waits[peer.session, mark] = waiter
        return waiter

    def _patiently(self, lent: Lent, waiter: Waiter, timeout: float | None) -> None:
        if timeout is not None and not waiter.over:
            self._loop.call_later(max(0.0, timeout), lent.loan.leave, waiter)

    def _acquire(
        self, peer: Peer, rid: int, lent: Lent, thread: int, mark: int, timeout: float | None
    ) -> None:
        waiter = self._waiter(peer, rid, lent, thread, mark)
        lock = lent.loan.lock if isinstance(lent.loan, ConditionLoan) else lent.loan
        lock.acquire(waiter)
        if not waiter.over and timeout is not None:
            if timeout <= 0:
                lock.leave(waiter)
            else:
                self._loop.call_later(timeout, lock.leave, waiter)

    def _wait(
        self, peer: Peer, rid: int, lent: Lent, thread: int, mark: int, timeout: float | None
    ) -> None:
        waiter = self._waiter(peer, rid, lent, thread, mark)
        lent.loan.wait(waiter)
        self._patiently(lent, waiter, timeout)

    def _cancel(self, peer: Peer, rid: int, lent: Lent, mark: int) -> None:
        """Undo a wait whose answer nobody takes, whatever has come of it."""
        waiter = lent.waits.pop((peer.session, mark), None)
        if waiter is not None and not waiter.over:
            waiter.answer = lambda _: None
            lent.loan.leave(waiter)
        elif waiter is not None and isinstance(lent.loan, LockLoan):
            lent.loan.release(waiter.borrower)
        peer.session.reply(rid)

    # -- the rest ---------------------------------------------------------------------------------

    def _release(self, peer: Peer, rid: int, lent: Lent, thread: int, number: int) -> None:
        lock = lent.loan.lock if isinstance(lent.loan, ConditionLoan) else lent.loan
        lock.release((peer.session, thread), number)
        peer.session.reply(rid)

    def _value(self, peer: Peer, rid: int, lent: Lent) -> None:
        peer.session.reply(rid, lent.loan.value)

    def _is_set(self, peer: Peer, rid: int, lent: Lent) -> None:
        peer.session.reply(rid, lent.loan.is_set)

    def _set(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.set()
        peer.session.reply(rid)

    def _clear(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.clear()
        peer.session.reply(rid)

    def _notify(self, peer: Peer, rid: int, lent: Lent, thread: int, count: int | None) -> None:
        lent.loan.notify((peer.session, thread), count)
        peer.session.reply(rid)

    def _state(self, peer: Peer, rid: int, lent: Lent) -> None:
        peer.session.reply(rid, lent.loan.n_waiting, lent.loan.broken)

    def _reset(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.reset()
        peer.session.reply(rid)

    def _abort(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.abort()
        peer.session.reply(rid)
