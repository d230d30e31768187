"""The client's side of a server's locks: found by name, closed when this process drops it."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from multiprocessing import util

from garrison._typing import Any, ClassVar
from garrison.errors import LeaseLost, ManagerLost, NotHeld, WrongKind
from garrison.manager._remote_errors import FORBIDDEN, RemoteError
from garrison.manager.client._proxy_attributes import ProxyAttributes
from garrison.net import LEASE_EXPIRED, NOT_OWNER, UNKNOWN, WRONG_KIND, RemoteFailure, Verb
from garrison.store import ReferenceCounts

__all__ = ["DEFINITE_ERRORS", "RemoteObject", "RemoteWait"]

_marks = itertools.count(1)
_used: weakref.WeakKeyDictionary[Any, ReferenceCounts[str]] = weakref.WeakKeyDictionary()
"""For each server, the names of the locks that this process uses."""


def _users_of(client: Any) -> ReferenceCounts[str]:
    found = _used.get(client)
    if found is None:
        server = weakref.ref(client)

        def close(name: str) -> bool:
            there = server()
            if there is not None and there.is_connected:
                there.connection.send_oneway(Verb.LEASE, "close", name)
            return True

        found = _used[client] = ReferenceCounts(lambda _: None, close)
    return found


def _after_fork() -> None:
    for names in list(_used.values()):
        names.reset_after_fork()


os.register_at_fork(after_in_child=_after_fork)


def _rebuild(kind: type[RemoteObject], client: Any, *rest: Any) -> RemoteObject:
    return kind(client, *rest)


class RemoteObject(ProxyAttributes):
    """A lock, event, condition or barrier of a server, by its name there.

    Parameters
    ----------
    client : Client or LockClient
        Of a server of garrison's, or of Valkey.
    name, size, anonymous
        As a server's `LockService` takes them.
    """

    _TYPEID: ClassVar[str]
    """The kind of object, as the server calls it."""

    def __init__(
        self, client: Any, name: str = "", size: int = 1, anonymous: bool | None = None
    ) -> None:
        self._client = client
        self._name = name
        self._size = size
        self._is_anonymous = not name if anonymous is None else anonymous
        self._opened_by = b""
        self._ensure_opened()
        users = _users_of(client)
        users.add_existing(self._name)
        weakref.finalize(self, users.remove, self._name).atexit = False
        if self._is_anonymous:
            util.register_after_fork(self, RemoteObject._ensure_opened)

    @property
    def _id(self) -> str:
        return self._name

    @property
    def _typeid(self) -> str:
        return self._TYPEID

    def _lock_name(self) -> str:
        return ""

    def _ensure_opened(self) -> Any:
        """Return the connection to the server, on which this process has opened the object."""
        client = self._client
        client_id = client.client_id
        if self._opened_by != client_id:
            fields = (self._name, self._typeid, self._size, self._lock_name(), self._is_anonymous)
            try:
                opened = client.connection.ask(
                    Verb.LEASE, "open", *fields, idempotent=bool(self._name)
                )
            except RemoteFailure as refusal:
                raise self._error(refusal) from None
            self._name, self._size = opened
            self._opened_by = client_id
        return client.connection

    def _ask(self, operation: str, *fields: Any, again: bool = False) -> Any:
        while True:
            connection = self._ensure_opened()
            try:
                return connection.ask(Verb.LEASE, operation, self._name, *fields, idempotent=again)
            except RemoteFailure as refusal:
                if refusal.kind != UNKNOWN:
                    raise self._error(refusal) from None
                self._opened_by = b""  # the server was restarted

    def _error(self, refusal: RemoteFailure) -> Exception:
        text = f"{refusal.text} ({self!r})"
        kinds: dict[str, type[Exception]] = {
            LEASE_EXPIRED: LeaseLost,
            NOT_OWNER: NotHeld,
            WRONG_KIND: WrongKind,
            FORBIDDEN: PermissionError,
        }
        return kinds.get(refusal.kind, RemoteError)(text)

    def _wait(self, operation: str, timeout: float | None, *more: Any, again: bool = True) -> Any:
        """Send a request that may take `timeout` seconds; undo it if it is interrupted."""
        wait = RemoteWait(self)
        try:
            return wait.ask(operation, timeout, *more, again=again)
        except DEFINITE_ERRORS:
            raise
        except BaseException:
            wait.cancel()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_anonymous:
            self._ask("send", again=True)
        return _rebuild, (type(self), self._client, self._name, self._size, self._is_anonymous)

    def __repr__(self) -> str:
        return f"<{self._typeid} {self._name!r} of the manager at {self._client.address!r}>"

    __str__ = __repr__


DEFINITE_ERRORS = (LeaseLost, NotHeld, ManagerLost, WrongKind, RemoteError)
"""Errors after which the server has no such wait any more."""


class RemoteWait:
    """A wait that can be undone: its answer may arrive after an interruption."""

    def __init__(self, remote: RemoteObject) -> None:
        self._remote = remote
        self._id = (threading.get_ident(), next(_marks))

    def ask(self, operation: str, timeout: float | None, *more: Any, again: bool) -> Any:
        """Wait; `again` says whether the wait is repeated on a new connection."""
        return self._remote._ask(operation, *self._id, timeout, *more, again=again)[0]

    def cancel(self) -> Any:
        """Undo the wait, and return its result."""
        try:
            return self._remote._ask("cancel", *self._id)[0]
        except DEFINITE_ERRORS:
            return 0  # gone with the connection
