"""A process's connections to a Valkey or Redis server: found, shared among threads, made again.

A manager's keys all lie in one hash slot, so that also in a cluster one node is asked at a time.
A request takes a spare connection, or makes one; it gives it back once the reply is there. After a
break, a request is repeated if it certainly was not carried out or if it is idempotent; any other
raises `ManagerLost`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from multiprocessing import context

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import LinkBroken, ManagerLost
from garrison.manager.valkey._discovery import Discovery, refuse_eviction
from garrison.manager.valkey._errors import NoScript, NotNow, reply_error
from garrison.manager.valkey._requests import executed, not_now, text_of, unfolded
from garrison.manager.valkey._script import Script
from garrison.manager.valkey._session import PATIENCE, Session
from garrison.manager.valkey._url import ValkeyUrl, parse_url
from garrison.manager.valkey._wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")
    Command = tuple[Any, ...]

__all__ = ["LOOK_AGAIN", "Link", "Script", "get_link", "note_password"]

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
LOOK_AGAIN = b""
"""The reply of a blocking command whose connection was broken."""
BLOCK_S = 10.0
"""Seconds for which a blocking command blocks at most: less than a silent server is waited for."""


class Link:
    """Connections of one process to the server of a URL.

    A forked child makes its own. Threads share it.
    """

    def __init__(self, url: ValkeyUrl) -> None:
        self.url = url
        self.tag = f"{{{url.prefix}}}:"
        """The beginning of all keys."""
        self._keep_spare()
        self._discovery = Discovery(url, self.tag)
        self._waits = self._wait_command()
        self._closed = False
        self.session = Session(self)
        """The sign of life of this process."""
        self.pid = os.getpid()
        _links.add(self)

    def _keep_spare(self) -> None:
        """Begin without connections; those that are spare at this link's end are closed then.

        Also if it is garbage of a cycle: there a socket may come before the object that closes it.
        """
        self._spare: deque[Wire] = deque()
        self._closing = weakref.finalize(self, _close_all, self._spare)
        self._closing.atexit = False

    def __repr__(self) -> str:
        return f"<Link to {self.url}{', closed' if self._closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # As for the server of a manager: only a spawned child gets the password.
        is_child = context.get_spawning_popen() is not None
        return _rebuild_link, (
            self.url.replace(password=None),
            self.url.password if is_child else None,
        )

    def key(self, *parts: object) -> str:
        """Return a key under the URL's prefix."""
        return self.tag + ":".join(map(str, parts))

    # -- asking -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Raise unless the server can be used now.

        Raises
        ------
        OSError
            If there is no server, or no primary, or it is older than version 7.
        AuthenticationError
            If it refuses the login.
        ValueError
            If it evicts keys when its memory is full.
        """
        try:
            wire = self._take()
            refuse_eviction(wire)
        except (NotNow, LinkBroken) as error:
            raise ManagerLost(f"the server at {self.url} cannot be used: {error.args[0]}") from None
        self._spare.append(wire)

    def execute(
        self, *command: Any, idempotent: bool = False, writes: bool = False, key: str = ""
    ) -> Any:
        """Send one command, and return its reply.

        Parameters
        ----------
        *command
            Bytes, texts and numbers.
        idempotent : bool
            Whether it may be repeated after a break.
        writes : bool
            Whether to wait for replicas, if the URL says so.
        key : str
            The key that an error message names.
        """
        what = str(command[0])
        return self._with_wire(
            lambda wire: self._ask(wire, command, what, key, writes), what, idempotent
        )

    def run_script(self, script: Script, keys: Sequence[Any], args: Sequence[Any] = ()) -> Any:
        """Run a script, and return its reply.

        Raises
        ------
        ServerRefused
            If it returns an error: ``return redis.error_reply('CODE text')``.
        """
        command = ("EVALSHA", script.digest, len(keys), *keys, *args)
        key = text_of(keys[0]) if keys else ""

        def use(wire: Wire) -> Any:
            if script.digest in wire.known_scripts:
                try:
                    return self._ask(wire, command, script.name, key, script.writes)
                except NoScript:  # the server was told to forget its scripts
                    pass
            loaded = (("SCRIPT", "LOAD", script.source),)
            reply = self._ask(wire, command, script.name, key, script.writes, loaded)
            wire.known_scripts.add(script.digest)
            return reply

        return self._with_wire(use, script.name, script.idempotent)

    def pipeline(
        self,
        commands: Sequence[Command | tuple[Script, Sequence[Any], Sequence[Any]]],
        *,
        one_step: bool = False,
        idempotent: bool = False,
        writes: bool = True,
    ) -> list[Any]:
        """Send commands, and scripts with their keys and arguments, in one round trip.

        Parameters
        ----------
        commands
            Tuples of words, and tuples of a `Script`, keys and arguments.
        one_step : bool
            Whether no other client is served in between.
        idempotent, writes : bool
            As for `execute`.

        Returns
        -------
        list
            The reply to each, or its exception.
        """

        def use(wire: Wire) -> list[Any]:
            unknown, sent, about = unfolded(wire.known_scripts, commands)
            before = [*unknown, ("MULTI",)] if one_step else unknown
            after = [("EXEC",)] if one_step else []
            replies = self._replies(wire, [*before, *sent, *after], writes)
            if one_step:
                found = executed(self.url, replies[len(before) :], about)
            else:
                found = replies[len(before) :]
            wire.known_scripts.update(digest for _, _, digest in about if digest)
            found = [
                reply_error(self.url, reply, what, key) if isinstance(reply, Exception) else reply
                for reply, (what, key, _) in zip(found, about, strict=True)
            ]
            if found and isinstance(found[0], (NotNow, NoScript)):
                wire.known_scripts.clear()
                raise not_now(found[0])  # nothing was done
            return found

        return self._with_wire(use, "a pipeline", idempotent)

    def block(self, *command: Any, timeout: float | None) -> Any:
        """Send a blocking command whose last argument is its timeout.

        It is sent again and again with some seconds, so that a silent server is noticed.

        Returns
        -------
        object
            The reply; None after the timeout; `LOOK_AGAIN` after a broken connection, for what may
            have come meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        tries: list[bool] = []

        def use(wire: Wire) -> Any:
            tries.append(True)
            if len(tries) > 1:
                return LOOK_AGAIN
            return self._ask(wire, (*command, f"{seconds:.3f}"), str(command[0]), "", False)

        while True:
            rest = BLOCK_S if deadline is None else deadline - time.monotonic()
            if rest <= 0:
                return None
            seconds = max(0.001, min(rest, BLOCK_S))  # 0 would be forever
            tries.clear()
            reply = self._with_wire(use, str(command[0]), idempotent=True)
            if reply is not None:
                return reply

    # -- one request ------------------------------------------------------------------------------

    def _ask(
        self,
        wire: Wire,
        command: Command,
        what: str,
        key: str,
        writes: bool,
        before: tuple[Command, ...] = (),
    ) -> Any:
        reply = self._replies(wire, [*before, command], writes)[len(before)]
        if isinstance(reply, Exception):
            raise reply_error(self.url, reply, what, key)
        return reply

    def _replies(self, wire: Wire, commands: Sequence[Command], writes: bool) -> list[Any]:
        if not writes or self._waits is None:
            return wire.ask_many(commands)
        # A repeated request may find all done. Valkey's WAIT is about what its own connection has
        # written (Redis's about all before it), so that writes something.
        touch = [("SET", self.key("touched"), 1)] if wire.is_repeating else []
        replies = wire.ask_many([*commands, *touch, self._waits])
        confirmed, replies = replies[-1], replies[: len(commands)]
        if not isinstance(replies[-1], Exception):
            self._require_replicas(confirmed)
        return replies

    def _wait_command(self) -> Command | None:
        url, milliseconds = self.url, int(self.url.wait_timeout * 1000)
        if url.waitaof is not None:
            return ("WAITAOF", *url.waitaof, milliseconds)
        return ("WAIT", url.wait, milliseconds) if url.wait else None

    def _require_replicas(self, confirmed: Any) -> None:
        """Raise unless as many servers have confirmed a write as the URL says."""
        url = self.url
        if isinstance(confirmed, Exception):
            raise reply_error(url, confirmed, "WAITAOF" if url.waitaof else "WAIT")
        found = tuple(confirmed) if url.waitaof else (confirmed,)
        wanted = url.waitaof or (url.wait,)
        if any(there < needed for there, needed in zip(found, wanted, strict=True)):
            raise ManagerLost(
                f"the server at {url} has done it, but only {found[-1]} of {wanted[-1]} replicas "
                f"confirmed that within {url.wait_timeout:g} s: it is lost if the primary is"
            )

    def _with_wire(self, use: Callable[[Wire], T], what: str, idempotent: bool) -> T:
        """Call `use` with a connection, again after a break if that is harmless."""
        deadline, pause, maybe_done = 0.0, FIRST_PAUSE, False
        while True:
            wire = None
            try:
                wire = self._take()
                wire.is_repeating = maybe_done
                found = use(wire)
            except (LinkBroken, NotNow, OSError) as error:
                reason = self._reason_to_repeat(wire, error, what, idempotent)
                if not reason:
                    raise
                maybe_done |= isinstance(error, LinkBroken) and bool(error.args[1])
            except Exception:
                self._give_back(wire)
                raise
            else:
                self._spare.append(wire)
                return found
            now = time.monotonic()
            deadline = deadline or now + min(self.url.timeout, PATIENCE.seconds)
            if now >= deadline:
                raise self._lost(what, reason, maybe_done=maybe_done)
            time.sleep(min(pause, deadline - now))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _reason_to_repeat(
        self, wire: Wire | None, error: Exception, what: str, idempotent: bool
    ) -> str:
        """Return why a request has to be repeated; nothing, or raise, because it must not be."""
        if isinstance(error, LinkBroken):
            if error.args[1] and not idempotent:
                raise self._lost(what, error.args[0], maybe_done=True) from None
            return str(error.args[0])
        if isinstance(error, NotNow):
            self._give_back(wire)
            if error.elsewhere:
                self.drop()
            return str(error)
        if wire is None and not isinstance(error, (PermissionError, ManagerLost)):
            return str(error)  # it could not connect
        self._give_back(wire)
        return ""

    def _give_back(self, wire: Wire | None) -> None:
        if wire is not None and wire.is_open:
            self._spare.append(wire)

    def _lost(self, what: str, reason: str, *, maybe_done: bool) -> ManagerLost:
        done = "it may have been carried out" if maybe_done else "it was not carried out"
        return ManagerLost(f"{what} at {self.url} failed: {reason}; {done}")

    # -- connections ------------------------------------------------------------------------------

    def _take(self) -> Wire:
        """Return a spare connection, or a new one."""
        if self._closed:
            raise ManagerLost(f"the connection to {self.url} was closed by this program")
        while True:
            wire = self._pop_spare()
            if wire is None:
                return self._discovery.connect()
            if not wire.is_stale:
                return wire
            wire.close()

    def _pop_spare(self) -> Wire | None:
        try:
            return self._spare.pop()
        except IndexError:  # also if another thread was faster
            return None

    def drop(self) -> None:
        """Close all spare connections: the server is not the one to ask any more."""
        _close_all(self._spare)

    def close(self) -> None:
        """End the session and disconnect; later requests raise `ManagerLost`."""
        self.session.close()
        self._closed = True
        self.drop()
        with _making:
            for place in [place for place, each in list(_by_url.items()) if each is self]:
                del _by_url[place]

    def after_fork(self) -> None:
        """In a child: make connections of its own."""
        self._discovery.after_fork()
        spare = self._spare
        self._closing.detach()
        self._keep_spare()
        self.pid = os.getpid()
        self.session.after_fork()
        for wire in spare:
            wire.forget()


def _close_all(spare: deque[Wire]) -> None:
    while spare:
        with contextlib.suppress(IndexError):  # another thread was faster
            spare.pop().close()


# -- one for each URL -----------------------------------------------------------------------------

_links: weakref.WeakSet[Link] = weakref.WeakSet()
_by_url: weakref.WeakValueDictionary[ValkeyUrl, Link] = weakref.WeakValueDictionary()
_passwords: dict[ValkeyUrl, str | None] = {}
"""The password of each server that this process has used; links are pickled without it."""
_making = threading.Lock()


def get_link(url: ValkeyUrl | str) -> Link:
    """Return this process's connections to a server: the same ones for as long as they are used."""
    place = parse_url(url) if isinstance(url, str) else url
    with _making:
        found = _by_url.get(place)
        if found is None or found._closed:
            found = _by_url[place] = Link(place)
        return found


def note_password(url: ValkeyUrl) -> None:
    """Know the password of a server that the program has named."""
    _passwords[url.replace(password=None)] = url.password


def _rebuild_link(url: ValkeyUrl, password: str | None = None) -> Link:
    if password is None:
        password = _passwords.get(url)
    else:
        _passwords[url] = password
    return get_link(url.replace(password=password))


def _after_fork() -> None:
    global _making  # noqa: PLW0603 - another thread of the parent may have held it
    _making = threading.Lock()
    for link in list(_links):
        link.after_fork()


os.register_at_fork(after_in_child=_after_fork)
