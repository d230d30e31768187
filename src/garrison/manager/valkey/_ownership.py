"""A process as an owner of references and claims, whose lease its session's thread renews.

An owner is known to the server by a number, made of its session's. If its lease is over, whoever
comes next gives back what it has; if it was only paused, it takes its references anew.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ownership"]

REFERENCES_PER_SCRIPT = 1 << 12


class Ownership:
    """The part of a backend that is about its process."""

    _link: Any
    _owner: str
    _session_id: str
    _is_hooked: bool
    _registering: Any
    lease_ms: int
    fences: set[str]
    releases: deque[int]
    """References that are not needed any more; the session's thread tells the server."""
    on_new_owner: Callable[[], object] | None = None
    """Called when the references of this process have to be taken anew."""

    def run(self, name: str, *args: Any) -> Any:
        """Run a script."""
        raise NotImplementedError

    def write(self, name: str, *args: Any) -> Any:
        """Run a script that changes something; it is carried out once."""
        raise NotImplementedError

    def _send(self, name: str, args: tuple[Any, ...], key: Any, request: str) -> Any:
        raise NotImplementedError

    @property
    def owner(self) -> str:
        """The number under which this process has references and claims; it has a lease."""
        self._check_session()
        return self._owner

    def _check_session(self) -> None:
        if self._link.session.id != self._session_id:
            self._register()

    def _register(self) -> None:
        session = self._link.session
        with self._registering:
            name = session.id
            if name == self._session_id:
                return
            had_one = bool(self._session_id)
            self._session_id, self._owner = name, str(int(name, 16))
            if not self._is_hooked:
                session.on_renew.append(_weakly(self.renew))
                session.on_end.append(_weakly(self.leave))
                self._is_hooked = True
            self._send("renew", (self.lease_ms,), None, "")
            if had_one and self.on_new_owner is not None:
                self.on_new_owner()

    def renew(self) -> None:
        """Renew the leases of this process; the thread of the session calls it."""
        if not self._session_id:
            return
        self._check_session()
        known, _ = self._send("renew", (self.lease_ms, *self.fences), None, "")
        if not known and self.on_new_owner is not None:
            self.on_new_owner()
        self.collect_garbage(grace_ms="")

    def leave(self) -> None:
        """Give back what this process has: it uses the store no more."""
        if self._session_id:
            self.releases = deque()
            try:
                self._send("leave", (), None, "")
            finally:
                self._session_id = ""

    def after_fork(self) -> None:
        """Begin as an owner that is not known yet: in a forked child it is another one."""
        self._owner, self._session_id, self._is_hooked = "0", "", False
        self._registering = threading.RLock()
        self.fences, self.releases = set(), deque()

    def release_later(self, c: int) -> None:
        """Let the session's thread release a reference: a finalizer calls this."""
        self.releases.append(c)
        self._link.session.later(_weakly(self.flush_releases))

    def flush_releases(self) -> None:
        """Tell the server which references are not needed any more."""
        while self.releases:
            some: list[int] = []
            with contextlib.suppress(IndexError):
                while len(some) < REFERENCES_PER_SCRIPT:
                    some.append(self.releases.popleft())
            try:
                self.write("release_refs", self.owner, *some)
            except BaseException:
                self.releases.extend(some)
                raise

    def acquire_ref(self, c: int) -> None:
        """Take a reference to a container."""
        self.write("acquire_ref", c, self.lease_ms)

    def release_ref(self, c: int, owner: int | None = None) -> None:
        """Release a reference of this owner, or of another."""
        self.write("release_refs", self.owner if owner is None else owner, c)

    def resume(self, container_ids: list[int]) -> None:
        """Take references anew, for an owner that was given up."""
        self.write("resume", self.lease_ms, *container_ids)

    def release_owner(self, _: int) -> None:
        """Give back what this owner has claimed; for tests."""
        self.write("release_claims")

    def collect_garbage(self, grace_ms: int | str = 0) -> None:
        """Free what nothing has referred to for some milliseconds; by default a minute."""
        self.flush_releases()
        while self.run("collect", grace_ms):
            pass


def _weakly(method: Callable[[], object]) -> Callable[[], object]:
    """Return a function that calls a method as long as its object lives."""
    found: Any = weakref.WeakMethod(method)

    def call() -> None:
        there = found()
        if there is not None:
            there()

    return call
