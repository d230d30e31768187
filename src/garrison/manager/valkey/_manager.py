"""`ValkeyManager`: a manager whose containers and locks are on a Valkey or Redis server."""

from __future__ import annotations

import os

from garrison._typing import TYPE_CHECKING, Any, NoReturn
from garrison.manager._auth_keys import read_key
from garrison.manager._base import State
from garrison.manager._sync_manager import SyncManager
from garrison.manager.valkey._connection import Link, get_link, note_password
from garrison.manager.valkey._lock_client import get_lock_client
from garrison.manager.valkey._store import ValkeyStore, get_valkey_store
from garrison.manager.valkey._url import ValkeyUrl, parse_url

if TYPE_CHECKING:
    from garrison.manager.valkey._lock_client import LockClient

__all__ = ["ValkeyManager"]


class ValkeyManager(SyncManager):
    """Shared containers and locks on a Valkey server, or on Redis 7 or later.

    ``garrison.Manager("valkey://host:6379/0")`` returns one. It has the methods of a manager that
    has connected to a server: containers with names and without, `transaction`, `pipeline`, locks.
    Objects of registered types need a process of garrison's, and there is none.

    What a manager has with all processes that use the same server and prefix stays there when they
    are gone, as long as the server keeps it: containers with names, and what they contain.

    **A lock is a lease.** It ends when its process has given no sign of life for ``?lease=``
    seconds, by the server's clock; `fence` is the number of the lease, larger than those of all
    earlier ones, for the resource that the lock protects. It is held on one server, and there is no
    pretence of more: if a primary is lost before a replica has heard of a lock, the next primary
    may lend it to another process. The same holds for a write to a container that the primary has
    confirmed. ``?wait=1`` makes each write wait until a replica has it, and ``?waitaof=1,1`` until
    it is on the disks of both; that makes the loss less likely, and a write that was confirmed so
    is lost only if a replica without it is promoted.

    Parameters
    ----------
    url : str
        ``valkey://[user:password@]host:port/database``; ``valkeys://`` for TLS,
        ``valkey+cluster://`` for a cluster, ``valkey+unix:///path`` for a socket; ``redis`` means
        the same as ``valkey``. Several hosts, with commas between them, are asked in turn for the
        primary.

        Its options: ``prefix=`` (of all keys), ``ca=``, ``cert=``, ``key=`` (files, for TLS),
        ``wait=``, ``waitaof=``, ``wait_timeout=``, ``timeout=`` (seconds for connecting, and for
        connecting again), ``lease=``, ``pickle=no`` (plain values only).
    key, authkey : bytes, str or path-like, optional
        The password, if it is not in the URL; a path is that of a file which has it.
    ctx : context, optional
        Accepted for the protocol's sake.

    Raises
    ------
    ModuleNotFoundError
        If there is no client library: ``pip install "garrison[valkey]"``.
    ValueError
        If the URL is wrong, or the server deletes keys when its memory is full.
    """

    def __init__(
        self,
        url: str | ValkeyUrl,
        authkey: bytes | None = None,
        *,
        key: bytes | str | os.PathLike[str] | None = None,
        ctx: Any = None,
        **others: Any,
    ) -> None:
        parsed = parse_url(url) if isinstance(url, str) else url
        for name in others:
            msg = f"{name}=... is for a server that garrison starts, and {parsed} is none"
            raise TypeError(msg)
        password = authkey if key is None else read_key(key)
        if password is not None:
            parsed = parsed.replace(password=bytes(password).decode())
        super().__init__(parsed.text, ctx=ctx)
        self._url = parsed
        self._link: Link | None = None

    # -- starting and ending ----------------------------------------------------------------------

    def connect(self, *, direct: bool = True) -> None:
        """Find the server.

        Parameters
        ----------
        direct : bool
            Accepted for the protocol's sake: the server's memory is its own.

        Raises
        ------
        OSError
            If there is no server, or it is older than version 7.
        AuthenticationError
            If it refuses the login.
        ManagerLost
            If none of the hosts is a primary.
        ValueError
            If it deletes keys when its memory is full.
        """
        del direct
        link = get_link(self._url)
        link.connect()
        note_password(self._url)
        self._link = link
        self._state.value = State.STARTED

    def start(self, initializer: Any = None, initargs: Any = ()) -> None:
        """Connect: the server has been started by others."""
        if initializer is not None:
            raise ValueError(f"{self._url} has no process in which to call an initializer")
        del initargs
        self._require_state(State.INITIAL)
        self.connect()

    def close(self) -> None:
        """Disconnect; this manager cannot be used again. Containers keep their connection."""
        self._state.value = State.SHUTDOWN
        self._store = self._link = None

    def shutdown(self) -> None:
        """Disconnect: the server belongs to others, and goes on."""
        self.close()

    def join(self, timeout: float | None = None) -> None:
        """Return: there is no process to wait for."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._require_link(),)

    # -- what it has ------------------------------------------------------------------------------

    def _require_link(self) -> Link:
        self._require_state(State.STARTED)
        assert self._link is not None  # noqa: S101 - it has started
        return self._link

    @property
    def store(self) -> ValkeyStore:
        """The store behind the containers."""
        link = self._require_link()
        if self._store is None:
            self._store = get_valkey_store(link)
        found: ValkeyStore = self._store
        return found

    @property
    def _lock_client(self) -> LockClient:  # type: ignore[override] # it carries out the same requests
        return get_lock_client(self._require_link())

    # -- what it has not --------------------------------------------------------------------------

    def _refuse(self, what: str) -> NoReturn:
        raise RuntimeError(
            f"{what} in a process of garrison's, and at {self._url} there is none: "
            "use a manager that garrison serves, such as garrison.Manager()"
        )

    def _create(self, typeid: str, /, *_: Any, **__: Any) -> NoReturn:
        self._refuse(f"an object of the registered type {typeid!r} lives")

    def get_server(self) -> NoReturn:
        """Raise RuntimeError: the server is not garrison's."""
        self._refuse("a server runs")

    def _debug_info(self) -> NoReturn:
        self._refuse("registered objects are")

    def _number_of_objects(self) -> NoReturn:
        self._refuse("registered objects are")

    def backup(self, path: str | os.PathLike[str]) -> NoReturn:
        """Raise RuntimeError: the server makes its own backups."""
        raise RuntimeError(
            f"the server at {self._url} makes its own backups, by BGSAVE: {os.fspath(path)!r} was "
            "not written"
        )


def _rebuild(link: Link) -> ValkeyManager:
    made = ValkeyManager(link.url)
    made._link = link
    made._state.value = State.STARTED
    return made
