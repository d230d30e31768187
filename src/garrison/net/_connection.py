"""A client's connection: it multiplexes, survives forks, and reconnects after a break.

It has no thread of its own: each waiting thread reads replies for all. After a break, a request is
repeated if it certainly was not carried out or if it is idempotent; any other raises `ManagerLost`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from multiprocessing import AuthenticationError

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ChannelError, LinkBroken, ManagerLost, WrongServer
from garrison.net._address import (
    connect,
    format_address,
    is_on_this_machine,
    other_user,
    parse_address,
)
from garrison.net._handshake import DONE, ClientHandshake
from garrison.net._key import Key
from garrison.net._limits import Limits
from garrison.net._rate_limited_log import server_log
from garrison.net._request_batch import PendingReply, RemoteFailure, RequestBatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.net._address import Address
    from garrison.net._known_servers import ServerCheck

__all__ = ["Connection", "PendingReply", "RemoteFailure", "RequestBatch"]


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
    fingerprint : str, optional
        That of the server's identity. By default a server on another computer must be the one that
        was at this address the first time.
    timeout : float
        Seconds for connecting, and for connecting again after a break.
    limits : Limits, optional
        Its `max_frame`, `max_message`, `keepalive_idle_s` and `peer_timeout_s` are used.
    hello : tuple
        Fields that name this client to the server, up to some 200 bytes.
    name_of : callable, optional
        Returns a verb's name for error messages.
    lazy : bool
        Whether to connect at the first request, and then to retry as after a break.

    Raises
    ------
    multiprocessing.AuthenticationError
        If the server has another key.
    WrongServer
        If it has another identity.
    ChannelError
        If the address is not that of a garrison server of this version.
    OSError
        If the address cannot be reached.
    """

    def __init__(
        self,
        address: Any,
        key: bytes,
        *,
        fingerprint: str | None = None,
        timeout: float = 10.0,
        limits: Limits | None = None,
        hello: tuple[Any, ...] = (),
        name_of: Callable[[int], str] | None = None,
        lazy: bool = False,
    ) -> None:
        self.address: Address = parse_address(address)
        self.timeout = timeout
        self.generation: int = 0
        """How many times this process has connected."""
        self.on_reconnect: list[Callable[[Connection], Any]] = []
        """Called after each reconnection, and after a forked child's first connection; their
        requests are sent before all others."""
        self._key = Key(key)
        self._fingerprint = fingerprint
        self._limits = limits or Limits()
        self._hello = hello
        self._name_of = name_of or (lambda verb: f"request {verb}")
        self._link: _core.ClientSocket | None = None
        self._restoring: tuple[int, _core.ClientSocket] | None = None
        self._closed = ""
        self._is_first = lazy
        self._making = threading.RLock()
        _connections.add(self)
        if not lazy:
            self._connect_first()

    def __repr__(self) -> str:
        link = self._link
        state = self._closed or ("connected" if link and not link.broken else "not connected")
        return f"<Connection to {format_address(self.address)}, {state}>"

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
            The request, 0 to 125.
        *fields
            bytes, str, int, float, bool, None, and lists of these.
        timeout : float, optional
            Seconds to wait for the reply.
        idempotent : bool
            Whether the request may be carried out twice; if so, it is repeated after a break.
        check : callable, optional
            Called before sending and before connecting: raises if the request is obsolete.

        Raises
        ------
        RemoteFailure
            If the server answers with a failure.
        ManagerLost
            If the connection breaks, or cannot be made again.
        TimeoutError
            If there is no reply in time; the request may have been carried out.
        """
        link = self._link
        if check is not None:
            check()  # after reading the link, which is therefore no newer than the state checked
        if link is not None:
            try:
                status, reply = link.ask(verb, fields, timeout)
            except LinkBroken as error:
                self._raise_if_unsafe_to_retry(error, verb, idempotent)
            else:
                if status == DONE:
                    return reply
                raise RemoteFailure(*reply)
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
            link = self._ensure_link(deadline, verb)
            if check is not None:
                check()
            try:
                status, reply = link.ask(verb, fields, timeout)
            except LinkBroken as error:
                self._raise_if_unsafe_to_retry(error, verb, idempotent)
                if time.monotonic() > deadline:
                    raise self._manager_lost(
                        verb, error.args[0], "it was not carried out"
                    ) from None
            else:
                if status == DONE:
                    return reply
                raise RemoteFailure(*reply)

    def _raise_if_unsafe_to_retry(self, error: LinkBroken, verb: int, idempotent: bool) -> None:
        reason, unknown, for_good = error.args
        if for_good:
            self._closed = reason
        if unknown and not idempotent:
            raise self._manager_lost(
                verb, reason, "it may or may not have been carried out"
            ) from None

    def _manager_lost(self, verb: int, reason: str, fate: str) -> ManagerLost:
        what = self._name_of(verb)
        return ManagerLost(
            f"{what} was asked of {format_address(self.address)}, but {reason}; {fate}"
        )

    def send_oneway(self, verb: int, *fields: Any) -> bool:
        """Send a request whose reply is not needed, unless the connection is broken.

        This never blocks, so a finalizer may call it. Return whether it was sent, as far as known.
        """
        link = self._link
        if link is None or link.broken:
            return False
        _core.PendingReply(link, verb, fields, False, None)
        link.flush()
        return True

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as known."""
        link = self._link
        return link is not None and not link.broken

    def batch(self, check: Callable[[], object] | None = None) -> RequestBatch:
        """Return a context in which requests are sent together; see `RequestBatch`.

        `check` is called before each is sent, as in `ask`.
        """
        return RequestBatch(self, check)

    # --- Connecting -----------------------------------------------------------------------

    def _connect_first(self) -> None:
        with self._making:
            self._link = self._open_link(time.monotonic() + self.timeout)

    def _ensure_link(self, deadline: float, verb: int) -> _core.ClientSocket:
        """Return an open link; connect if there is none."""
        if self._restoring is not None and self._restoring[0] == threading.get_ident():
            return self._restoring[1]  # a hook asks
        if not self._making.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._manager_lost(
                verb, "the connection could not be made again", "it was not sent"
            )
        try:
            link = self._link
            if link is None or link.broken:
                link = self._reconnect(deadline, verb)
            return link
        finally:
            self._making.release()

    def _reconnect(self, deadline: float, verb: int) -> _core.ClientSocket:
        begin = time.monotonic()
        pause = FIRST_PAUSE
        problem = self._link.broken if self._link is not None else "there is no connection"
        while not self._closed:
            try:
                link = self._open_link(deadline)
                self._run_reconnect_hooks(link, begin)
            except WrongServer:
                raise
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
        raise self._manager_lost(verb, reason, "it was not carried out")

    def _run_reconnect_hooks(self, link: _core.ClientSocket, begin: float) -> None:
        is_first, self._is_first = self._is_first, False
        if not is_first:
            seconds = time.monotonic() - begin
            server_log().warning(
                "reconnected to %s after %.2f s", format_address(self.address), seconds
            )
        self._link = None
        self._restoring = (threading.get_ident(), link)
        try:
            for hook in self.on_reconnect:
                hook(self)
        finally:
            self._restoring = None
        self._link = link

    def _open_link(self, deadline: float) -> _core.ClientSocket:
        sock = connect(
            self.address, deadline, self._limits.keepalive_idle_s, self._limits.peer_timeout_s
        )
        try:
            self._check_user(sock)
            expected = self._expected_server(sock)
            channel = ClientHandshake(self._key, self._limits, self._hello, expected)
            self._shake_hands(sock, channel, deadline)
            link = _core.ClientSocket(channel.secure_channel, sock.fileno())
            sock.detach()
        except BaseException:
            sock.close()
            raise
        self.generation += 1
        return link

    def _expected_server(self, sock: socket.socket) -> ServerCheck | None:
        local = is_on_this_machine(sock)
        if local and self._fingerprint is None:
            return None
        # Late: most servers are on this computer.
        from garrison.net._known_servers import check_of

        return check_of(format_address(self.address), self._fingerprint, local=local)

    def _check_user(self, sock: socket.socket) -> None:
        uid = None if bytes(self._key) else other_user(sock)
        if uid is not None:
            raise AuthenticationError(
                f"{format_address(self.address)} belongs to user {uid}, and may be asked only with "
                "a key: start the server with one, and give it: key=..."
            )

    def _shake_hands(self, sock: socket.socket, channel: ClientHandshake, deadline: float) -> None:
        where = format_address(self.address)
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            with contextlib.suppress(BrokenPipeError):
                # A server that has refused already has sent the reason.
                sock.sendall(channel.take(), socket.MSG_NOSIGNAL)
            while not channel.established:
                channel.receive(_recv_some(sock))
                if channel.outgoing:
                    sock.sendall(channel.take(), socket.MSG_NOSIGNAL)
        except WrongServer:
            raise
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
        """Close the connection: pending and later requests raise `ManagerLost`."""
        self._closed = "this connection was closed"
        link, self._link = self._link, None
        if link is not None:
            link.close(self._closed)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reset_after_fork(self) -> None:
        """In a forked child: the socket is the parent's; the next request connects anew."""
        link, self._link = self._link, None
        if link is not None:
            link.abandon()
        if self._restoring is not None:
            self._restoring[1].abandon()
        self._restoring = None
        self._is_first = True
        self._making = threading.RLock()
        self.generation = 0


def _recv_some(sock: socket.socket) -> bytes:
    data = sock.recv(RECEIVE)
    if not data:
        raise ChannelError("it has closed the connection without an answer")
    return data


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forked() -> None:
    for connection in list(_connections):
        connection._reset_after_fork()


os.register_at_fork(after_in_child=_forked)
