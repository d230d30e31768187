"""The URL of a Valkey or Redis server, and its options."""

from __future__ import annotations

import os
import urllib.parse

from garrison._frozen import Frozen
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SCHEMES", "ValkeyUrl", "is_valkey_url", "parse_url"]

DEFAULT_PORT = 6379
SCHEMES = {
    f"{name}{tls}{cluster}": (bool(tls), bool(cluster))
    for name in ("valkey", "redis")
    for tls in ("", "s")
    for cluster in ("", "+cluster")
}
"""Each scheme of a TCP address: whether it uses TLS, and whether it is that of a cluster."""
UNIX_SCHEMES = ("unix", "valkey+unix", "redis+unix")
HOW = "valkey://[user:password@]host:port/database?prefix=NAME"


class ValkeyUrl(Frozen):
    """A server, how to log in, and the prefix of all keys.

    Attributes
    ----------
    hosts : tuple of (str, int)
        The servers among which the primary is found; empty for a socket.
    path : str
        The path of a socket, or empty.
    prefix : str
        All keys begin with it, in braces: a cluster then keeps them on one node.
    wait : int
        Replicas that must have a write before it counts as done.
    waitaof : tuple of (int, int), or None
        Servers that must have a write on disk: the primary (0 or 1), and a number of replicas.
    wait_timeout : float
        Seconds to wait for these, at most.
    timeout : float
        Seconds for connecting, and for connecting again after a break.
    lease : float
        Seconds after which the locks of a process that gives no sign of life are free.
    pickle : bool
        Whether values that are not plain are stored, and read, as pickles.
    """

    hosts: tuple[tuple[str, int], ...]
    path: str
    is_tls: bool
    is_cluster: bool
    user: str | None
    password: str | None
    database: int
    prefix: str
    ca: str | None
    cert: str | None
    key: str | None
    wait: int
    waitaof: tuple[int, int] | None
    wait_timeout: float
    timeout: float
    lease: float
    pickle: bool
    text: str
    """As it was written, without the password."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"ValkeyUrl({self.text!r})"

    def replace(self, **values: Any) -> ValkeyUrl:
        """Return a URL with other values."""
        return ValkeyUrl(**{**vars(self), **values})

    def places(self) -> Iterator[tuple[str, int] | str]:
        """Yield the addresses: pairs of host and port, or the path of a socket."""
        if self.path:
            yield self.path
        yield from self.hosts


def is_valkey_url(address: object) -> bool:
    """Whether an address is the URL of a Valkey or Redis server."""
    if not isinstance(address, str):
        return False
    scheme, separator, _ = address.partition("://")
    return bool(separator) and (scheme.lower() in SCHEMES or scheme.lower() in UNIX_SCHEMES)


def parse_url(text: str) -> ValkeyUrl:
    """Return the parts of a URL.

    Raises
    ------
    ValueError
        If it is none; the message does not contain the password.
    """
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    rest, _, query = rest.partition("?")
    login, at, place = rest.rpartition("@")
    shown = f"{scheme}://{_masked(login)}{at}{place}{_after(query)}"
    if not is_valkey_url(text):
        msg = f"the URL of a Valkey server is {HOW}, not {shown!r}"
        raise ValueError(msg)
    try:
        is_unix = scheme in UNIX_SCHEMES
        where = _socket_place(place) if is_unix else _tcp_place(place)
        options = _options(query, has_tls=not is_unix and SCHEMES[scheme][0], is_unix=is_unix)
        database = options.pop("database", where.pop("database"))
        tls, cluster = (False, False) if is_unix else SCHEMES[scheme]
        if cluster and database:
            raise ValueError("a cluster has no database but 0")  # noqa: TRY301 - one place adds the URL
    except ValueError as error:
        msg = f"{error}, in the URL {shown!r}"
        raise ValueError(msg) from None
    user, colon, password = login.partition(":")
    return ValkeyUrl(
        **where,
        is_tls=tls,
        is_cluster=cluster,
        user=urllib.parse.unquote(user) or None,
        password=urllib.parse.unquote(password) if colon else None,
        database=database,
        text=shown,
        **options,
    )


def _masked(login: str) -> str:
    user, colon, _ = login.partition(":")
    return f"{user}:***" if colon else user


def _after(query: str) -> str:
    return f"?{query}" if query else ""


def _socket_place(place: str) -> dict[str, Any]:
    if not place.startswith("/"):
        raise ValueError("a socket's path begins with a slash: valkey+unix:///run/valkey.sock")
    return {"hosts": (), "path": urllib.parse.unquote(place), "database": 0}


def _tcp_place(place: str) -> dict[str, Any]:
    hosts, _, database = place.partition("/")
    if not hosts:
        raise ValueError("there is no host")
    if database and not (database.isascii() and database.isdigit()):
        msg = f"the database is a number, not {database!r}"
        raise ValueError(msg)
    return {
        "hosts": tuple(_host(each) for each in hosts.split(",")),
        "path": "",
        "database": int(database or 0),
    }


def _host(text: str) -> tuple[str, int]:
    """Return host and port of "host", "host:port" or "[v6]:port"."""
    parts = urllib.parse.urlsplit(f"//{text}")
    try:
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        port = -1
    if not parts.hostname or port <= 0:
        msg = f"{text!r} is no host:port"
        raise ValueError(msg)
    return parts.hostname, port


# -- options --------------------------------------------------------------------------------------


def _options(query: str, *, has_tls: bool, is_unix: bool) -> dict[str, Any]:
    known = {name: parse for name, (parse, _) in _OPTIONS.items()}
    if is_unix:
        known["db"] = _number
    values: dict[str, Any] = {name: default for name, (_, default) in _OPTIONS.items()}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name not in known:
            msg = f"there is no option {name!r}, but {', '.join(known)}"
            raise ValueError(msg)
        if name in _TLS_OPTIONS and not has_tls:
            msg = f"{name}=... is for TLS: a URL that begins with valkeys://"
            raise ValueError(msg)
        try:
            values["database" if name == "db" else name] = known[name](value)
        except ValueError as error:
            msg = f"{name}={value}: {error}"
            raise ValueError(msg) from None
    if bool(values["cert"]) != bool(values["key"]):
        raise ValueError("a certificate needs its key, and a key its certificate")
    return values


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number, 0 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return seconds


def _two_numbers(text: str) -> tuple[int, int]:
    local, comma, replicas = text.partition(",")
    if not comma or local not in {"0", "1"}:
        raise ValueError("must be 0 or 1 for the primary, a comma, and a number of replicas")
    return int(local), _number(replicas)


def _yes_or_no(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise ValueError("must be yes or no")
    return text == "yes"


def _prefix(text: str) -> str:
    if not text or set(text) & set("{}*?[]\\ \t\r\n"):
        raise ValueError("must be a name without braces, spaces, and *?[]\\")
    return text


def _file(text: str) -> str:
    if not os.path.isfile(text):  # noqa: PTH113 - without pathlib
        raise ValueError("there is no such file")
    return text


_OPTIONS: dict[str, Any] = {
    "prefix": (_prefix, "garrison"),
    "ca": (_file, None),
    "cert": (_file, None),
    "key": (_file, None),
    "wait": (_number, 0),
    "waitaof": (_two_numbers, None),
    "wait_timeout": (_seconds, 5.0),
    "timeout": (_seconds, 10.0),
    "lease": (_seconds, 10.0),
    "pickle": (_yes_or_no, True),
}
"""Each option: what reads it, and its value by default."""
_TLS_OPTIONS = ("ca", "cert", "key")
