"""`Queue` and `JoinableQueue`: items that one process puts and another gets.

`get` tries. If the queue is empty, it sleeps until the queue has changed, and tries again::

    read the change count ──▶ try ──▶ done
              ▲                │ empty
              └── changed ◀── sleep while the count is what was read
"""

from __future__ import annotations

import functools
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from garrison._typing import TYPE_CHECKING, Any, TypedBase
from garrison.errors import ClaimLost, DeadlockError, GarrisonError, ManagerLost
from garrison.store._backend import Kind
from garrison.store._transaction import single_step, transaction
from garrison.store.containers._base import Container, ContainerRepr

__all__ = ["JoinableQueue", "Queue"]

T = TypeVar("T")
Result = TypeVar("Result")


if TYPE_CHECKING:
    from typing import Generic as ItemBase
else:
    ItemBase = TypedBase(object)


class Queue(Container, ItemBase[T]):
    """A `queue.Queue` that processes share: ``manager.Queue()``.

    An item that was put stays in the queue, also if the process that put it dies. `claim` takes an
    item so that it comes back if the process fails or dies. A put or a get inside a transaction is
    a part of it.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     orders = manager.Queue()
    ...     orders.put("tea")
    ...     with orders.claim() as order:  # goes back if this block fails
    ...         print(order, orders.qsize())
    tea 0
    """

    __slots__ = ("_limit",)
    _exposed_ = (
        *("empty", "full", "get", "get_nowait", "join", "put", "put_nowait", "qsize", "shutdown"),
        "task_done",
    )
    __module__ = "garrison.store"
    _kind = Kind.QUEUE.value
    _proxy_name = "AutoProxy[Queue]"
    _typeid = "Queue"
    _limit: int

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._reduce_for_transfer()  # as a proxy of the standard library

    @property
    def maxsize(self) -> int:
        """The most items in the queue; 0: any number."""
        try:
            return self._limit
        except AttributeError:
            self._limit = max(self._metadata.limit, 0)
            return self._limit

    def qsize(self) -> int:
        """Return the number of items in the queue now."""
        return self._backend.length(self._container_id)

    def empty(self) -> bool:
        """Return whether the queue is empty now."""
        return not self.qsize()

    def full(self) -> bool:
        """Return whether the queue is full now."""
        return 0 < self.maxsize <= self.qsize()

    # --- Put ----------------------------------------------------------------------------------

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item at the end.

        Parameters
        ----------
        item
            Any value that can be stored.
        block : bool
            Whether to wait while the queue is full.
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        queue.Full
            If there was no room in that time.
        ShutDown
            If the queue was shut down.
        ValueError
            If `timeout` is negative.
        DeadlockError
            If it would have to wait inside of a transaction.
        """
        if timeout is None and not self.maxsize:
            self._append([item])
        else:
            self._retry_until("put", lambda: self._put([item]), queue.Full, block, timeout)

    def put_nowait(self, item: T) -> None:
        """Put an item at the end, or raise `queue.Full` at once."""
        self.put(item, block=False)

    def put_many(
        self, items: Iterable[T], block: bool = True, timeout: float | None = None
    ) -> None:
        """Put several items at the end, all of them at once; see `put`.

        Raises
        ------
        ValueError
            If there are more than the queue can ever hold.
        """
        listed = list(items)
        if 0 < self.maxsize < len(listed):
            msg = f"{len(listed)} items do not fit into a queue with maxsize {self.maxsize}"
            raise ValueError(msg)
        self._retry_until("put_many", lambda: self._put(listed), queue.Full, block, timeout)

    def _put(self, items: list[Any]) -> None:
        """Put the items if there is room for all, else raise IndexError."""
        if not self.maxsize:
            self._append(items)
            return
        with single_step(self._backend):
            if self.qsize() + len(items) > self.maxsize:
                self._append([])  # raises if the queue was shut down
                raise _WouldBlock
            self._append(items)

    def _append(self, items: list[Any]) -> None:
        self._backend.list_extend(self._container_id, items)

    # --- Get ----------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first item.

        Parameters
        ----------
        block : bool
            Whether to wait while the queue is empty.
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        queue.Empty
            If nothing came in that time.
        ShutDown
            If the queue was shut down, and nothing is left.
        ValueError
            If `timeout` is negative.
        DeadlockError
            If it would have to wait inside of a transaction.
        """
        if timeout is None:
            try:
                return self._backend.list_pop(self._container_id, 0)  # type: ignore[no-any-return]
            except IndexError:
                pass
        return self._retry_until("get", self._get, queue.Empty, block, timeout)

    def get_nowait(self) -> T:
        """Take the first item, or raise `queue.Empty` at once."""
        return self.get(block=False)

    def get_many(self, max_items: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take the first item as `get` does, and further items up to `max_items` in all."""
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items}")
        attempt = functools.partial(self._get_many, max_items)
        return self._retry_until("get_many", attempt, queue.Empty, block, timeout)

    def _get(self) -> T:
        try:
            return self._backend.list_pop(self._container_id, 0)  # type: ignore[no-any-return]
        except IndexError:
            raise _WouldBlock from None

    def _get_many(self, most: int) -> list[Any]:
        with transaction(self._backend):
            count = min(self.qsize(), most)
            items = [self._backend.list_pop(self._container_id, 0) for _ in range(count)]
        return items or [self._get()]

    # --- Done -----------------------------------------------------------------------------------

    def task_done(self) -> None:
        """Report that an item that was taken with `get` is done.

        Raises
        ------
        ValueError
            If it is called more often than items were put.
        """
        try:
            self._backend.counter_add(self._container_id, -1, 0)
        except ValueError:
            raise ValueError("task_done() called too many times") from None

    def join(self, timeout: float | None = None) -> None:
        """Wait until every item that was put is done.

        Raises
        ------
        TimeoutError
            If that takes longer than `timeout` seconds.
        """
        self._retry_until("join", self._joined, TimeoutError, block=True, timeout=timeout)

    def _joined(self) -> None:
        if self._metadata.unfinished:
            raise _WouldBlock

    def shutdown(self, immediate: bool = False) -> None:
        """Take no more items: `put` raises `ShutDown` from now on, and `get` when nothing is left.

        As `queue.Queue.shutdown` of Python 3.13, in every Python. Waiting processes wake up.

        Parameters
        ----------
        immediate : bool
            Whether to drop the items that are in the queue; they count as done.
        """
        self._backend.shut_down_queue(self._container_id, immediate)

    # --- Claim --------------------------------------------------------------------------------

    @contextmanager
    def claim(self, block: bool = True, timeout: float | None = None) -> Iterator[T]:
        """Take the first item for the length of a block.

        At its end the item is removed, and done. If the block is left by an exception, or its
        process dies, or a remote one's connection breaks, it is back at the front of the queue.

        Raises
        ------
        queue.Empty, ValueError, DeadlockError
            As `get`.
        ClaimLost
            At the end, if the item went back in the meantime.
        """
        claimed: list[tuple[int, Any]] = []
        take = functools.partial(self._claim, claimed)
        acking = False
        try:
            self._retry_until("claim", take, queue.Empty, block, timeout)
            yield claimed[0][1]
            acking = True
            acked = self._ack(claimed[0][0])
        except BaseException as error:
            # If the connection is gone, the server returns the claim.
            if not (acking and isinstance(error, ManagerLost)):
                for ticket, _ in claimed:
                    self._backend.return_claim(self._container_id, ticket)
            raise
        if not acked:
            msg = f"{self} took a claimed item back before its block ended; it will come again"
            raise ClaimLost(msg)

    def _claim(self, claimed: list[tuple[int, Any]]) -> None:
        try:
            # In one call: a signal handler cannot raise between the claim and the list.
            claimed.extend(map(self._backend.claim_first, (self._container_id,)))
        except IndexError:
            raise _WouldBlock from None

    def _ack(self, ticket: int) -> bool:
        return self._backend.ack_claim(self._container_id, ticket)

    # --- Waiting ------------------------------------------------------------------------------

    def _retry_until(
        self,
        name: str,
        attempt: Callable[[], Result],
        timeout_error: type[Exception],
        block: bool,
        timeout: float | None,
    ) -> Result:
        """Try until it works, at most for `timeout` seconds."""
        if block and timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        try:
            return attempt()
        except _WouldBlock:
            if not block or timeout == 0:
                raise timeout_error from None
        self._check_may_wait(name)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = self._backend.change_count(self._container_id)
            try:
                return attempt()
            except _WouldBlock:
                pass
            # Outside of the handler: an interrupt of the wait is not raised "during" it.
            if not self._sleep(seen, deadline):
                raise timeout_error

    def _sleep(self, seen: int, deadline: float | None) -> bool:
        """Sleep until something changes; return whether there is time left."""
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        self._backend.wait_for_change(self._container_id, seen, left)
        return True

    def _check_may_wait(self, name: str) -> None:
        if self._backend.in_transaction:
            msg = (
                f"{name}() would wait for ever: inside of a transaction of ours no other process "
                f"can change {self}; call it with block=False, or before the transaction"
            )
            raise DeadlockError(msg)

    def _repr_items(self, shown: ContainerRepr) -> str:  # noqa: ARG002
        limit = f" of {self.maxsize}" if self.maxsize else ""
        return f"<{type(self).__name__} with {self.qsize()}{limit} items>"


class JoinableQueue(Queue[T]):
    """A `Queue` under the name that `multiprocessing` has for one with `join`.

    Examples
    --------
    >>> import garrison
    >>> with garrison.Manager() as manager:
    ...     jobs = manager.JoinableQueue()
    ...     jobs.put("tea")
    ...     print(jobs.get())
    ...     jobs.task_done()
    ...     jobs.join()
    tea
    """

    __slots__ = ()
    __module__ = "garrison.store"
    _kind = Kind.JOINABLE_QUEUE.value
    _proxy_name = "AutoProxy[JoinableQueue]"
    _typeid = "JoinableQueue"


class _WouldBlock(GarrisonError):
    pass
