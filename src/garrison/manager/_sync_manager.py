"""`SyncManager`: containers and locks for the processes of one machine, and of others.

On the server's machine containers are used in shared memory; from another machine, through the
server. The classes of containers are the same.
"""

from __future__ import annotations

import os
import queue
import threading

from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._auth_keys import read_key
from garrison.manager._base import BaseManager, State
from garrison.manager._container_methods import ContainerMethods
from garrison.manager._lock_methods import LockMethods
from garrison.manager.client import _standard_proxies as proxies
from garrison.manager.client._client import get_client
from garrison.manager.server._store_server import StoreServer
from garrison.store import (
    ServerLock,
    claim_server_lock,
    create_in_memory,
    open_directory,
    transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from typing import TypedDict

    from typing_extensions import Unpack

    from garrison import store as containers
    from garrison.manager.client._client import Client
    from garrison.manager.client._pipeline import Pipeline
    from garrison.net import Limits
    from garrison.options import OptionValues

    class ManagerOptions(TypedDict, total=False):
        """What ``garrison.Manager`` takes besides an address, as an editor lists it."""

        authkey: bytes | None
        """The key that clients must know."""
        serializer: str
        """How arguments and results are written: ``'pickle'`` or ``'xmlrpclib'``."""
        shutdown_timeout: float
        """Seconds that the server has to end before it is terminated."""
        limits: Limits | None
        """How much the server takes from its clients."""
        key: bytes | str | os.PathLike[str] | None
        """The same as `authkey`; a path is that of a file which has it."""
        path: str | os.PathLike[str] | None
        """A folder in which the containers are kept."""
        sync: bool
        """With a `path`: whether what was written has reached the disk at the return."""
        size: int | None
        """Bytes that the containers may take, at most."""
        check: bool | None
        """With a `path`: whether to look for damage when it is opened."""
        allow_pickle: bool
        """Whether clients of the server may send what has to be unpickled."""
        allow_shutdown: bool
        """Whether clients that have the key may stop the server."""
        keys: str | os.PathLike[str] | None
        """A file of further keys of clients."""
        fingerprint: str | None
        """Of the server to connect to."""


__all__ = ["SyncManager"]


class SyncManager(ContainerMethods, LockMethods, BaseManager, managers.SyncManager):
    """A store of shared containers, and locks to go with it.

    As `multiprocessing.managers.SyncManager`. On one machine, containers and locks are reached in
    shared memory, without a round trip to the server.

    Parameters
    ----------
    address, authkey, serializer, ctx, shutdown_timeout, limits
        As for `BaseManager`. An address that other computers can reach needs a key.
    key : bytes, str or path-like, optional
        The same as `authkey`; a path is that of a file which has it.
    path : path-like, optional
        A directory for the containers, which then survive all processes.
    sync : bool
        With a `path`: whether an operation returns once its data are on the disk, so that they
        survive a power failure. Each write then waits for the disk.
    size : int, optional
        The most bytes that the containers may take; by default the size of the memory, or of the
        disk behind `path`.
    check : bool, optional
        With a `path` that no process has open: whether to walk through all pages of its file first,
        and raise `StoreCorrupt` if one is damaged. Without that walk a damaged file may end the
        process by a signal. By default up to 256 MiB, and for larger ones if the machine has been
        restarted since. Values are not read by it: they are checked when they are used.
    allow_pickle : bool
        Whether clients of the server may store, and read, what has to be unpickled, and use
        registered types. If not, they store plain values: numbers, text, bytes, containers, dates.
        Processes that reach the containers in memory are no such clients.
    allow_shutdown : bool
        Whether clients that have the key may stop the server. Those with a key of `keys` may not.
    keys : path-like, optional
        A file of further keys, of which each client has one: a line is what ``garrison key --name
        NAME`` prints, with ``--read-only`` for a client that changes nothing. A change of the file
        takes effect within a second: without its line a key is revoked, and its clients are
        disconnected.
    fingerprint : str, optional
        Of the server to connect to, as ``garrison serve`` prints it. By default a server on another
        computer must be the one that was at this address the first time.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     stock = manager.dict(apples=3)
    ...     basket = manager.list()
    ...     with manager.transaction():
    ...         stock["apples"] -= 1
    ...         basket.append("apple")
    ...     print(stock, basket)
    {'apples': 2} ['apple']
    """

    _Server = StoreServer

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
        limits: Limits | None = None,
        key: bytes | str | os.PathLike[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        sync: bool = False,
        size: int | None = None,
        check: bool | None = None,
        allow_pickle: bool = True,
        allow_shutdown: bool = True,
        keys: str | os.PathLike[str] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if key is not None:
            authkey = read_key(key)
        if keys is not None and authkey is not None and not authkey:
            msg = "a server without a key is open to all: keys=... needs none, or a key of its own"
            raise ValueError(msg)
        super().__init__(
            address, authkey, serializer, ctx, shutdown_timeout=shutdown_timeout, limits=limits
        )
        self._place = (path, sync, size, check)
        self._allow_pickle, self._allow_shutdown = allow_pickle, allow_shutdown
        self._keys_file = None if keys is None else os.path.abspath(keys)  # noqa: PTH100
        if fingerprint is not None:
            from garrison.net import check_fingerprint

            self._fingerprint = check_fingerprint(fingerprint)
        self._server_lock: ServerLock | None = None
        self._store: Any = None

    # -- starting and finding ---------------------------------------------------------------------

    def _make_server(self, place: Any) -> StoreServer:
        return self._Server(
            self._registry,
            place,
            self._authkey,
            self._serializer,
            self._limits,
            store=self._open_store(),
            server_lock=self._server_lock,
            allow_pickle=self._allow_pickle,
            allow_shutdown=self._allow_shutdown,
            keys_file=self._keys_file,
        )

    def _open_store(self) -> Any:
        """Return the store, opened or made."""
        path, synced, size, check = self._place
        if path is None:
            self._store = self._store or create_in_memory(size)
        else:
            # First: the directory of another server must not be touched.
            self._server_lock = claim_server_lock(path)
            self._store = open_directory(path, sync=synced, size=size, check=check)
        return self._store

    def start(self, *args: Any, **kwds: Any) -> None:
        """Start the server process; see `BaseManager.start`.

        Raises
        ------
        StoreBusy
            If another server serves the directory.
        """
        try:
            super().start(*args, **kwds)
        finally:
            server_lock, self._server_lock = self._server_lock, None
            if server_lock is not None:
                server_lock.close()  # the server holds it now, until it ends

    def get_server(self) -> StoreServer:
        """Return a server for this process to run: see its ``serve_forever`` and ``address``."""
        server: Any = super().get_server()
        self._server_lock = None
        return server  # type: ignore[no-any-return]

    def connect(self, *, direct: bool = True) -> None:
        """Find the server at this manager's address.

        Parameters
        ----------
        direct : bool
            Whether to reach the containers in memory, if the server is on this machine and of
            this user.
        """
        super().connect()
        from garrison.manager.client._remote_store import local_or_remote_store

        self._store = local_or_remote_store(self._lock_client, direct=direct)

    @property
    def store(self) -> containers.SharedStore:
        """The store behind the containers."""
        if self._store is None:
            self._require_state(State.STARTED)
        if not self._store.is_local and self._store.generation.is_over:
            from garrison.manager.client._remote_store import get_remote_store

            self._store = get_remote_store(self._lock_client)
        found: containers.SharedStore = self._store
        return found

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            self.close()
        else:
            self.shutdown()

    def close(self) -> None:
        """Disconnect a manager that has connected to a server; it cannot be used again.

        Containers and proxies keep their connection.
        """
        if self._process is None:
            self._state.value = State.SHUTDOWN
            self._store = self._client_ref = None

    def transaction(self, timeout: float | None = None) -> AbstractContextManager[None]:
        """Make all operations inside, on any of this manager's containers, one step.

        Others see all of it or nothing. An exception undoes it, and so does the death of this
        process. Other writers wait meanwhile.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for other transactions, at most.

        Raises
        ------
        TimeoutError
            If another transaction lasts longer.
        """
        if timeout is not None and not isinstance(timeout, (int, float)):
            msg = f"timeout is a number of seconds or None, not {timeout!r}"
            raise TypeError(msg)
        return transaction(self.store.ensure_current_process().backend, timeout)

    def pipeline(self) -> Pipeline:
        """Collect the operations inside, and send them in one round trip: see `Pipeline`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     stock = manager.dict(apples=3)
        ...     with manager.pipeline() as pipeline:
        ...         later = pipeline(stock)
        ...         later["pears"] = 5
        ...         apples = later.get("apples")
        ...     print(apples.value, stock)
        3 {'apples': 3, 'pears': 5}
        """
        # Late: few programs send several operations together.
        from garrison.manager.client._pipeline import Pipeline

        return Pipeline()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write the present state of all containers to a new directory, while they are used.

        ``Manager(path=...)`` opens it. Registered objects and the states of locks are not included.

        Parameters
        ----------
        path : path-like
            A directory that does not exist yet.

        Raises
        ------
        FileExistsError
            If there is something at the path.
        RuntimeError
            If this is inside of a transaction, or the store is on another machine.
        """
        if not self.store.is_local:
            raise RuntimeError(
                "a backup is made by a program on the machine of the store, connected directly"
            )
        # Late: few managers are backed up.
        from garrison.store import back_up

        back_up(self.store.ensure_current_process().backend, path)

    def collect(self) -> int:
        """Free containers that only refer to each other; return their number.

        All others are freed within seconds of their last use. Writers wait meanwhile.
        """
        return int(self.store.ensure_current_process().backend.collect_cycles())

    if TYPE_CHECKING:

        def Pool(  # noqa: N802 - the standard name
            self,
            processes: int | None = None,
            initializer: Callable[..., object] | None = None,
            initargs: Iterable[Any] = (),
            maxtasksperchild: int | None = None,
            context: Any = None,
            **options: Unpack[OptionValues],
        ) -> proxies.PoolProxy:
            """Return a proxy of a new pool in the server."""

    @property
    def _lock_client(self) -> Client:
        """The client of the server, also of one in this process."""
        self._require_state(State.STARTED)
        key = bytes(self._authkey)
        found = get_client(self._address, key, self._serializer, self._limits, local=False)
        self._client_ref = found  # kept as long as this manager is
        return found


def _pool(*args: Any, **kwds: Any) -> Any:
    # Late: few servers have a pool.
    from garrison.pool import Pool

    return Pool(*args, **kwds)


SyncManager.register("Pool", _pool, proxies.PoolProxy)
SyncManager.register("Iterator", proxytype=proxies.IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)

_PLAIN: dict[str, tuple[Any, Any]] = {
    "Queue": (queue.Queue, None),
    "JoinableQueue": (queue.Queue, None),
    "Event": (threading.Event, proxies.EventProxy),
    "Lock": (threading.Lock, proxies.AcquirerProxy),
    "RLock": (threading.RLock, proxies.AcquirerProxy),
    "Semaphore": (threading.Semaphore, proxies.AcquirerProxy),
    "BoundedSemaphore": (threading.BoundedSemaphore, proxies.AcquirerProxy),
    "Condition": (threading.Condition, proxies.ConditionProxy),
    "Barrier": (threading.Barrier, proxies.BarrierProxy),
    "list": (list, proxies.ListProxy),
    "dict": (dict, proxies.DictProxy),
    "Value": (managers.Value, proxies.ValueProxy),
    "Array": (managers.Array, proxies.ArrayProxy),
    "Namespace": (managers.Namespace, proxies.NamespaceProxy),
}
"""The types that the methods above make; in `method_to_typeid` they are plain objects."""
for _typeid, (_callable, _proxytype) in _PLAIN.items():
    SyncManager.register(_typeid, _callable, _proxytype, create_method=False)
del _typeid, _callable, _proxytype
