"""Contexts of the standard library whose pools and locks are garrison's."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing import context, queues
from typing import TYPE_CHECKING, Any

from garrison import memory, sync
from garrison.pool import Pool as _Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.manager import SyncManager
    from garrison.pool import Pool

__all__ = ["Manager", "connect", "get_context", "get_start_method", "set_start_method"]


class _Own:
    """Added to a context: what garrison has of its own, with the context's start method."""

    def get_context(self, method: str | None = None) -> Any:
        """Return the context for another start method."""
        return self if method is None else get_context(method)

    def Pool(  # noqa: N802 - the standard name
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> Pool:
        """Return a pool of processes."""
        chosen: Any = self
        return _Pool(processes, initializer, initargs, maxtasksperchild, chosen, **options)

    def Manager(  # noqa: N802 - the standard name
        self, address: Any = None, **options: Any
    ) -> SyncManager:
        """Return a manager whose server has been started."""
        # Late: what has no manager should not wait for one to be imported.
        from garrison.manager import SyncManager

        manager = SyncManager(address, ctx=self, **options)
        manager.start()
        return manager

    def Lock(self, **options: Any) -> sync.Lock:  # noqa: N802 - the standard name
        """Return a lock between processes."""
        return sync.Lock(ctx=self, **options)

    def RLock(self, **options: Any) -> sync.RLock:  # noqa: N802 - the standard name
        """Return a lock that its owner may take again."""
        return sync.RLock(ctx=self, **options)

    def Queue(self, maxsize: int = 0) -> sync.Queue:  # noqa: N802 - the standard name
        """Return a queue between processes."""
        return sync.Queue(maxsize, ctx=self)

    def JoinableQueue(  # noqa: N802 - the standard name
        self, maxsize: int = 0
    ) -> sync.JoinableQueue:
        """Return a queue that can be waited for until all its items are dealt with."""
        return sync.JoinableQueue(maxsize, ctx=self)

    def SimpleQueue(self) -> sync.SimpleQueue:  # noqa: N802 - the standard name
        """Return a queue with three methods.

        An executor of `concurrent.futures` waits for the descriptor of its queue's pipe. Garrison's
        queues have no descriptor, so it gets one of the standard library's.
        """
        if sys._getframe(1).f_globals.get("__name__") == "concurrent.futures.process":
            chosen: Any = queues.SimpleQueue(ctx=self)
            return chosen  # type: ignore[no-any-return]
        return sync.SimpleQueue(ctx=self)

    def Value(  # noqa: N802 - the standard name
        self, typecode_or_type: Any, *args: Any, lock: Any = True
    ) -> Any:
        """Return a number, or another C object, in shared memory."""
        return sync.Value(typecode_or_type, *args, lock=lock)

    def Array(  # noqa: N802 - the standard name
        self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True
    ) -> Any:
        """Return an array in shared memory."""
        return sync.Array(typecode_or_type, size_or_initializer, lock=lock)

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:  # noqa: N802 - the standard name
        """Return a C object in shared memory, without a lock."""
        return memory.RawValue(typecode_or_type, *args)

    def RawArray(  # noqa: N802 - the standard name
        self, typecode_or_type: Any, size_or_initializer: Any
    ) -> Any:
        """Return an array of C objects in shared memory, without a lock."""
        return memory.RawArray(typecode_or_type, size_or_initializer)

    def Condition(  # noqa: N802 - the standard name
        self, lock: sync.Lock | sync.RLock | None = None
    ) -> sync.Condition:
        """Return a lock with a place to wait for a change."""
        return sync.Condition(lock, ctx=self)

    def Semaphore(self, value: int = 1) -> sync.Semaphore:  # noqa: N802 - the standard name
        """Return a number of permits."""
        return sync.Semaphore(value, ctx=self)

    def BoundedSemaphore(  # noqa: N802 - the standard name
        self, value: int = 1
    ) -> sync.BoundedSemaphore:
        """Return a number of permits on loan."""
        return sync.BoundedSemaphore(value, ctx=self)

    def Event(self) -> sync.Event:  # noqa: N802 - the standard name
        """Return a flag that processes wait for."""
        return sync.Event(ctx=self)

    def Barrier(  # noqa: N802 - the standard name
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> sync.Barrier:
        """Return a point that processes pass together."""
        return sync.Barrier(parties, action, timeout, ctx=self)


class ForkContext(_Own, context.ForkContext):  # type: ignore[misc] # others of the same names
    """Start processes by forking this one."""


class SpawnContext(_Own, context.SpawnContext):  # type: ignore[misc] # others of the same names
    """Start processes in fresh interpreters."""


class ForkServerContext(_Own, context.ForkServerContext):  # type: ignore[misc] # others of the same names
    """Start processes by forking a fresh interpreter."""


_CONTEXTS: dict[str, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}


def get_context(method: str | None = None) -> Any:
    """Return a context for a start method; by default for the current one.

    Raises
    ------
    ValueError
        If there is no such method.

    Examples
    --------
    >>> import garrison
    >>> with garrison.get_context("spawn").Pool(1) as pool:
    ...     pool.apply(len, ("four",))
    4
    """
    if method is None:
        method = multiprocessing.get_start_method()
    multiprocessing.get_context(method)  # raises for what this system has not
    return _CONTEXTS[method]


def get_start_method(allow_none: bool = False) -> str | None:
    """Return the name of the start method, shared with `multiprocessing`."""
    return multiprocessing.get_start_method(allow_none)


def set_start_method(method: str | None, force: bool = False) -> None:
    """Choose the start method, shared with `multiprocessing`."""
    multiprocessing.set_start_method(method, force)


def Manager(address: Any = None, **options: Any) -> SyncManager:  # noqa: N802 - the standard name
    """Return a manager whose server has been started.

    Parameters
    ----------
    address : tuple or str, optional
        Where others find it, on this machine or on others: ``("0.0.0.0", 5000)``.
    **options
        `key`, `path`, `sync`, `size` and all else that `garrison.managers.SyncManager` takes.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     shared = manager.dict()
    ...     shared["a"] = {}
    ...     shared["a"]["b"] = 1
    ...     print(shared)
    {'a': {'b': 1}}
    """
    chosen: Any = get_context()
    return chosen.Manager(address, **options)  # type: ignore[no-any-return]


def connect(address: Any, key: Any = None, **options: Any) -> SyncManager:
    """Find a manager that somebody else has started, on this machine or another.

    Parameters
    ----------
    address : str or tuple
        ``"garrison://host:port"``, ``(host, port)``, or the path of a socket.
    key : bytes, str or path-like, optional
        The key that the server was started with; a path is that of a file which has it.
    **options
        `direct` (whether to reach containers in memory, if the server is on this machine and of
        this user) and `limits`.

    Raises
    ------
    AuthenticationError
        If the server has another key.
    OSError
        If there is no server of garrison's at the address.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager(address=("127.0.0.1", 0), key="a long random text") as server:
    ...     there = garrison.connect(server.address, "a long random text")
    ...     there.dict("stock")["pears"] = 5
    ...     print(server.dict("stock"))
    {'pears': 5}
    """
    from garrison.manager._connect import connect as find

    return find(address, key, **options)
