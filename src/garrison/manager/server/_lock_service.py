"""The service for locks: grants them to sessions, and ends the leases of a lost session."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.server._dispatch import GRACE, RequestService
from garrison.manager.server._lock_state import (
    BarrierState,
    ConditionState,
    EventState,
    LeaseExpired,
    LockState,
    NotOwner,
    Waiter,
)
from garrison.net import LEASE_EXPIRED, NOT_OWNER, UNKNOWN, WRONG_KIND, Verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager.server._dispatch import ClientSession
    from garrison.net import EventLoop, Timer

__all__ = ["LockService"]


@dataclass(eq=False)
class PendingWait:
    """The latest wait of one thread of a session."""

    mark: int
    rid: int
    waiter: Waiter
    operation: str
    timer: Timer | None = None


@dataclass(eq=False)
class NamedLock:
    """A lock, event, condition or barrier: its state, its users, and each thread's latest wait."""

    name: str
    kind: str
    size: int
    state: Any
    lock_name: str = ""
    """Of a condition: the name of its lock."""
    users: set[Any] = field(default_factory=set)
    waits: dict[tuple[Any, int], PendingWait] = field(default_factory=dict)
    is_anonymous: bool = False
    was_sent: bool = False

    @property
    def lockable(self) -> LockState:
        """The lock that `acquire` and `release` use: of a condition, its lock."""
        return self.state.lock if isinstance(self.state, ConditionState) else self.state


class LockService(RequestService):
    """Locks, semaphores, events, conditions and barriers, by name.

    Parameters
    ----------
    loop
        Runs the timers.
    first_number : int
        The number of the first lease; a restarted server begins beyond all earlier numbers.
    """

    def __init__(self, loop: EventLoop, first_number: int = 1) -> None:
        self._loop = loop
        self._next = first_number
        self._locks: dict[str, NamedLock] = {}
        self._first_fence: dict[Any, int] = {}
        """For each session, the first lease number that it can have received."""
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

    def _next_number(self) -> int:
        self._next += 1
        return self._next - 1

    def _lease(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        operation, name, *rest = args
        self._first_fence.setdefault(peer.session, self._next)
        if operation == "open":
            self._open(peer, rid, name, *rest)
            return
        if operation == "count":
            peer.session.reply(rid, len(self._locks))
            return
        lock = self._locks.get(name)
        if lock is None:
            peer.session.fail(rid, UNKNOWN, f"this manager has no lock {name!r}")
            return
        # A reconnected client has opened it on its earlier connection.
        lock.users.add(peer.session)
        try:
            self._operations[operation](peer, rid, lock, *rest)
        except LeaseExpired as error:
            peer.session.fail(rid, LEASE_EXPIRED, str(error))
        except NotOwner as error:
            peer.session.fail(rid, NOT_OWNER, str(error))

    # -- opening and closing -----------------------------------------------------------------------

    def _open(
        self,
        peer: ClientSession,
        rid: int,
        name: str,
        kind: str,
        size: int,
        lock_name: str,
        is_anonymous: bool,
    ) -> None:
        chosen = name or f"#{secrets.token_hex(8)}"
        lock = self._locks.get(chosen)
        if lock is None:
            state = self._make(kind, size, lock_name)
            lock = self._locks[chosen] = NamedLock(chosen, kind, size, state, lock_name)
            lock.is_anonymous = is_anonymous
        elif lock.kind != kind:
            text = f"{name!r} is a {lock.kind} of this manager, not a {kind}"
            peer.session.fail(rid, WRONG_KIND, text)
            return
        elif lock.lock_name != lock_name:
            own = lock.lock_name
            text = f"the {kind} {name!r} of this manager has the lock {own!r}, not {lock_name!r}"
            peer.session.fail(rid, WRONG_KIND, text)
            return
        lock.users.add(peer.session)
        peer.session.reply(rid, chosen, lock.size)

    def _make(self, kind: str, size: int, lock_name: str) -> Any:
        if kind == "Event":
            return EventState()
        if kind == "Barrier":
            return BarrierState(size)
        if kind == "Condition":
            return ConditionState(self._locks[lock_name].lockable)
        if kind in {"Lock", "RLock"}:
            return LockState(self._next_number, recursive=kind == "RLock")
        if kind in {"Semaphore", "BoundedSemaphore"}:
            bounded = kind == "BoundedSemaphore"
            return LockState(self._next_number, size, bounded, exclusive=False)
        raise ValueError(f"a manager has no {kind!r}")

    def _close(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        if not lock.state.is_used_by(peer.session):
            lock.users.discard(peer.session)
            lock.waits = {key: each for key, each in lock.waits.items() if key[0] != peer.session}
        self._forget_if_unused_soon(lock)
        peer.session.reply(rid)

    def _send(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        """Note that a pickled reference may be on its way to another client."""
        lock.was_sent = True
        peer.session.reply(rid)

    def _forget_if_unused_soon(self, lock: NamedLock) -> None:
        if not lock.users:
            # A forked child needs a moment to open it; a pickled reference may take longer.
            grace = self._loop.limits.reconnect_grace_s if lock.was_sent else GRACE
            self._loop.call_later(grace, self._forget_if_unused, lock)

    def _forget_if_unused(self, lock: NamedLock) -> None:
        """Remove an unused lock that has no state to lose."""
        if not lock.users and (lock.state.is_initial or lock.is_anonymous):
            self._locks.pop(lock.name, None)

    def closed(self, peer: ClientSession) -> None:
        """End the leases and the waits of a closed session."""
        if self._first_fence.pop(peer.session, None) is None:
            return
        for lock in list(self._locks.values()):
            if peer.session in lock.users:
                lock.users.discard(peer.session)
                for key in [key for key in lock.waits if key[0] is peer.session]:
                    self._end(lock.waits.pop(key))
                lock.state.forget(peer.session)
                # The client may reconnect.
                self._loop.call_later(
                    self._loop.limits.reconnect_grace_s, self._forget_if_unused, lock
                )

    def stopping(self) -> None:
        """Report waiting requests as not carried out, so that clients repeat them elsewhere."""
        for lock in self._locks.values():
            for (session, _), wait in lock.waits.items():
                if not wait.waiter.over:
                    session.in_progress.discard(wait.rid)

    # -- waiting -----------------------------------------------------------------------------------

    def _begin(
        self,
        peer: ClientSession,
        rid: int,
        lock: NamedLock,
        operation: str,
        thread: int,
        mark: int,
    ) -> PendingWait:
        owner = (peer.session, thread)
        wait = PendingWait(mark, rid, Waiter(owner, lambda _: None), operation)

        def answer(result: Any) -> None:
            self._end(wait)
            if peer.alive:
                peer.session.reply(rid, result)

        wait.waiter.answer = answer
        lock.waits[owner] = wait
        return wait

    @staticmethod
    def _end(wait: PendingWait) -> None:
        if wait.timer is not None:
            wait.timer.cancel()

    def _with_timeout(
        self, wait: PendingWait, leave: Callable[[Waiter], object], timeout: Any
    ) -> None:
        if wait.waiter.over or timeout is None:
            return
        if timeout <= 0:
            leave(wait.waiter)
        else:
            wait.timer = self._loop.call_later(timeout, leave, wait.waiter)

    def _acquire(
        self,
        peer: ClientSession,
        rid: int,
        lock: NamedLock,
        thread: int,
        mark: int,
        timeout: float | None,
    ) -> None:
        wait = self._begin(peer, rid, lock, "acquire", thread, mark)
        lock.lockable.acquire(wait.waiter)
        self._with_timeout(wait, lock.lockable.leave, timeout)

    def _wait(
        self,
        peer: ClientSession,
        rid: int,
        lock: NamedLock,
        thread: int,
        mark: int,
        timeout: Any,
        *more: Any,
    ) -> None:
        wait = self._begin(peer, rid, lock, "wait", thread, mark)
        try:
            lock.state.wait(wait.waiter, *more)
        except NotOwner:
            del lock.waits[wait.waiter.owner]
            raise
        self._with_timeout(wait, lock.state.leave, timeout)

    def _cancel(
        self, peer: ClientSession, rid: int, lock: NamedLock, thread: int, mark: int
    ) -> None:
        """Undo a wait whose answer the client has not taken, whatever the answer was.

        The wait of a condition is answered once its lock is acquired again: a waiter holds the
        lock after every wait, also after an interrupted one.
        """
        wait = lock.waits.get((peer.session, thread))
        if wait is None or wait.mark != mark:
            peer.session.reply(rid, 0)
        elif wait.operation == "acquire":
            self._take_back(lock, wait)
            peer.session.reply(rid, 0)
        elif wait.waiter.over:
            peer.session.reply(rid, wait.waiter.result)
        else:
            self._end(wait)
            wait.waiter.answer = lambda result: peer.session.reply(rid, result)
            lock.state.leave(wait.waiter)

    def _take_back(self, lock: NamedLock, wait: PendingWait) -> None:
        waiter = wait.waiter
        if not waiter.over:
            self._end(wait)
            waiter.answer = lambda _: None
            lock.lockable.leave(waiter)
        elif waiter.result:
            lock.lockable.release(waiter.owner)
        del lock.waits[waiter.owner]

    # -- other operations --------------------------------------------------------------------------

    def _release(
        self, peer: ClientSession, rid: int, lock: NamedLock, thread: int, number: int
    ) -> None:
        lock.lockable.release((peer.session, thread), number, self._first_fence[peer.session])
        peer.session.reply(rid)

    def _value(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        peer.session.reply(rid, lock.lockable.value)

    def _is_set(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        peer.session.reply(rid, lock.state.is_set)

    def _set(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        lock.state.set()
        peer.session.reply(rid)

    def _clear(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        lock.state.clear()
        peer.session.reply(rid)

    def _notify(
        self,
        peer: ClientSession,
        rid: int,
        lock: NamedLock,
        thread: int,
        count: int | None,
        number: int,
    ) -> None:
        lock.state.notify((peer.session, thread), count, number)
        peer.session.reply(rid)

    def _waiting(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        peer.session.reply(rid, lock.state.n_waiting)

    def _state(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        peer.session.reply(rid, lock.state.n_waiting, lock.state.broken)

    def _acted(self, peer: ClientSession, rid: int, lock: NamedLock, thread: int) -> None:
        peer.session.reply(rid, lock.state.acted((peer.session, thread)))

    def _reset(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        lock.state.reset()
        peer.session.reply(rid)

    def _abort(self, peer: ClientSession, rid: int, lock: NamedLock) -> None:
        lock.state.abort()
        peer.session.reply(rid)
