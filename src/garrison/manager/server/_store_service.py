"""The service of a server's store: operations, transactions and iterations for remote clients.

Keys and values are passed on as they are encoded; the server decodes none of them. Requests that
arrive together are one transaction. While another process writes, sessions queue up; the event loop
never waits.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque

from garrison import _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, StoreBusy, TransactionFailed, WrongKind
from garrison.manager._remote_errors import FORBIDDEN
from garrison.manager._serializers import pickle_for_manager
from garrison.manager._store_operations import OPERATIONS
from garrison.manager.server._change_waiters import ChangeWaiters
from garrison.manager.server._deferred_sessions import DeferredSessions
from garrison.manager.server._dispatch import RequestService, refuse_nan
from garrison.manager.server._store_clients import RETRY_S, StoreClients
from garrison.manager.server._store_session import ENDED, NONE, OPEN, StoreSession, to_wire
from garrison.net import Access, Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from garrison.manager.server._dispatch import ClientSession
    from garrison.net import EventLoop
    from garrison.store import LocalStore

__all__ = ["StoreService"]

_FULL = Access.FULL  # a global is found faster than a member

MAX_SCANS = 64
"""Iterations that a session, or all sessions with a key that only reads, may have open; each keeps
a state of the store."""
MAX_ALL_SCANS = 2048
"""Of all clients: LMDB has 4,096 readers."""
FOR_READERS = {
    *(name for name, each in OPERATIONS.items() if each.is_for_readers),
    "named",
    *(
        "uuid",
        "scan",
        "scan_next",
        "scan_close",
        "wait_for_change",
        "owner",
        "resume",
        "local_store",
    ),
}
"""Requests of clients whose key only reads; "named" finds a container and makes none."""
MAX_RESUMED = 4096
"""References that a client whose key only reads takes again after a break."""
ONE_WAY = {"scan_close", *(name for name, each in OPERATIONS.items() if each.one_way)}
"""Requests that are carried out even if no client waits for a reply."""


def _is_operation(entry: tuple[int, list[Any]]) -> bool:
    return entry[1][0] in OPERATIONS


class StoreService(RequestService):
    """A store's operations, for sessions."""

    wants_batches = True

    def __init__(self, loop: EventLoop, store: LocalStore, *, plain_only: bool) -> None:
        self._loop = loop
        self._plain_only = plain_only
        self._store = store
        self._backend = store.backend
        self._sessions: dict[Any, StoreSession] = {}
        self._queued: deque[StoreSession] = deque()
        self._retry_is_due = False
        self._deferred = DeferredSessions(loop, self._run_turn)
        self._waiters = ChangeWaiters(loop, store.backend)
        self._clients = StoreClients(loop, store)
        self.verbs = {Verb.STORE: self._request}
        self._handlers = {
            "uuid": self._uuid,
            "local_store": self._pickle_store,
            "begin": self._begin,
            "commit": self._commit,
            "abort": self._abort,
            "scan": self._scan,
            "scan_next": self._scan_next,
            "scan_close": self._scan_close,
            "wait_for_change": self._wait_for_change,
            "waiter_count": self._waiter_count,
            "release_transfer": self._release_transfer,
            "resume": self._resume,
            "owner": self._owner,
        }

    # -- requests ---------------------------------------------------------------------------------

    def _add_session(self, peer: ClientSession) -> StoreSession:
        owner = self._store.new_client_id()
        backend = self._backend.session(owner, encoded=True, blocking=False)
        session = self._sessions[peer.session] = StoreSession(
            peer, owner, backend, plain_only=self._plain_only
        )
        session.client_name, session.client = self._clients.connected(peer.name, session)
        return session

    def _request(self, peer: ClientSession, request_id: int, args: list[Any]) -> None:
        name = args[0]  # or raise: there is none
        is_operation = name in OPERATIONS
        if peer.access < _FULL and name not in FOR_READERS:
            key = f"the key {peer.session.key.name!r} of this client only reads"
            peer.session.fail(request_id, FORBIDDEN, f"{name}: {key}")
            return
        session = self._sessions.get(peer.session) or self._add_session(peer)
        if session.batch is not None:
            if is_operation:
                session.batch.append((request_id, args))
                return
            self.flush(peer)
        session.waiting.append((request_id, args))
        if len(session.waiting) == 1:
            self._begin_turn(session)
        else:
            session.limit_reading()

    def batch_begin(self, peer: ClientSession) -> None:
        """Collect the requests that come now."""
        session = self._sessions.get(peer.session)
        if session is not None and not session.waiting:
            session.batch = []

    def flush(self, peer: ClientSession) -> None:
        """Carry out what was collected."""
        session = self._sessions.get(peer.session)
        if session is None or not session.batch:
            return
        batch, session.batch = session.batch, []
        is_first = not session.waiting
        session.waiting.extend(batch)
        if is_first:
            self._begin_turn(session)
        else:
            session.limit_reading()

    def batch_end(self, peer: ClientSession) -> None:
        """Carry out what was collected; collect no more."""
        self.flush(peer)
        session = self._sessions.get(peer.session)
        if session is not None:
            session.batch = None

    def _begin_turn(self, session: StoreSession) -> None:
        """Carry out what a session waits for, now or, if that takes long, between others."""
        if session.is_slow:
            self._deferred.add(session)
            session.limit_reading()
        else:
            self._run_turn(session)

    def _run_turn(self, session: StoreSession) -> None:
        """Carry out what a session waits for, for one turn at most."""
        session.is_slow = False
        if not session.peer.alive or session.peer.session.closing:
            return
        if len(session.waiting) == 1 or not self._run_first_batch(session):
            self._run_pending(session)
        elif session.waiting:
            self._deferred.add(session)
        if session.waiting or session.peer.session.held:
            session.limit_reading()

    def _run_first_batch(self, session: StoreSession) -> bool:
        first = itertools.islice(session.waiting, self._loop.limits.requests_per_turn)
        batch = list(itertools.takewhile(_is_operation, first))
        return self._run_batch_in_one_transaction(session, batch)

    def _run_batch_in_one_transaction(self, session: StoreSession, batch: list[Any]) -> bool:
        """Return whether several operations were carried out in one transaction.

        Those that do not fit into the session's turn stay behind.
        """
        if len(batch) <= 1 or session.transaction:
            return False
        if not any(OPERATIONS[args[0]].writes for _, args in batch):
            return False
        try:
            session.backend.begin(0)
        except (StoreBusy, TimeoutError):
            return False
        end = time.monotonic() + self._loop.limits.turn_s
        try:
            answers = []
            for request_id, args in batch:
                answers.append(self._run_operation(session, request_id, args))
                if time.monotonic() > end:
                    session.is_slow = True
                    break
            session.backend.commit()
        except BaseException as error:
            with contextlib.suppress(Exception):
                session.backend.abort()
            if isinstance(error, Exception):
                return False  # each by itself: one has failed, and the others must not
            raise
        for answer in answers:
            request_id, _ = session.waiting.popleft()
            self._send(session, request_id, answer)
        self._waiters.notify_changed()
        return True

    def _run_pending(self, session: StoreSession) -> None:
        """Carry out what a session waits for, until the store is busy or its turn is over."""
        end = time.monotonic() + self._loop.limits.turn_s
        while session.waiting and session.peer.alive and not session.peer.session.closing:
            request_id, args = session.waiting[0]
            try:
                handle: Any = self._handlers.get(args[0])
                if handle is not None:
                    refuse_nan(args)
                    handle(session, request_id, *args[1:])
                else:
                    self._send(session, request_id, self._run_operation(session, request_id, args))
            except StoreBusy:
                self._retry_when_free(session)
                return
            except Exception as error:
                session.fail(request_id, error)
            session.waiting.popleft()
            session.is_slow = time.monotonic() > end
            if session.is_slow and session.waiting:
                self._deferred.add(session)
                break
        self._waiters.notify_changed()

    def _run_operation(self, session: StoreSession, request_id: int, args: list[Any]) -> Any:
        call = session.calls.get(args[0]) or session.call(args[0])
        if session.transaction != NONE:
            self._note_activity(session)
        try:
            if call.for_client:
                with self._as_client(session):
                    return call.run(args)
            answer = call.run(args)
        except (KeyError, IndexError, ContainerGone, WrongKind, TypeError, ValueError) as error:
            return error
        if args[0] == "claim_first":
            session.claims.append((request_id, args[1], answer[0]))
        return answer

    @contextlib.contextmanager
    def _as_client(self, session: StoreSession) -> Iterator[None]:
        """Work on the references of the client, which all its connections share."""
        session.client.is_new = False
        session.backend.owner = session.client.owner
        try:
            yield
        finally:
            session.backend.owner = session.owner

    @staticmethod
    def _send(session: StoreSession, request_id: int, answer: Any) -> None:
        if isinstance(answer, BaseException):
            session.fail(request_id, answer)
        else:
            session.peer.session.reply(request_id, to_wire(answer))

    # -- while the store is busy ------------------------------------------------------------------

    def _retry_when_free(self, session: StoreSession) -> None:
        if session not in self._queued:
            self._queued.append(session)
        if not self._retry_is_due:
            self._retry_is_due = True
            self._loop.call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retry_is_due = False
        queued, self._queued = self._queued, deque()
        while queued and not self._queued:
            self._run_pending(queued.popleft())
        # The first one still waits, and so do those behind it.
        self._queued.extend(each for each in queued if each not in self._queued)

    def cancelled(self, peer: ClientSession, request_id: int) -> None:
        """Drop a request whose client does not wait any more; return what it had claimed."""
        session = self._sessions.get(peer.session)
        if session is None:
            return
        self._waiters.forget(peer, request_id)
        for entry in [each for each in session.waiting if each[0] == request_id]:
            if entry[1][0] not in ONE_WAY:
                session.waiting.remove(entry)
        for claim in [each for each in session.claims if each[0] == request_id]:
            session.claims.remove(claim)
            self._return_claim(session, *claim[1:])

    def _return_claim(self, session: StoreSession, container_id: int, ticket: int) -> None:
        try:
            session.backend.return_claim(container_id, ticket)
        except StoreBusy:
            self._loop.call_later(RETRY_S, self._return_claim, session, container_id, ticket)
        except ContainerGone:
            pass
        else:
            self._waiters.notify_changed()

    # -- transactions -----------------------------------------------------------------------------

    def _begin(
        self, session: StoreSession, request_id: int, name: bytes, timeout: float | None
    ) -> None:
        if name != session.client_name:
            self._clients.disconnected(session.client_name, session.client, session)
            session.client_name, session.client = self._clients.connected(bytes(name), session)
        try:
            session.backend.begin(0)
        except (StoreBusy, TimeoutError):
            if timeout is not None and timeout <= 0:
                raise TimeoutError(f"another transaction has lasted for {timeout} s") from None
            if timeout is not None and session.begin_with_timeout != request_id:
                session.begin_with_timeout = request_id
                self._loop.call_later(timeout, self._begin_timed_out, session, request_id, timeout)
            raise StoreBusy from None
        session.begin_with_timeout = 0
        session.transaction = OPEN
        self._note_activity(session)
        session.began_at = session.active_at
        if not session.transaction_timer_runs:
            self._check_transaction(session)
        session.reply(request_id)

    def _begin_timed_out(self, session: StoreSession, request_id: int, timeout: float) -> None:
        if session.waiting and session.waiting[0][0] == request_id == session.begin_with_timeout:
            session.begin_with_timeout = 0
            session.waiting.popleft()
            text = f"another transaction has lasted for {timeout} s"
            session.peer.session.fail(request_id, "TimeoutError", text)
            self._run_pending(session)

    def _commit(self, session: StoreSession, request_id: int) -> None:
        self._note_activity(session)
        session.transaction = NONE
        session.backend.commit()
        session.reply(request_id)
        self._retry_soon()

    def _abort(self, session: StoreSession, request_id: int) -> None:
        if session.transaction == OPEN:
            self._abort_now(session)
        session.transaction = NONE
        session.reply(request_id)

    def _abort_now(self, session: StoreSession) -> None:
        session.transaction = ENDED
        session.backend.abort()
        self._retry_soon()

    def _note_activity(self, session: StoreSession) -> None:
        """Restart the clock of an idle transaction; raise if it was aborted."""
        if session.transaction == ENDED:
            raise TransactionFailed(f"this transaction was undone: {session.undone_because}")
        session.active_at = time.monotonic()

    def _check_transaction(self, session: StoreSession) -> None:
        """Abort a transaction that is idle or lasts too long: other writers wait for its end."""
        session.transaction_timer_runs = False
        if session.transaction != OPEN or not session.peer.alive:
            return
        limits = self._loop.limits
        idle_at = session.active_at + limits.idle_transaction_s
        late_at = session.began_at + limits.max_transaction_s
        left = min(idle_at, late_at) - time.monotonic()
        if left > 0:
            session.transaction_timer_runs = True
            self._loop.call_later(left, self._check_transaction, session)
            return
        if idle_at < late_at:
            why = f"nothing was done in it for {limits.idle_transaction_s:g} s"
        else:
            why = f"it has lasted for {limits.max_transaction_s:g} s (Limits.max_transaction_s)"
        session.undone_because = f"{why}, and others wait for its end"
        peer = session.peer.session.peer
        self._loop.log.warning("a transaction of %s was undone: %s", peer, why)
        self._abort_now(session)

    def _retry_soon(self) -> None:
        if self._queued and not self._retry_is_due:
            self._retry_is_due = True
            self._loop.call_later(0, self._retry)

    # -- iterations -------------------------------------------------------------------------------

    def _scan(
        self,
        session: StoreSession,
        request_id: int,
        container_id: int,
        what: str,
        reverse: bool,
        count: int,
    ) -> None:
        scan = session.backend.scan(container_id, what, reverse)
        first = scan.next(count)
        number = 0
        if len(first) == count:
            self._check_scans(session)
            session.last_scan = number = session.last_scan + 1
            session.scans[number] = scan
        else:
            scan.close()
        session.reply(request_id, number, to_wire(first))

    def _check_scans(self, session: StoreSession) -> None:
        """Raise if too many iterations are open; end one of a key that only reads in time."""
        if len(session.scans) >= MAX_SCANS:
            raise ValueError(f"{MAX_SCANS} iterations are open; finish some, or copy()")
        key = session.peer.session.key
        open_scans = [(each.peer.session.key, len(each.scans)) for each in self._sessions.values()]
        if sum(count for _, count in open_scans) >= MAX_ALL_SCANS:
            raise ValueError(f"{MAX_ALL_SCANS} iterations of all clients are open; try copy()")
        if key.access >= Access.FULL:
            return
        if sum(count for other, count in open_scans if other == key) >= MAX_SCANS:
            raise ValueError(f"{MAX_SCANS} iterations with the key {key.name!r} are open")
        limit = self._loop.limits.max_transaction_s
        self._loop.call_later(limit, self._end_scan, session, session.last_scan + 1)

    @staticmethod
    def _end_scan(session: StoreSession, number: int) -> None:
        scan = session.scans.pop(number, None)
        if scan is not None:
            scan.close()

    def _scan_next(self, session: StoreSession, request_id: int, number: int, count: int) -> None:
        scan = session.scans.get(number)
        if scan is None:
            raise LookupError("this iteration is closed")
        entries = scan.next(count)
        if len(entries) < count:
            session.scans.pop(number).close()
        session.reply(request_id, to_wire(entries))

    def _scan_close(self, session: StoreSession, request_id: int, number: int) -> None:
        self._end_scan(session, number)
        session.reply(request_id)

    # -- the rest ---------------------------------------------------------------------------------

    def _wait_for_change(
        self,
        session: StoreSession,
        request_id: int,
        container_id: int,
        seen: int,
        timeout: float | None,
    ) -> None:
        self._waiters.wait(session.peer, request_id, container_id, seen, timeout)

    def _waiter_count(self, session: StoreSession, request_id: int) -> None:
        session.reply(request_id, self._waiters.count)

    def _uuid(self, session: StoreSession, request_id: int) -> None:
        session.reply(request_id, self._store.uuid)

    def _pickle_store(self, session: StoreSession, request_id: int) -> None:
        # From the memory itself a client could not be kept from writing, nor its key revoked.
        may_open = session.peer.access >= Access.OWNER
        place = (_os.boot_id(), pickle_for_manager(self._store)) if may_open else ("", b"")
        session.reply(request_id, *place)

    @staticmethod
    def _owner(session: StoreSession, request_id: int) -> None:
        session.reply(request_id, session.client.owner)

    @staticmethod
    def _release_transfer(
        session: StoreSession, request_id: int, container_id: int, sender: int
    ) -> None:
        """Release the sender's reference; the receiver has its own by now."""
        session.backend.owner = sender
        try:
            session.backend.release_ref(container_id)
        finally:
            session.backend.owner = session.owner
        session.reply(request_id)

    def _resume(self, session: StoreSession, request_id: int, container_ids: list[int]) -> None:
        backend, client = session.backend, session.client
        container_ids = list(dict.fromkeys(container_ids))
        if session.peer.access < Access.FULL and len(container_ids) > MAX_RESUMED:
            raise ValueError(f"a client that only reads takes {MAX_RESUMED} references again")
        if client.is_new:
            backend.begin(0)
            try:
                with self._as_client(session):
                    client.is_new = True
                    client.resume(backend, container_ids)
            finally:
                backend.commit()
        session.reply(request_id)

    def closed(self, peer: ClientSession) -> None:
        """Abort its transaction, return its claims; its client keeps the references for a while."""
        session = self._sessions.pop(peer.session, None)
        if session is None:
            return
        self._waiters.forget(peer)
        for scan in session.scans.values():
            scan.close()
        if session.transaction == OPEN:
            self._abort_now(session)
        self._release_claims(session.owner)
        self._clients.disconnected(session.client_name, session.client, session)

    def _release_claims(self, owner: int) -> None:
        try:
            self._backend.session(owner, encoded=True, blocking=False).release_claims(owner)
        except StoreBusy:
            self._loop.call_later(RETRY_S, self._release_claims, owner)
        else:
            self._store.drop_client_id(owner)
            self._waiters.notify_changed()

    def stopping(self) -> None:
        """Answer all that wait for a change."""
        self._waiters.answer_all()

    def ended(self) -> None:
        """The server has ended."""
        self._waiters.close()
