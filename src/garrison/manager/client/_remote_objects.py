"""What a server lends, as a client has it: found by name, and let go of when nobody uses it."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from multiprocessing import util

from garrison._typing import Any
from garrison.errors import LeaseLost, ManagerLost, NotHeld, WrongKind
from garrison.manager._auth_keys import KNOWN_KEYS
from garrison.manager._remote_errors import RemoteError
from garrison.manager.client._as_proxy import AsProxy
from garrison.manager.client._client import get_client
from garrison.net import LOAN_OVER, NOT_YOURS, UNKNOWN, WRONG_KIND, RemoteFailure, Verb
from garrison.store._references import Held

__all__ = ["ANSWERS", "Far", "Wait"]

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
                there.connection.send_oneway(Verb.LEASE, "close", name)
            return True

        found = _used[client] = Held(lambda _: None, close)
    return found


def _after_fork() -> None:
    for held in list(_used.values()):
        held.forget_others()


os.register_at_fork(after_in_child=_after_fork)


def _rebuild(kind: type[Far], place: tuple[Any, ...], *rest: Any) -> Far:
    address, *key = place
    if key:
        (KNOWN_KEYS[address],) = key
    return kind(get_client(address, None, local=False), *rest)


class Far(AsProxy):
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
            util.register_after_fork(self, Far._here)

    @property
    def _id(self) -> str:
        return self._name

    @property
    def _typeid(self) -> str:
        return type(self).__name__.removeprefix("Far")

    def _lock_name(self) -> str:
        return ""

    def _here(self) -> Any:
        """Return the way to the server, where this process uses the thing."""
        client = self._client
        name = client.name
        if self._opened_by != name:
            fields = (self._name, self._typeid, self._size, self._lock_name(), self._is_anonymous)
            try:
                opened = client.connection.ask(
                    Verb.LEASE, "open", *fields, idempotent=bool(self._name)
                )
            except RemoteFailure as refusal:
                raise self._error(refusal) from None
            self._name, self._size = opened
            self._opened_by = name
        return client.connection

    def _ask(self, operation: str, *fields: Any, again: bool = False) -> Any:
        while True:
            connection = self._here()
            try:
                return connection.ask(Verb.LEASE, operation, self._name, *fields, idempotent=again)
            except RemoteFailure as refusal:
                if refusal.kind != UNKNOWN:
                    raise self._error(refusal) from None
                self._opened_by = b""  # the server was started anew

    def _error(self, refusal: RemoteFailure) -> Exception:
        text = f"{refusal.text} ({self!r})"
        kinds: dict[str, type[Exception]] = {
            LOAN_OVER: LeaseLost,
            NOT_YOURS: NotHeld,
            WRONG_KIND: WrongKind,
        }
        return kinds.get(refusal.kind, RemoteError)(text)

    def _wait(self, operation: str, timeout: float | None, *more: Any, again: bool = True) -> Any:
        """Ask for something that may take as long as `timeout`; if interrupted, take it back."""
        wait = Wait(self)
        try:
            return wait.ask(operation, timeout, *more, again=again)
        except ANSWERS:
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
        return f"<{self._typeid} {self._name!r} of the manager at {self._client.address!r}>"

    __str__ = __repr__


ANSWERS = (LeaseLost, NotHeld, ManagerLost, WrongKind, RemoteError)
"""What the server, or the end of the connection to it, has made of a wait: it is over there."""


class Wait:
    """A wait that can be taken back: the answer may come when nobody takes it any more."""

    def __init__(self, far: Far) -> None:
        self._far = far
        self._id = (threading.get_ident(), next(_marks))

    def ask(self, operation: str, timeout: float | None, *more: Any, again: bool) -> Any:
        """Wait; on a new connection begin again, if that is asked for."""
        return self._far._ask(operation, *self._id, timeout, *more, again=again)[0]

    def cancel(self) -> Any:
        """Undo what has come of it, and return that."""
        try:
            return self._far._ask("cancel", *self._id)[0]
        except ANSWERS:
            return 0  # gone with the connection
