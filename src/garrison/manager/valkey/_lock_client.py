"""Carries out what a lock of a manager asks of its server: as scripts, with waits in between.

`RemoteLock` and the others talk to a client with a connection. This is such a client whose
connection is a `Link`: a request is a script, and a thread that has to wait sleeps at a list of its
own, until a script of another process puts the answer there.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError, ManagerLost
from garrison.manager.valkey._errors import ServerRefused
from garrison.manager.valkey._lock_scripts import LOCK_SCRIPTS
from garrison.manager.valkey._session import in_a_hurry
from garrison.net import LEASE_EXPIRED, NOT_OWNER, UNKNOWN, WRONG_KIND, RemoteFailure

if TYPE_CHECKING:
    from garrison.manager.valkey._connection import Link

__all__ = ["LockClient", "get_lock_client"]

KINDS = {"LEASE": LEASE_EXPIRED, "NOTOWNER": NOT_OWNER, "UNKNOWN": UNKNOWN, "KIND": WRONG_KIND}
WAITS = b"wait"
TRANSFER_GRACE_MS = 60_000
"""For so long a lock without a name is kept while its pickle may be on its way."""


class LockClient:
    """The locks on the server of a link."""

    is_connected = True

    def __init__(self, link: Link) -> None:
        self.link = link
        self.address = str(link.url)
        self.connection = _LockConnection(link)

    @property
    def client_id(self) -> str:
        """The session of this process: what it has opened is known under it."""
        return self.link.session.id

    def __reduce__(self) -> tuple[Any, ...]:
        return get_lock_client, (self.link,)


class _LockConnection:
    """Stands for a connection: the requests of locks are scripts."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def send_oneway(self, _: object, operation: str, name: str) -> None:
        """Close a lock, soon: this may be called by a finalizer."""
        session = self._link.session
        session.later(lambda: self._run(operation, session.id, name))

    def ask(
        self, _: object, operation: str, name: str, *fields: Any, idempotent: bool = False
    ) -> list[Any]:
        """Carry out an operation; return the fields of its reply.

        Parameters
        ----------
        operation, name, *fields
            As a server's `LockService` takes them.
        idempotent
            Accepted for the protocol's sake: here the scripts know.
        """
        del idempotent
        if operation == "open":
            return self._open(name, *fields)
        if operation in {"acquire", "wait", "cancel"}:
            return self._wait(operation, name, *fields)
        if operation == "release":
            fields = (*fields, self._link.session.first_number)
        elif operation == "notify":
            thread, count, number = fields
            fields = (thread, -1 if count is None else count, number)
        elif operation == "send":
            fields = (TRANSFER_GRACE_MS,)
        reply: list[Any] = self._run(operation, self._link.session.id, name, *fields)
        return reply

    def _open(
        self, name: str, kind: str, size: int, lock_name: str, is_anonymous: bool
    ) -> list[Any]:
        chosen = name or f"#{secrets.token_hex(8)}"
        fields = (chosen, kind, size, lock_name, int(is_anonymous))
        while True:
            session = self._link.session
            try:
                return [chosen, *self._run("open", session.id, *fields)]
            except RemoteFailure:
                if session.is_alive:  # else it was over, and another one begins
                    raise

    def _run(self, operation: str, session: str, name: str, *fields: Any) -> Any:
        """Run a script; raise what a server would answer."""
        link = self._link
        try:
            return link.run_script(
                LOCK_SCRIPTS[operation], [link.tag], (operation, session, name, *fields)
            )
        except ServerRefused as refusal:
            code, _, text = refusal.text.partition(" ")
            if code == "SESSION":  # it is over: what this process has opened is opened again
                link.session.abandon(session)
                code = "UNKNOWN"
            if code not in KINDS:
                raise
            raise RemoteFailure(KINDS[code], text) from None

    # -- waiting ----------------------------------------------------------------------------------

    def _wait(
        self,
        operation: str,
        name: str,
        thread: int,
        mark: int,
        timeout: float | None = None,
        *more: Any,
    ) -> list[Any]:
        try:
            return [_Wait(self, name, thread, mark).run(operation, timeout, more)]
        except (ManagerLost, OSError):
            self._undo(name, thread, mark)
            raise

    def _undo(self, name: str, thread: int, mark: int) -> None:
        """Leave no lease behind that its thread does not know of."""
        session = self._link.session
        held = session.id if session.is_alive else ""
        try:
            with in_a_hurry():
                self._run("cancel", held, name, thread, mark)
        except (GarrisonError, OSError):
            session.abandon(held)


class _Wait:
    """One wait of one thread, and where its answer comes."""

    def __init__(self, connection: _LockConnection, name: str, thread: int, mark: int) -> None:
        self._run = connection._run
        self._link = connection._link
        self._name, self._thread, self._mark = name, thread, mark

    def run(self, operation: str, timeout: float | None, more: tuple[Any, ...]) -> Any:
        """Ask, and sleep until there is an answer or the time is over."""
        if operation == "acquire" and timeout is not None and timeout <= 0:
            return self._once("try")
        deadline = None if timeout is None else time.monotonic() + timeout
        is_first = 1
        while True:
            reply = self._once(operation, is_first, *map(_plain, more))
            if not _is_waiting(reply):
                return reply
            is_first = 0
            answer = self._sleep(reply[1] / 1000, deadline)
            if answer is not None:
                return answer
            if deadline is not None and time.monotonic() >= deadline:
                reply = self._once("leave")
                if not _is_waiting(reply):
                    return reply
                deadline = None  # a condition's lock has to be acquired again

    def _once(self, operation: str, *more: Any) -> Any:
        session = self._link.session.id
        reply = self._run(operation, session, self._name, self._thread, self._mark, *more)
        return reply[0] if len(reply) == 1 else reply

    def _sleep(self, seconds: float, deadline: float | None) -> Any:
        if deadline is not None:
            seconds = min(seconds, max(0.001, deadline - time.monotonic()))
        key = self._link.key("wake", self._link.session.id, self._thread)
        # It stays in the list, so that it can be read again if the connection breaks.
        found = self._link.block("BLMOVE", key, key, "LEFT", "LEFT", timeout=seconds)
        if not found:
            return None  # the time is over, or the connection was broken
        mark, *answer = map(int, found.split())
        if mark != self._mark:
            return None
        return answer[0] if len(answer) == 1 else answer


def _is_waiting(reply: Any) -> bool:
    return isinstance(reply, list) and reply[0] == WAITS


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


# -- one for each link ----------------------------------------------------------------------------

_clients: weakref.WeakKeyDictionary[Link, weakref.ref[LockClient]] = weakref.WeakKeyDictionary()
_making = threading.RLock()


def get_lock_client(link: Link) -> LockClient:
    """Return the client for a link's locks: the same one for as long as it is used."""
    with _making:
        known = _clients.get(link)
        found = known() if known is not None else None
        if found is None:
            found = LockClient(link)
            _clients[link] = weakref.ref(found)
        return found


def _after_fork() -> None:
    """Make the lock anew: another thread of the parent may have held it."""
    global _making  # noqa: PLW0603 - as said
    _making = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
