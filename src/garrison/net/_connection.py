"""A client's connection: it multiplexes, survives forks, and comes back after a break.

There is no thread of ours: whoever waits reads for all. What breaks while a request is under way is
told by what may have become of it: a request that certainly was not carried out, or that may be
carried out twice, is repeated on the next connection; any other raises `ManagerLost`.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import weakref
from multiprocessing import AuthenticationError

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ChannelError, LinkBroken, ManagerLost
from garrison.net._address import connected, parsed, shown
from garrison.net._handshake import DONE, ClientChannel
from garrison.net._limits import Limits
from garrison.net._request_batch import Pipeline, Promise, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Connection", "Pipeline", "Promise", "Refused"]

log = logging.getLogger("garrison.manager")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
RECEIVE = 1 << 12


class Connection:
    r"""A connection to a server, made when it is first needed and again when it breaks.

    Parameters
    ----------
    address : tuple of (str, int), or str
        ``("host", port)``, a path, ``"\\0abstract"`` or ``"garrison://host:port"``.
    key : bytes
        The server's key.
    timeout : float
        Seconds for connecting, and for connecting again after a break.
    limits : Limits, optional
        Its `max_frame`, `max_message`, `quiet` and `dead` count here.
    hello : tuple
        Fields that tell the server who this is, up to some 200 bytes.
    name_of : callable, optional
        Returns a verb's name for error messages.
    lazy : bool
        Whether to connect only when something is asked, and then as patiently as after a break.

    Raises
    ------
    multiprocessing.AuthenticationError
        If the server has another key.
    ChannelError
        If something else than a server of garrison's, or one of another version, is at the address.
    OSError
        If nothing can be reached there.
    """

    def __init__(
        self,
        address: Any,
        key: bytes,
        *,
        timeout: float = 10.0,
        limits: Limits | None = None,
        hello: tuple[Any, ...] = (),
        name_of: Callable[[int], str] | None = None,
        lazy: bool = False,
    ) -> None:
        self.address = parsed(address)
        self.timeout = timeout
        self.epoch = b""
        """Which life of the server this is: another one after a restart."""
        self.links = 0
        """Connections that were made so far in this process."""
        self.on_reconnect: list[Callable[[Connection], Any]] = []
        """Called after each reconnection, and in a forked child after its own first connection;
        what they ask comes before everything else."""
        self._key = bytes(key)
        self._limits = limits or Limits()
        self._hello = hello
        self._name_of = name_of or (lambda verb: f"request {verb}")
        self._link: _core.Link | None = None
        self._restoring: tuple[int, _core.Link] | None = None
        self._closed = ""
        self._is_first = lazy
        self._making = threading.RLock()
        _connections.add(self)
        if not lazy:
            self._connect_first()

    def __repr__(self) -> str:
        link = self._link
        state = self._closed or ("connected" if link and not link.broken else "not connected")
        return f"<Connection to {shown(self.address)}, {state}>"

    # --- Asking ---------------------------------------------------------------------------

    def ask(
        self,
        verb: int,
        *fields: Any,
        timeout: float | None = None,
        idempotent: bool = False,
        check: Callable[[], object] | None = None,
    ) -> list[Any]:
        """Send a request and return the fields of its reply.

        Parameters
        ----------
        verb : int
            What is wanted, 0 to 125.
        *fields
            bytes, str, int, float, bool, None, and lists of these.
        timeout : float, optional
            Seconds to wait for the reply.
        idempotent : bool
            Whether the request may be carried out twice; then a break is repaired silently.
        check : callable, optional
            Called before it is sent and before a connection is made for it: raises if this may not
            be asked any more.

        Raises
        ------
        Refused
            If the service answers with a failure.
        ManagerLost
            If the connection breaks, or cannot be made again.
        TimeoutError
            If there is no reply in time; the request may have been carried out.
        """
        link = self._link
        if check is not None:
            check()  # after the link was read: it is as new as what is checked, or older
        if link is not None:
            try:
                status, reply = link.ask(verb, fields, timeout)
            except LinkBroken as error:
                self._check_fate(error, verb, idempotent)
            else:
                if status == DONE:
                    return reply
                raise Refused(*reply)
        return self._ask_again(verb, fields, timeout, idempotent, check)

    def _ask_again(
        self,
        verb: int,
        fields: tuple[Any, ...],
        timeout: float | None,
        idempotent: bool,
        check: Callable[[], object] | None = None,
    ) -> list[Any]:
        deadline = time.monotonic() + self.timeout
        while True:
            if check is not None:
                check()
            link = self._restored(deadline, verb)
            if check is not None:
                check()
            try:
                status, reply = link.ask(verb, fields, timeout)
            except LinkBroken as error:
                self._check_fate(error, verb, idempotent)
                if time.monotonic() > deadline:
                    raise self._lost(verb, error.args[0], "it was not carried out") from None
            else:
                if status == DONE:
                    return reply
                raise Refused(*reply)

    def _check_fate(self, error: LinkBroken, verb: int, idempotent: bool) -> None:
        reason, unknown, for_good = error.args
        if for_good:
            self._closed = reason
        if unknown and not idempotent:
            raise self._lost(verb, reason, "it may or may not have been carried out") from None

    def _lost(self, verb: int, reason: str, fate: str) -> ManagerLost:
        what = self._name_of(verb)
        return ManagerLost(f"{what} was asked of {shown(self.address)}, but {reason}; {fate}")

    def tell(self, verb: int, *fields: Any) -> bool:
        """Send what nobody waits for the reply of; not at all if the connection is broken.

        It never waits, so that a finalizer may do it. Whether it was sent, as far as is known.
        """
        link = self._link
        if link is None or link.broken:
            return False
        _core.Promise(link, verb, fields, False, None)
        link.flush()
        return True

    @property
    def stands(self) -> bool:
        """Whether there is a connection, as far as is known."""
        link = self._link
        return link is not None and not link.broken

    def pipeline(self, check: Callable[[], object] | None = None) -> Pipeline:
        """Return a context in which requests are sent together; see `Pipeline`.

        `check` is called before each is sent, as in `ask`.
        """
        return Pipeline(self, check)

    # --- Connecting -----------------------------------------------------------------------

    def _connect_first(self) -> None:
        with self._making:
            self._link = self._linked(time.monotonic() + self.timeout)

    def _restored(self, deadline: float, verb: int) -> _core.Link:
        """Return a link that stands, and make one if there is none."""
        if self._restoring is not None and self._restoring[0] == threading.get_ident():
            return self._restoring[1]  # a hook asks
        if not self._making.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._lost(verb, "the connection could not be made again", "it was not sent")
        try:
            link = self._link
            if link is None or link.broken:
                link = self._reconnected(deadline, verb)
            return link
        finally:
            self._making.release()

    def _reconnected(self, deadline: float, verb: int) -> _core.Link:
        begin = time.monotonic()
        pause = FIRST_PAUSE
        problem = self._link.broken if self._link is not None else "there is no connection"
        while not self._closed:
            try:
                link = self._linked(deadline)
                self._restore(link, begin)
            except (AuthenticationError, LinkBroken, OSError) as error:
                problem = str(error)
            else:
                return link
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
        tried = f"{time.monotonic() - begin:.1f} s"
        reason = self._closed or f"no connection could be made for {tried}: {problem}"
        raise self._lost(verb, reason, "it was not carried out")

    def _restore(self, link: _core.Link, begin: float) -> None:
        is_first, self._is_first = self._is_first, False
        if not is_first:
            seconds = time.monotonic() - begin
            log.warning("reconnected to %s after %.2f s", shown(self.address), seconds)
        self._link = None
        self._restoring = (threading.get_ident(), link)
        try:
            for hook in self.on_reconnect:
                hook(self)
        finally:
            self._restoring = None
        self._link = link

    def _linked(self, deadline: float) -> _core.Link:
        sock = connected(self.address, deadline, self._limits.quiet, self._limits.dead)
        try:
            channel = ClientChannel(self._key, self._limits, self._hello)
            self._shake_hands(sock, channel, deadline)
            link = _core.Link(channel.noise, sock.fileno())
            sock.detach()
        except BaseException:
            sock.close()
            raise
        self.epoch = channel.epoch
        self.links += 1
        return link

    def _shake_hands(self, sock: socket.socket, channel: ClientChannel, deadline: float) -> None:
        where = shown(self.address)
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            sock.sendall(channel.take(), socket.MSG_NOSIGNAL)
            while not channel.established:
                channel.receive(_something_of(sock))
            sock.sendall(channel.take(), socket.MSG_NOSIGNAL)
        except AuthenticationError as error:
            raise AuthenticationError(f"{where}: {error}; check the key") from None
        except TimeoutError:
            text = f"{where} has not answered in time; is it a server of garrison's?"
            raise TimeoutError(text) from None
        except (ChannelError, ConnectionError) as error:
            raise ChannelError(f"{where}: {error}") from None
        sock.setblocking(True)

    # --- The end --------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection: who waits, and who asks later, gets `ManagerLost`."""
        self._closed = "this connection was closed"
        link, self._link = self._link, None
        if link is not None:
            link.close(self._closed)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _forked(self) -> None:
        """In a child: the socket is the parent's, the next request makes another one."""
        link, self._link = self._link, None
        if link is not None:
            link.abandon()
        if self._restoring is not None:
            self._restoring[1].abandon()
        self._restoring = None
        self._is_first = True
        self._making = threading.RLock()
        self.links = 0


def _something_of(sock: socket.socket) -> bytes:
    data = sock.recv(RECEIVE)
    if not data:
        raise ChannelError("it has closed the connection without an answer")
    return data


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forked() -> None:
    for connection in list(_connections):
        connection._forked()


os.register_at_fork(after_in_child=_forked)
