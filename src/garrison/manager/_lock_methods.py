"""The methods of `SyncManager` that make locks: in shared memory, or lent by the server."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.manager._remote_errors import refusing
from garrison.manager.client import _local_locks as near
from garrison.manager.client import _remote_locks as far

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar, overload

    from garrison.manager.client._client import Client
    from garrison.store import SharedStore

    H = TypeVar("H")
    R = TypeVar("R")

__all__ = ["LockMethods"]


class LockMethods:
    """Makes locks for this machine, and finds those of the server that have a name."""

    if TYPE_CHECKING:

        @property
        def store(self) -> SharedStore:
            """The store behind the containers."""

        @property
        def _lock_client(self) -> Client: ...

    def _local_or_remote(
        self, here: Callable[[], H], kind: Callable[..., R], name: str | None, *rest: Any
    ) -> H | R:
        """Return a lock in shared memory; with a name or remotely, one of the server."""
        if not isinstance(name, (str, type(None))):
            msg = f"the name of a lock must be a str, not {name!r}"
            raise TypeError(msg)
        if name is None and self.store.is_local:
            return here()
        return kind(self._lock_client, name or "", *rest)

    if TYPE_CHECKING:

        @overload
        def Lock(self, name: str) -> far.RemoteLock: ...
        @overload
        def Lock(self, name: None = None) -> near.LocalLock | far.RemoteLock: ...

    @refusing
    def Lock(self, name: str | None = None) -> Any:  # noqa: N802 - the standard name
        """Return a lock; a name always returns the same one.

        Parameters
        ----------
        name : str, optional
            A name always returns the same lock, which belongs to the server: if its owner is
            disconnected, the lock is free again. Without a name, on this machine, it is a word in
            shared memory: if its owner dies, the next waiter acquires it.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     with manager.Lock("nightly"):
        ...         print(manager.Lock("nightly").acquire(timeout=0.01))
        False
        """
        return self._local_or_remote(
            lambda: near.LocalLock(on_abandon="ignore"), far.RemoteLock, name
        )

    if TYPE_CHECKING:

        @overload
        def RLock(self, name: str) -> far.RemoteRLock: ...
        @overload
        def RLock(self, name: None = None) -> near.LocalRLock | far.RemoteRLock: ...

    @refusing
    def RLock(self, name: str | None = None) -> Any:  # noqa: N802 - the standard name
        """Return a lock that its owner may acquire again; see `Lock`.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     lock = manager.RLock()
        ...     with lock, lock:
        ...         print("twice")
        twice
        """
        return self._local_or_remote(
            lambda: near.LocalRLock(on_abandon="ignore"), far.RemoteRLock, name
        )

    @refusing
    def Semaphore(  # noqa: N802 - the standard name
        self, value: int | str = 1, permits: int = 1
    ) -> near.LocalSemaphore | far.RemoteSemaphore:
        """Return a semaphore: ``Semaphore(value)``, or ``Semaphore("name", value)``.

        Parameters
        ----------
        value : int or str
            The initial number of permits; or the name, which always returns the same semaphore.
        permits : int
            After a name: the initial number of permits.

        Raises
        ------
        garrison.managers.RemoteError
            If the number is negative or too large.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     with manager.Semaphore("downloads", 2):
        ...         print(manager.Semaphore("downloads", 2).acquire(timeout=1))
        True
        """
        name, number = (value, permits) if isinstance(value, str) else (None, value)
        return self._local_or_remote(
            lambda: near.LocalSemaphore(number), far.RemoteSemaphore, name, number
        )

    @refusing
    def BoundedSemaphore(  # noqa: N802 - the standard name
        self, value: int | str = 1, permits: int = 1
    ) -> near.LocalBoundedSemaphore | far.RemoteBoundedSemaphore:
        """Return a semaphore that refuses more releases than acquisitions; see `Semaphore`."""
        name, number = (value, permits) if isinstance(value, str) else (None, value)
        bounded = lambda: near.LocalBoundedSemaphore(number)  # noqa: E731
        return self._local_or_remote(bounded, far.RemoteBoundedSemaphore, name, number)

    @refusing
    def Condition(  # noqa: N802 - the standard name
        self, lock: Any = None
    ) -> near.LocalCondition | far.RemoteCondition:
        """Return a condition variable; ``Condition("name")`` names it.

        Parameters
        ----------
        lock : lock or str, optional
            A lock of this manager, by default a new recursive one; or the name, which always
            returns the same condition.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     condition = manager.Condition()
        ...     with condition:
        ...         print(condition.wait(timeout=0.01))
        False
        """
        if isinstance(lock, (far.RemoteLock, far.RemoteRLock)):
            return far.RemoteCondition(self._lock_client, lock=lock)
        name = lock if isinstance(lock, str) else None
        return self._local_or_remote(lambda: near.LocalCondition(lock), far.RemoteCondition, name)

    @refusing
    def Event(  # noqa: N802 - the standard name
        self, name: str | None = None
    ) -> near.LocalEvent | far.RemoteEvent:
        """Return an event; a name always returns the same one.

        Parameters
        ----------
        name : str, optional
            A name always returns the same event; without it, a new one is made.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     manager.Event("ready").set()
        ...     print(manager.Event("ready").wait(timeout=10))
        True
        """
        return self._local_or_remote(near.LocalEvent, far.RemoteEvent, name)

    @refusing
    def Barrier(  # noqa: N802 - the standard name
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
    ) -> near.LocalBarrier | far.RemoteBarrier:
        """Return a barrier, which a number of parties pass together.

        Parameters
        ----------
        parties : int
            How many pass together.
        action : callable, optional
            Called by one of them, before any of them goes on.
        timeout : float, optional
            Seconds after which a `wait` without a timeout of its own breaks the barrier.
        name : str, optional
            A name always returns the same barrier; without it, a new one is made.

        Raises
        ------
        garrison.managers.RemoteError
            If the number of parties is not positive.

        Examples
        --------
        >>> import garrison
        >>> with garrison.Manager() as manager:
        ...     print(manager.Barrier(1).wait())
        0
        """
        barrier = lambda: near.LocalBarrier(parties, action, timeout)  # noqa: E731
        return self._local_or_remote(
            barrier, far.RemoteBarrier, name, parties, None, action, timeout
        )
