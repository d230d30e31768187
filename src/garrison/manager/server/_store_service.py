"""The part of a server that serves its store to sessions from afar, and keeps it tidy.

Keys and values come and go as they are encoded: nothing of what they contain is looked at here.
What comes together in one turn is one transaction; who is late waits in line, the loop never does.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque

from garrison import _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, StoreBusy, TransactionFailed, WrongKind
from garrison.manager._serializers import pickle_for_manager
from garrison.manager._store_operations import OPERATIONS
from garrison.manager.server._change_waiters import Bells
from garrison.manager.server._dispatch import RequestService
from garrison.manager.server._store_clients import RETRY, Guests
from garrison.manager.server._store_session import ENDED, NONE, OPEN, READ, Visit, listed, told
from garrison.net import Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.manager.server._dispatch import ClientSession
    from garrison.net import EventLoop
    from garrison.store._local_store import Home

__all__ = ["StorePart"]

log = logging.getLogger("garrison.manager")

SCANS = 64
"""Iterations that a session may have open; each keeps a state of the store."""
HOLDING = {"create", "hold", "drop"}
"""What a client does under the signature that all its connections have in common."""
TOLD = {"drop", "scan_close"}
"""What is done though nobody waits for an answer."""


class StorePart(RequestService):
    """A store's operations, for sessions."""

    collects = True

    def __init__(self, loop: EventLoop, home: Home) -> None:
        self._loop = loop
        self._home = home
        self._engine = home.engine
        self._visits: dict[Any, Visit] = {}
        self._busy: deque[Visit] = deque()
        self._retrying = False
        self._bells = Bells(loop, home.engine)
        self._guests = Guests(loop, home)
        self.verbs = {Verb.STORE: self._request}
        self._special = {
            "uuid": self._uuid,
            "home": self._give_home,
            "begin": self._begin,
            "commit": self._commit,
            "abort": self._abort,
            "scan": self._scan,
            "scan_next": self._scan_next,
            "scan_close": self._scan_close,
            "wait_bell": self._wait_bell,
            "waiting": self._waiting,
            "received": self._received,
            "resume": self._resume,
            "owner": self._owner,
        }

    # -- requests ---------------------------------------------------------------------------------

    def _visit(self, peer: ClientSession) -> Visit:
        visit = self._visits.get(peer.session)
        if visit is None:
            owner = self._home.sign_for_guest()
            view = self._engine.view(owner, raw=True, wait=False)
            visit = self._visits[peer.session] = Visit(peer, owner, view)
            visit.name, visit.guest = self._guests.come(peer.name, visit)
        return visit

    def _request(self, peer: ClientSession, rid: int, args: list[Any]) -> None:
        visit = self._visit(peer)
        if visit.batch is not None and args[0] in OPERATIONS:
            visit.batch.append((rid, args))
            return
        self.flush(peer)
        visit.waiting.append((rid, args))
        if len(visit.waiting) == 1:
            self._work(visit)

    def batch_begin(self, peer: ClientSession) -> None:
        """Collect what comes now."""
        visit = self._visits.get(peer.session)
        if visit is not None and not visit.waiting:
            visit.batch = []

    def flush(self, peer: ClientSession) -> None:
        """Do what was collected."""
        visit = self._visits.get(peer.session)
        if visit is None or not visit.batch:
            return
        batch, visit.batch = visit.batch, []
        visit.waiting.extend(batch)
        if not self._together(visit, batch):
            self._work(visit)

    def batch_end(self, peer: ClientSession) -> None:
        """Do what was collected, and collect no more."""
        self.flush(peer)
        visit = self._visits.get(peer.session)
        if visit is not None:
            visit.batch = None

    def _together(self, visit: Visit, batch: list[Any]) -> bool:
        """Do several operations in one transaction, if that is worth it and possible."""
        if len(batch) == 1 or visit.transaction:
            return False
        if not any(OPERATIONS[args[0]].writes for _, args in batch):
            return False
        try:
            visit.view.begin(0)
        except (StoreBusy, TimeoutError):
            return False
        try:
            answers = [self._answer(visit, rid, args) for rid, args in batch]
            visit.view.commit()
        except BaseException as error:
            with contextlib.suppress(Exception):
                visit.view.abort()
            if isinstance(error, Exception):
                return False  # each by itself: the fault is one's, the others are done
            raise
        visit.waiting.clear()
        for (rid, _), answer in zip(batch, answers, strict=True):
            self._send(visit, rid, answer)
        self._bells.look()
        return True

    def _work(self, visit: Visit) -> None:
        """Do what a session waits for, as far as that goes now."""
        while visit.waiting and visit.peer.alive and not visit.peer.session.closing:
            rid, args = visit.waiting[0]
            try:
                special: Any = self._special.get(args[0])
                if special is not None:
                    special(visit, rid, *args[1:])
                else:
                    self._send(visit, rid, self._answer(visit, rid, args))
            except StoreBusy:
                self._later(visit)
                return
            except Exception as error:
                visit.peer.session.fail(rid, *told(error))
            visit.waiting.popleft()
        self._bells.look()

    def _answer(self, visit: Visit, rid: int, args: list[Any]) -> Any:
        call, count, readers = visit.calls.get(args[0]) or self._learn(visit, args[0])
        if len(args) != count:
            raise ValueError(f"{args[0]} takes {count - 1} arguments, not {len(args) - 1}")
        self._touch(visit)
        try:
            for place, read in readers:
                args[place] = read(args[place])
            if args[0] in HOLDING:
                with self._signing_as_guest(visit):
                    return call(*args[1:])
            answer = call(*args[1:])
        except (KeyError, IndexError, ContainerGone, WrongKind, TypeError, ValueError) as error:
            return error
        if args[0] == "claim":
            visit.claims.append((rid, args[1], answer[0]))
        return answer

    @staticmethod
    def _learn(visit: Visit, name: str) -> tuple[Any, int, list[Any]]:
        """Prepare an operation for a session: the call, how many arguments, how to read some."""
        operation = OPERATIONS.get(name)
        if operation is None:
            raise ValueError(f"there is no operation {name!r}")
        first = 1 if operation.anywhere else 2
        readers = [
            (place, READ[letter])
            for place, letter in enumerate(operation.takes, first)
            if letter in READ
        ]
        known = (getattr(visit.view, name), first + len(operation.takes), readers)
        visit.calls[name] = known
        return known

    @contextlib.contextmanager
    def _signing_as_guest(self, visit: Visit) -> Iterator[None]:
        visit.guest.is_new = False
        visit.view.owner = visit.guest.owner
        try:
            yield
        finally:
            visit.view.owner = visit.owner

    @staticmethod
    def _send(visit: Visit, rid: int, answer: Any) -> None:
        if isinstance(answer, BaseException):
            visit.peer.session.fail(rid, *told(answer))
        else:
            visit.peer.session.reply(rid, listed(answer))

    # -- waiting in line --------------------------------------------------------------------------

    def _later(self, visit: Visit) -> None:
        if visit not in self._busy:
            self._busy.append(visit)
        if not self._retrying:
            self._retrying = True
            self._loop.call_later(RETRY, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        busy, self._busy = self._busy, deque()
        while busy and not self._busy:
            self._work(busy.popleft())
        # Whoever comes first still waits, and so do all behind.
        self._busy.extend(each for each in busy if each not in self._busy)

    def cancelled(self, peer: ClientSession, rid: int) -> None:
        """Do not do what nobody waits for any more, unless it is just told; undo a claim."""
        visit = self._visits.get(peer.session)
        if visit is None:
            return
        self._bells.forget(peer, rid)
        for entry in [each for each in visit.waiting if each[0] == rid]:
            if entry[1][0] not in TOLD:
                visit.waiting.remove(entry)
        for claim in [each for each in visit.claims if each[0] == rid]:
            visit.claims.remove(claim)
            self._take_back(visit, *claim[1:])

    def _take_back(self, visit: Visit, c: int, ticket: int) -> None:
        try:
            visit.view.give_back(c, ticket)
        except StoreBusy:
            self._loop.call_later(RETRY, self._take_back, visit, c, ticket)
        except ContainerGone:
            pass
        else:
            self._bells.look()

    # -- transactions -----------------------------------------------------------------------------

    def _begin(self, visit: Visit, rid: int, name: bytes, timeout: float | None) -> None:
        if name != visit.name:
            self._guests.leave(visit.name, visit.guest, visit)
            visit.name, visit.guest = self._guests.come(bytes(name), visit)
        try:
            visit.view.begin(0)
        except (StoreBusy, TimeoutError):
            if timeout is not None and timeout <= 0:
                raise TimeoutError(f"another transaction has lasted for {timeout} s") from None
            if timeout is not None and visit.late != rid:
                visit.late = rid
                self._loop.call_later(timeout, self._too_late, visit, rid, timeout)
            raise StoreBusy from None
        visit.late = 0
        visit.transaction = OPEN
        self._touch(visit)
        if not visit.is_watched:
            visit.is_watched = True
            self._loop.call_later(self._loop.limits.idle_transaction_s, self._check_idle, visit)
        visit.peer.session.reply(rid)

    def _too_late(self, visit: Visit, rid: int, timeout: float) -> None:
        if visit.waiting and visit.waiting[0][0] == rid == visit.late:
            visit.late = 0
            visit.waiting.popleft()
            text = f"another transaction has lasted for {timeout} s"
            visit.peer.session.fail(rid, "TimeoutError", text)
            self._work(visit)

    def _commit(self, visit: Visit, rid: int) -> None:
        self._touch(visit)
        visit.transaction = NONE
        visit.view.commit()
        visit.peer.session.reply(rid)
        self._retry_soon()

    def _abort(self, visit: Visit, rid: int) -> None:
        if visit.transaction == OPEN:
            self._end(visit)
        visit.transaction = NONE
        visit.peer.session.reply(rid)

    def _end(self, visit: Visit) -> None:
        visit.transaction = ENDED
        visit.view.abort()
        self._retry_soon()

    def _touch(self, visit: Visit) -> None:
        """Note that a session does something; not in a transaction that is undone."""
        if visit.transaction == ENDED:
            raise TransactionFailed(
                "this transaction was undone: nothing was done in it for "
                f"{self._loop.limits.idle_transaction_s:g} s, and others wait for its end"
            )
        visit.touched = time.monotonic()

    def _check_idle(self, visit: Visit) -> None:
        if visit.transaction != OPEN or not visit.peer.alive:
            visit.is_watched = False
            return
        left = visit.touched + self._loop.limits.idle_transaction_s - time.monotonic()
        if left > 0:
            self._loop.call_later(left, self._check_idle, visit)
        else:
            visit.is_watched = False
            log.warning("a transaction of %s was idle, and is undone", visit.peer.session.peer)
            self._end(visit)

    def _retry_soon(self) -> None:
        if self._busy and not self._retrying:
            self._retrying = True
            self._loop.call_later(0, self._retry)

    # -- iterations -------------------------------------------------------------------------------

    def _scan(self, visit: Visit, rid: int, c: int, what: str, reverse: bool, count: int) -> None:
        scan = visit.view.scan(c, what, reverse)
        first = scan.next(count)
        number = 0
        if len(first) == count:
            if len(visit.scans) >= SCANS:
                raise ValueError(f"{SCANS} iterations are open; finish some, or copy()")
            visit.last_scan = number = visit.last_scan + 1
            visit.scans[number] = scan
        else:
            scan.close()
        visit.peer.session.reply(rid, number, listed(first))

    def _scan_next(self, visit: Visit, rid: int, number: int, count: int) -> None:
        scan = visit.scans.get(number)
        if scan is None:
            raise LookupError("this iteration is closed")
        entries = scan.next(count)
        if len(entries) < count:
            visit.scans.pop(number).close()
        visit.peer.session.reply(rid, listed(entries))

    def _scan_close(self, visit: Visit, rid: int, number: int) -> None:
        scan = visit.scans.pop(number, None)
        if scan is not None:
            scan.close()
        visit.peer.session.reply(rid)

    # -- the rest ---------------------------------------------------------------------------------

    def _wait_bell(self, visit: Visit, rid: int, c: int, seen: int, timeout: float | None) -> None:
        self._bells.wait(visit.peer, rid, c, seen, timeout)

    def _waiting(self, visit: Visit, rid: int) -> None:
        visit.peer.session.reply(rid, self._bells.count)

    def _uuid(self, visit: Visit, rid: int) -> None:
        visit.peer.session.reply(rid, self._home.uuid)

    def _give_home(self, visit: Visit, rid: int) -> None:
        visit.peer.session.reply(rid, _os.boot_id(), pickle_for_manager(self._home))

    @staticmethod
    def _owner(visit: Visit, rid: int) -> None:
        visit.peer.session.reply(rid, visit.guest.owner)

    def _received(self, visit: Visit, rid: int, c: int, sender: int) -> None:
        """End what keeps a container for whoever receives it; he has signed for it himself."""
        visit.view.owner = sender
        try:
            visit.view.drop(c)
        finally:
            visit.view.owner = visit.owner
        visit.peer.session.reply(rid)

    def _resume(self, visit: Visit, rid: int, held: list[int]) -> None:
        view, guest = visit.view, visit.guest
        if guest.is_new:
            view.begin(0)
            try:
                with self._signing_as_guest(visit):
                    guest.is_new = True
                    guest.resume(view, held)
            finally:
                view.commit()
        visit.peer.session.reply(rid)

    def closed(self, peer: ClientSession) -> None:
        """Take back what a session had: its transaction and claims now, its holds after a while."""
        visit = self._visits.pop(peer.session, None)
        if visit is None:
            return
        self._bells.forget(peer)
        for scan in visit.scans.values():
            scan.close()
        if visit.transaction == OPEN:
            self._end(visit)
        self._give_back(visit.owner)
        self._guests.leave(visit.name, visit.guest, visit)

    def _give_back(self, owner: int) -> None:
        try:
            self._engine.view(owner, raw=True, wait=False).release_claims(owner)
        except StoreBusy:
            self._loop.call_later(RETRY, self._give_back, owner)
        else:
            self._home.forget_guest(owner)
            self._bells.look()

    def stopping(self) -> None:
        """Let those go on who only wait."""
        self._bells.answer_all()

    def ended(self) -> None:
        """The server has ended."""
        self._bells.close()
