"""The part of a server that serves its store to sessions from afar, and keeps it tidy.

Keys and values come and go as they are encoded: nothing of what they contain is looked at here.
What comes together in one turn is one transaction; who is late waits in line, the loop never does.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from garrison import _os
from garrison._core import ContainerGone, StoreBusy, StoreFull, WrongKind
from garrison.manager import _verbs as verbs
from garrison.manager._lender import LeasePart
from garrison.manager._operations import OPERATIONS
from garrison.manager._refusals import REMOTE
from garrison.manager._serializers import dumps
from garrison.manager._server import Server
from garrison.manager._service import AWAY, Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.manager._loop import Loop
    from garrison.manager._service import Peer
    from garrison.store._home import Home

__all__ = ["StorePart", "StoreServer"]

log = logging.getLogger("garrison.manager")

EVERY = 1.0
"""Seconds between two looks at who has died."""
RETRY = 0.002
"""Seconds until a busy store is tried again."""
TRANSACTION = 10.0
"""Seconds that a client's transaction may be idle: everybody's changes wait for it."""
SWEPT = 1000
"""Records of what nobody wants that are freed at one look."""
SCANS = 64
"""Iterations that a session may have open; each keeps a state of the store."""


@dataclass(eq=False)
class Visit:
    """What a session has of the store."""

    peer: Peer
    owner: int
    view: Any
    waiting: deque[tuple[int, list[Any]]] = field(default_factory=deque)
    batch: list[tuple[int, list[Any]]] | None = None
    calls: dict[str, tuple[Any, int, list[Any]]] = field(default_factory=dict)
    scans: dict[int, Any] = field(default_factory=dict)
    last_scan: int = 0
    in_transaction: bool = False
    began: float = 0.0
    """Since when it has been waiting for its transaction."""
    touched: float = 0.0


class StorePart(Part):
    """A store's operations, for sessions."""

    collects = True

    def __init__(self, loop: Loop, home: Home) -> None:
        self._loop = loop
        self._home = home
        self._engine = home.engine
        self._visits: dict[Any, Visit] = {}
        self._busy: deque[Visit] = deque()
        self._retrying = False
        self._bells: dict[int, list[Any]] = {}
        self._watcher: threading.Thread | None = None
        self._dead: dict[int, float] = {}
        self._graves: set[int] = set()
        self.verbs = {verbs.STORE: self._request}
        self._special = {
            "home": self._give_home,
            "begin": self._begin,
            "commit": self._commit,
            "abort": self._abort,
            "scan": self._scan,
            "scan_next": self._scan_next,
            "scan_close": self._scan_close,
            "wait_bell": self._wait_bell,
            "received": self._received,
            "owner": self._owner,
        }
        loop.call_later(EVERY, self._tidy)

    # -- requests ---------------------------------------------------------------------------------

    def _visit(self, peer: Peer) -> Visit:
        visit = self._visits.get(peer.session)
        if visit is None:
            owner = self._home.sign_for_guest()
            view = self._engine.view(owner, raw=True, wait=False)
            visit = self._visits[peer.session] = Visit(peer, owner, view)
        return visit

    def _request(self, peer: Peer, rid: int, args: list[Any]) -> None:
        visit = self._visit(peer)
        if visit.batch is not None and args[0] in OPERATIONS:
            visit.batch.append((rid, args))
            return
        self.flush(peer)
        visit.waiting.append((rid, args))
        if len(visit.waiting) == 1:
            self._work(visit)

    def batch_begin(self, peer: Peer) -> None:
        """Collect what comes now."""
        visit = self._visits.get(peer.session)
        if visit is not None and not visit.waiting:
            visit.batch = []

    def flush(self, peer: Peer) -> None:
        """Do what was collected."""
        visit = self._visits.get(peer.session)
        if visit is None or not visit.batch:
            return
        batch, visit.batch = visit.batch, []
        visit.waiting.extend(batch)
        if not self._together(visit, batch):
            self._work(visit)

    def batch_end(self, peer: Peer) -> None:
        """Do what was collected, and collect no more."""
        self.flush(peer)
        visit = self._visits.get(peer.session)
        if visit is not None:
            visit.batch = None

    def _together(self, visit: Visit, batch: list[Any]) -> bool:
        """Do several operations in one transaction, if that is worth it and possible."""
        if len(batch) == 1 or visit.in_transaction:
            return False
        if not any(OPERATIONS[args[0]].writes for _, args in batch):
            return False
        try:
            visit.view.begin(0)
        except (StoreBusy, TimeoutError):
            return False
        try:
            answers = [self._answer(visit, args) for _, args in batch]
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
        self._look()
        return True

    def _work(self, visit: Visit) -> None:
        """Do what a session waits for, as far as that goes now."""
        visit.touched = time.monotonic()
        while visit.waiting and visit.peer.alive:
            rid, args = visit.waiting[0]
            try:
                special: Any = self._special.get(args[0])
                if special is not None:
                    special(visit, rid, *args[1:])
                else:
                    self._send(visit, rid, self._answer(visit, args))
            except StoreBusy:
                self._later(visit)
                return
            except Exception as error:
                visit.peer.session.fail(rid, *_told(error))
            visit.waiting.popleft()
        self._look()

    def _answer(self, visit: Visit, args: list[Any]) -> Any:
        call, count, readers = visit.calls.get(args[0]) or self._learn(visit, args[0])
        if len(args) != count:
            raise ValueError(f"{args[0]} takes {count - 1} arguments, not {len(args) - 1}")
        try:
            for place, read in readers:
                args[place] = read(args[place])
            return call(*args[1:])
        except (KeyError, IndexError, ContainerGone, WrongKind, TypeError, ValueError) as error:
            return error

    @staticmethod
    def _learn(visit: Visit, name: str) -> tuple[Any, int, list[Any]]:
        """Prepare an operation for a session: the call, how many arguments, how to read some."""
        operation = OPERATIONS.get(name)
        if operation is None:
            raise ValueError(f"there is no operation {name!r}")
        first = 1 if operation.anywhere else 2
        readers = [
            (place, _READ[letter])
            for place, letter in enumerate(operation.takes, first)
            if letter in _READ
        ]
        known = (getattr(visit.view, name), first + len(operation.takes), readers)
        visit.calls[name] = known
        return known

    @staticmethod
    def _send(visit: Visit, rid: int, answer: Any) -> None:
        if isinstance(answer, BaseException):
            visit.peer.session.fail(rid, *_told(answer))
        else:
            visit.peer.session.reply(rid, _listed(answer))

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
        for visit in busy:
            self._work(visit)

    # -- transactions -----------------------------------------------------------------------------

    def _begin(self, visit: Visit, rid: int, timeout: float | None) -> None:
        began = visit.began = visit.began or time.monotonic()
        if timeout is not None and time.monotonic() - began > timeout:
            visit.began = 0.0
            raise TimeoutError(f"another transaction has lasted for {timeout} s")
        visit.view.begin(0)
        visit.began = 0.0
        visit.in_transaction = True
        visit.touched = time.monotonic()
        self._loop.call_later(TRANSACTION, self._check_idle, visit)
        visit.peer.session.reply(rid)

    def _commit(self, visit: Visit, rid: int) -> None:
        self._must_be_in(visit)
        visit.in_transaction = False
        visit.view.commit()
        visit.peer.session.reply(rid)
        self._retry_soon()

    def _abort(self, visit: Visit, rid: int) -> None:
        if visit.in_transaction:
            self._end(visit)
        visit.peer.session.reply(rid)

    def _end(self, visit: Visit) -> None:
        visit.in_transaction = False
        visit.view.abort()
        self._retry_soon()

    @staticmethod
    def _must_be_in(visit: Visit) -> None:
        if not visit.in_transaction:
            raise TimeoutError(
                f"the transaction was ended: nothing was done in it for {TRANSACTION:.0f} s"
            )

    def _check_idle(self, visit: Visit) -> None:
        if not visit.in_transaction or not visit.peer.alive:
            return
        left = visit.touched + TRANSACTION - time.monotonic()
        if left > 0:
            self._loop.call_later(left, self._check_idle, visit)
        else:
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
        visit.peer.session.reply(rid, number, _listed(first))

    def _scan_next(self, visit: Visit, rid: int, number: int, count: int) -> None:
        scan = visit.scans.get(number)
        if scan is None:
            raise LookupError("this iteration is closed")
        entries = scan.next(count)
        if len(entries) < count:
            visit.scans.pop(number).close()
        visit.peer.session.reply(rid, _listed(entries))

    def _scan_close(self, visit: Visit, rid: int, number: int) -> None:
        scan = visit.scans.pop(number, None)
        if scan is not None:
            scan.close()
        visit.peer.session.reply(rid)

    # -- waiting for a change ---------------------------------------------------------------------

    def _wait_bell(self, visit: Visit, rid: int, c: int, seen: int, timeout: float | None) -> None:
        if self._engine.bell(c) != seen:
            visit.peer.session.reply(rid, True)
            return
        entry = [visit, rid, seen, False]
        self._bells.setdefault(c, []).append(entry)
        if timeout is not None:
            self._loop.call_later(timeout, self._ring, c, entry, False)
        self._watch()

    def _ring(self, c: int, entry: list[Any], changed: bool) -> None:
        if entry[3]:
            return
        entry[3] = True
        entries = self._bells.get(c, [])
        if entry in entries:
            entries.remove(entry)
        if not entries:
            self._bells.pop(c, None)
        visit, rid = entry[:2]
        if visit.peer.alive:
            visit.peer.session.reply(rid, changed)

    def _look(self) -> None:
        """Answer to those who wait for a change that has come."""
        for c, entries in list(self._bells.items()):
            now = self._engine.bell(c)
            for entry in [each for each in entries if each[2] != now]:
                self._ring(c, entry, True)

    def _watch(self) -> None:
        """Have a thread wait for changes by processes of this machine, while somebody waits."""
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._watch_home, daemon=True)
            self._watcher.start()

    def _watch_home(self) -> None:
        seen = self._engine.bell_global()
        while self._bells:
            if self._engine.wait_global(seen, 1.0):
                seen = self._engine.bell_global()
            self._loop.call_soon_threadsafe(self._look)

    # -- the rest ---------------------------------------------------------------------------------

    def _give_home(self, visit: Visit, rid: int) -> None:
        visit.peer.session.reply(rid, _os.host(), dumps(self._home))

    @staticmethod
    def _owner(visit: Visit, rid: int) -> None:
        visit.peer.session.reply(rid, visit.owner)

    def _received(self, visit: Visit, rid: int, c: int, sender: int) -> None:
        visit.view.hold(c)
        with contextlib.suppress(ContainerGone):
            self._engine.view(sender, raw=True, wait=False).drop(c)
        visit.peer.session.reply(rid)

    def closed(self, peer: Peer) -> None:
        """Take back what a session had: its transaction and claims now, its holds after a while."""
        visit = self._visits.pop(peer.session, None)
        if visit is None:
            return
        for scan in visit.scans.values():
            scan.close()
        if visit.in_transaction:
            self._end(visit)
        self._give_back(visit.owner)
        self._loop.call_later(AWAY, self._forget, visit.owner)

    def _give_back(self, owner: int) -> None:
        try:
            self._engine.view(owner, raw=True, wait=False).release_claims(owner)
        except StoreBusy:
            self._loop.call_later(RETRY, self._give_back, owner)
        else:
            self._look()

    def _forget(self, owner: int) -> None:
        try:
            self._engine.view(owner, raw=True, wait=False).release_owner(owner)
        except StoreBusy:
            self._loop.call_later(RETRY, self._forget, owner)
        else:
            self._home.forget_guest(owner)

    def _tidy(self) -> None:
        """Give back what the dead have claimed, then what they held; free what nobody holds."""
        self._loop.call_later(EVERY, self._tidy)
        now = time.monotonic()
        view = self._engine.view(0, raw=True, wait=False)
        with contextlib.suppress(StoreBusy):
            for owner in view.owners():
                if self._home.is_alive(owner):
                    self._dead.pop(owner, None)
                elif owner not in self._dead:
                    view.release_claims(owner)
                    self._dead[owner] = now
                elif now - self._dead[owner] > AWAY:
                    view.release_owner(owner)
                    del self._dead[owner]
            graves = view.graves()
            if graves:
                # What is buried is kept from one look to the next: a forked child needs a moment to
                # say that it has it.
                view.sweep(SWEPT, [each for each in graves if each in self._graves])
            self._graves = set(graves)


_READ: dict[str, Callable[[Any], Any]] = {
    "k": tuple,
    "P": lambda pairs: [(tuple(key), value) for key, value in pairs],
}
"""How arguments are read that are not as they came, by their letters in the table."""


def _listed(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_listed(each) for each in value]
    if isinstance(value, list):
        return [_listed(each) for each in value]
    return value


def _told(error: BaseException) -> tuple[str, str, bytes]:
    """Return kind and text of what went wrong; the client has the same kinds."""
    for kind in (KeyError, IndexError, ContainerGone, WrongKind, StoreFull, TimeoutError):
        if isinstance(error, kind):
            return kind.__name__, str(error.args[0] if error.args else ""), b""
    for plain in (TypeError, ValueError, LookupError):
        if isinstance(error, plain):
            return plain.__name__, str(error), b""
    log.error("an operation has failed", exc_info=error)
    return REMOTE, f"{type(error).__name__}: {error}", b""


class StoreServer(Server):
    """A server that has a store."""

    def __init__(self, *args: Any, home: Home, **options: Any) -> None:
        super().__init__(*args, **options)
        self.home = home

    def _more(self, loop: Loop) -> tuple[Any, ...]:
        self.home.here()
        self._keep_alone()
        return StorePart(loop, self.home), LeasePart(loop, self._first_number())

    def _keep_alone(self) -> None:
        """One server at a time has a folder."""

    def _first_number(self) -> int:
        """Begin beyond all numbers that a server of this store has given to loans."""
        c, _ = self.home.engine.named("garrison loans", 6)
        engine = self.home.engine
        if not engine.length(c):
            engine.list_append(c, 0)
        return (int(engine.list_add(c, 0, 1)) << 40) + 1
