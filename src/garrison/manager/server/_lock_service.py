"""The part of a server that lends locks to its sessions."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.server._dispatch import GRACE, Part
from garrison.manager.server._lock_state import (
    BarrierLoan,
    ConditionLoan,
    EventLoan,
    LoanOver,
    LockLoan,
    NotYours,
    Waiter,
)
from garrison.net import LOAN_OVER, NOT_YOURS, UNKNOWN, WRONG_KIND, Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.server._dispatch import Peer
    from garrison.net import EventLoop, Timer

__all__ = ["LeasePart"]


@dataclass(eq=False)
class Wait:
    """The last wait of a thread of a session."""

    mark: int
    rid: int
    waiter: Waiter
    operation: str
    timer: Timer | None = None


@dataclass(eq=False)
class Lent:
    """Something lent, who uses it, and who has waited for it last, by session and thread."""

    name: str
    kind: str
    size: int
    loan: Any
    lock: str = ""
    users: set[Any] = field(default_factory=set)
    waits: dict[tuple[Any, int], Wait] = field(default_factory=dict)
    is_anonymous: bool = False
    was_sent: bool = False

    @property
    def lockable(self) -> LockLoan:
        """What `acquire` and `release` are about."""
        return self.loan.lock if isinstance(self.loan, ConditionLoan) else self.loan


class LeasePart(Part):
    """Locks, semaphores, events, conditions and barriers, by name.

    Parameters
    ----------
    loop
        Tells the time.
    first_number : int
        Loans are counted from here; a server that was started again begins beyond what it has lent.
    """

    def __init__(self, loop: EventLoop, first_number: int = 1) -> None:
        self._loop = loop
        self._next = first_number
        self._lent: dict[str, Lent] = {}
        self._since: dict[Any, int] = {}
        """Of each session, the first number that it may have been lent."""
        self.verbs = {Verb.LEASE: self._lease}
        self._operations: dict[str, Callable[..., None]] = {
            "close": self._close,
            "send": self._send,
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
            "waiting": self._waiting,
            "acted": self._acted,
            "reset": self._reset,
            "abort": self._abort,
        }

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _lease(self, peer: Peer, rid: int, args: list[Any]) -> None:
        operation, name, *rest = args
        self._since.setdefault(peer.session, self._next)
        if operation == "open":
            self._open(peer, rid, name, *rest)
            return
        if operation == "count":
            peer.session.reply(rid, len(self._lent))
            return
        lent = self._lent.get(name)
        if lent is None:
            peer.session.fail(rid, UNKNOWN, f"nothing is lent here under the name {name!r}")
            return
        # Also one that has connected anew, and has opened it on its last connection.
        lent.users.add(peer.session)
        try:
            self._operations[operation](peer, rid, lent, *rest)
        except LoanOver as error:
            peer.session.fail(rid, LOAN_OVER, str(error))
        except NotYours as error:
            peer.session.fail(rid, NOT_YOURS, str(error))

    # -- having it --------------------------------------------------------------------------------

    def _open(
        self, peer: Peer, rid: int, name: str, kind: str, size: int, lock: str, is_anonymous: bool
    ) -> None:
        chosen = name or f"#{secrets.token_hex(8)}"
        lent = self._lent.get(chosen)
        if lent is None:
            loan = self._make(kind, size, lock)
            lent = self._lent[chosen] = Lent(chosen, kind, size, loan, lock)
            lent.is_anonymous = is_anonymous
        elif lent.kind != kind:
            text = f"{name!r} is a {lent.kind} of this manager, not a {kind}"
            peer.session.fail(rid, WRONG_KIND, text)
            return
        elif lent.lock != lock:
            text = f"the {kind} {name!r} of this manager has the lock {lent.lock!r}, not {lock!r}"
            peer.session.fail(rid, WRONG_KIND, text)
            return
        lent.users.add(peer.session)
        peer.session.reply(rid, chosen, lent.size)

    def _make(self, kind: str, size: int, lock: str) -> Any:
        if kind == "Event":
            return EventLoan()
        if kind == "Barrier":
            return BarrierLoan(size)
        if kind == "Condition":
            return ConditionLoan(self._lent[lock].lockable)
        if kind in {"Lock", "RLock"}:
            return LockLoan(self._number, recursive=kind == "RLock")
        if kind in {"Semaphore", "BoundedSemaphore"}:
            bounded = kind == "BoundedSemaphore"
            return LockLoan(self._number, size, bounded, exclusive=False)
        raise ValueError(f"no such thing is lent: {kind!r}")

    def _close(self, peer: Peer, rid: int, lent: Lent) -> None:
        if not lent.loan.is_lent_to(peer.session):
            lent.users.discard(peer.session)
            lent.waits = {key: each for key, each in lent.waits.items() if key[0] != peer.session}
        self._tidy_soon(lent)
        peer.session.reply(rid)

    def _send(self, peer: Peer, rid: int, lent: Lent) -> None:
        """Note that it may be on its way to another client."""
        lent.was_sent = True
        peer.session.reply(rid)

    def _tidy_soon(self, lent: Lent) -> None:
        if not lent.users:
            # A forked child needs a moment to say that it has it, what is on its way takes longer.
            patience = self._loop.limits.reconnect_grace_s if lent.was_sent else GRACE
            self._loop.call_later(patience, self._tidy, lent)

    def _tidy(self, lent: Lent) -> None:
        """Forget what nobody uses and what would be made again as it is."""
        if not lent.users and (lent.loan.at_rest or lent.is_anonymous):
            self._lent.pop(lent.name, None)

    def closed(self, peer: Peer) -> None:
        """Take back what a session had."""
        if self._since.pop(peer.session, None) is None:
            return
        for lent in list(self._lent.values()):
            if peer.session in lent.users:
                lent.users.discard(peer.session)
                for key in [key for key in lent.waits if key[0] is peer.session]:
                    self._end(lent.waits.pop(key))
                lent.loan.forget(peer.session)
                # It may come back on another connection.
                self._loop.call_later(self._loop.limits.reconnect_grace_s, self._tidy, lent)

    def stopping(self) -> None:
        """Say of those who wait that nothing was done for them: they may ask the next server."""
        for lent in self._lent.values():
            for (session, _), wait in lent.waits.items():
                if not wait.waiter.over:
                    session.in_progress.discard(wait.rid)

    # -- waiting ----------------------------------------------------------------------------------

    def _begin(
        self, peer: Peer, rid: int, lent: Lent, operation: str, thread: int, mark: int
    ) -> Wait:
        borrower = (peer.session, thread)
        wait = Wait(mark, rid, Waiter(borrower, lambda _: None), operation)

        def answer(result: Any) -> None:
            self._end(wait)
            if peer.alive:
                peer.session.reply(rid, result)

        wait.waiter.answer = answer
        lent.waits[borrower] = wait
        return wait

    @staticmethod
    def _end(wait: Wait) -> None:
        if wait.timer is not None:
            wait.timer.cancel()

    def _patiently(self, wait: Wait, leave: Callable[[Waiter], object], timeout: Any) -> None:
        if wait.waiter.over or timeout is None:
            return
        if timeout <= 0:
            leave(wait.waiter)
        else:
            wait.timer = self._loop.call_later(timeout, leave, wait.waiter)

    def _acquire(
        self, peer: Peer, rid: int, lent: Lent, thread: int, mark: int, timeout: float | None
    ) -> None:
        wait = self._begin(peer, rid, lent, "acquire", thread, mark)
        lent.lockable.acquire(wait.waiter)
        self._patiently(wait, lent.lockable.leave, timeout)

    def _wait(
        self, peer: Peer, rid: int, lent: Lent, thread: int, mark: int, timeout: Any, *more: Any
    ) -> None:
        wait = self._begin(peer, rid, lent, "wait", thread, mark)
        try:
            lent.loan.wait(wait.waiter, *more)
        except NotYours:
            del lent.waits[wait.waiter.borrower]
            raise
        self._patiently(wait, lent.loan.leave, timeout)

    def _cancel(self, peer: Peer, rid: int, lent: Lent, thread: int, mark: int) -> None:
        """Undo a wait whose answer nobody has taken, whatever has come of it.

        Of a condition the answer is told now, as soon as the lock is lent again: whoever waits at
        one has the lock when that is over, in whatever way.
        """
        wait = lent.waits.get((peer.session, thread))
        if wait is None or wait.mark != mark:
            peer.session.reply(rid, 0)
        elif wait.operation == "acquire":
            self._take_back(lent, wait)
            peer.session.reply(rid, 0)
        elif wait.waiter.over:
            peer.session.reply(rid, wait.waiter.result)
        else:
            self._end(wait)
            wait.waiter.answer = lambda result: peer.session.reply(rid, result)
            lent.loan.leave(wait.waiter)

    def _take_back(self, lent: Lent, wait: Wait) -> None:
        waiter = wait.waiter
        if not waiter.over:
            self._end(wait)
            waiter.answer = lambda _: None
            lent.lockable.leave(waiter)
        elif waiter.result:
            lent.lockable.release(waiter.borrower)
        del lent.waits[waiter.borrower]

    # -- the rest ---------------------------------------------------------------------------------

    def _release(self, peer: Peer, rid: int, lent: Lent, thread: int, number: int) -> None:
        lent.lockable.release((peer.session, thread), number, self._since[peer.session])
        peer.session.reply(rid)

    def _value(self, peer: Peer, rid: int, lent: Lent) -> None:
        peer.session.reply(rid, lent.lockable.value)

    def _is_set(self, peer: Peer, rid: int, lent: Lent) -> None:
        peer.session.reply(rid, lent.loan.is_set)

    def _set(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.set()
        peer.session.reply(rid)

    def _clear(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.clear()
        peer.session.reply(rid)

    def _notify(
        self, peer: Peer, rid: int, lent: Lent, thread: int, count: int | None, number: int
    ) -> None:
        lent.loan.notify((peer.session, thread), count, number)
        peer.session.reply(rid)

    def _waiting(self, peer: Peer, rid: int, lent: Lent) -> None:
        peer.session.reply(rid, lent.loan.n_waiting)

    def _state(self, peer: Peer, rid: int, lent: Lent) -> None:
        peer.session.reply(rid, lent.loan.n_waiting, lent.loan.broken)

    def _acted(self, peer: Peer, rid: int, lent: Lent, thread: int) -> None:
        peer.session.reply(rid, lent.loan.acted((peer.session, thread)))

    def _reset(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.reset()
        peer.session.reply(rid)

    def _abort(self, peer: Peer, rid: int, lent: Lent) -> None:
        lent.loan.abort()
        peer.session.reply(rid)
