"""One connection to a Valkey or Redis server, by the client library of either."""

from __future__ import annotations

import os
import select

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.valkey._errors import (
    NotNow,
    ServerRefused,
    broken,
    connect_error,
    reply_error,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from garrison.manager.valkey._url import ValkeyUrl

__all__ = ["Wire", "place_name"]

LEAST_VERSION = (7, 0)
LEAST_FOR_WAITAOF = (7, 2)
REPLY_TIMEOUT_S = 30.0
"""Seconds without a reply after which a server counts as gone."""


def _client_library() -> Any:
    """Return the module ``valkey``, or ``redis``."""
    try:
        import valkey
    except ImportError:
        try:
            import redis
        except ImportError:
            msg = (
                "a manager on a Valkey or Redis server needs a client library: "
                'pip install "garrison[valkey]"'
            )
            raise ModuleNotFoundError(msg, name="valkey") from None
        return redis
    return valkey


def place_name(place: tuple[str, int] | str) -> str:
    """Return an address as it is written in a URL."""
    if isinstance(place, str):
        return place
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Wire:
    """A connection, logged in. One thread uses it at a time.

    Raises
    ------
    OSError
        If there is no server, or not one of version 7 or later.
    AuthenticationError
        If it refuses the login.
    """

    def __init__(self, url: ValkeyUrl, place: tuple[str, int] | str) -> None:
        self.url, self.place = url, place
        self.library = _client_library()
        self.known_scripts: set[str] = set()
        """The digests of the scripts that the server has been sent on this connection."""
        self.is_repeating = False
        """Whether its request may have been carried out already, on a connection that broke."""
        self._link = self._make_link()
        # It need not tell the server its name: older ones refuse that.
        self._link.lib_name = self._link.lib_version = self._link.driver_info = None
        self._connect()
        self._poller = select.poll()
        self._poller.register(self._link._sock, select.POLLIN)
        self._greet()

    def _make_link(self) -> Any:
        url, library = self.url, self.library
        options: dict[str, Any] = {
            "db": url.database,
            "username": url.user,
            "password": url.password,
            "socket_timeout": REPLY_TIMEOUT_S,
            "socket_connect_timeout": url.timeout,
            "protocol": 2,
        }
        if isinstance(self.place, str):
            return library.UnixDomainSocketConnection(path=self.place, **options)
        host, port = self.place
        options |= {"host": host, "port": port, "socket_keepalive": True}
        if not url.is_tls:
            return library.Connection(**options)
        return library.SSLConnection(
            ssl_ca_certs=url.ca,
            ssl_certfile=url.cert,
            ssl_keyfile=url.key,
            ssl_cert_reqs="required",
            ssl_check_hostname=True,
            **options,
        )

    def _connect(self) -> None:
        errors = self.library.exceptions
        try:
            self._link.connect()
        except (errors.AuthenticationError, errors.ResponseError) as error:
            raise reply_error(self.url, _without_frames(error), "a login") from None
        except errors.BusyLoadingError as error:
            raise NotNow(f"LOADING {error}", elsewhere=False) from None
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            place = place_name(self.place)
            raise connect_error(self.url, place, _without_frames(error)) from None

    def _greet(self) -> None:
        """Ask for the server's version, and whether it is a primary."""
        try:
            hello = self.ask(("HELLO", "2"))
        except ServerRefused:
            self.close()
            raise self._too_old("older than 6") from None
        except BaseException:
            self.close()
            raise
        facts = {hello[i].decode(): hello[i + 1] for i in range(0, len(hello), 2)}
        self.server = facts["server"].decode()
        self.version = facts["version"].decode()
        self.is_primary = facts["role"] not in {b"replica", b"slave"}
        self.mode = facts["mode"].decode()
        version = tuple(map(int, self.version.split(".")[:2]))
        if version < LEAST_VERSION:
            self.close()
            raise self._too_old(f"{self.server} {self.version}")
        if self.url.waitaof and version < LEAST_FOR_WAITAOF:
            self.close()
            raise OSError(
                f"the server at {place_name(self.place)} is {self.server} {self.version}, and "
                "waitaof=... needs Valkey, or Redis 7.2 or later"
            )

    def _too_old(self, what: str) -> OSError:
        return OSError(
            f"the server at {place_name(self.place)} is {what}: garrison needs Valkey, or Redis "
            f"{LEAST_VERSION[0]} or later"
        )

    @property
    def is_open(self) -> bool:
        """Whether this end has not closed it."""
        return self._link._sock is not None

    @property
    def is_stale(self) -> bool:
        """Whether the server has closed it, or sent what nobody asked for."""
        return bool(self._poller.poll(0))

    def ask(self, command: tuple[Any, ...], what: str = "", key: str = "") -> Any:
        """Send a command, and return the reply.

        Raises
        ------
        LinkBroken, NotNow, NoScript, ServerRefused, StoreFull, PermissionError
            See `reply_error`.
        """
        (reply,) = self.ask_many((command,))
        if isinstance(reply, Exception):
            raise reply_error(self.url, reply, what or str(command[0]), key)
        return reply

    def ask_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one go; return the replies, of which errors are the library's."""
        link, errors = self._link, self.library.exceptions
        sent = False
        try:
            link.send_packed_command([_packed(commands)], check_health=False)
            sent = True
            return [self._read(errors.ResponseError) for _ in commands]
        except errors.BusyLoadingError as error:
            self.close()
            raise NotNow(f"LOADING {error}", elsewhere=False) from None
        except errors.AuthenticationError as error:
            self.close()
            raise reply_error(self.url, _without_frames(error), str(commands[0][0])) from None
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            self.close()
            # What is sent in part is not carried out, but the first of several may be.
            maybe_done = sent or len(commands) > 1
            raise broken(_without_frames(error), maybe_done=maybe_done) from None
        except BaseException:
            self.close()  # a reply may be under way
            raise

    def _read(self, refusal: type[Exception]) -> Any:
        try:
            return self._link.read_response()
        except refusal as error:
            return _without_frames(error)

    def close(self) -> None:
        """Disconnect."""
        self._link.disconnect()

    def forget(self) -> None:
        """In a forked child: close the descriptor, and leave the parent's connection alone."""
        sock = self._link._sock
        if sock is not None and self._link.pid != os.getpid():
            sock.close()


def _without_frames(error: Exception) -> Exception:
    """Return an exception of the client library without its traceback, and those behind it.

    Their frames refer to the exceptions: only a collection of garbage would free them, and all that
    their callers refer to, a session among others.
    """
    found: BaseException | None = error
    while found is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__
    return error


def _packed(commands: Sequence[tuple[Any, ...]]) -> bytes:
    """Return commands as they are sent, in a quarter of the client library's time."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            data = word if type(word) is bytes else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
