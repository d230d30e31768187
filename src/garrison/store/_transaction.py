"""Several operations as one step.

``transaction`` is what users see: it nests, and a failure inside of it is never half forgotten.
``atomic`` is for the faces' own steps: any number of reads, then one write, so that there is
nothing to undo if it fails in somebody's transaction.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType

from garrison._core import StoreBusy
from garrison.errors import TransactionFailed
from garrison.store._contract import Store

__all__ = ["Transaction", "atomic", "transaction"]


class _Open(threading.local):
    """The transactions of this thread, by store."""

    def __init__(self) -> None:
        self.by_store: dict[int, Transaction] = {}


_open = _Open()


class Transaction:
    """A block that is done as a whole or not at all; see `transaction`."""

    __slots__ = ("_depth", "_failure", "_pid", "_store", "_timeout")

    def __init__(self, store: Store, timeout: float | None) -> None:
        self._store = store
        self._timeout = timeout
        self._depth = 0
        self._pid = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Transaction:
        if self._depth == 0:
            begin(self._store, self._timeout)
            self._pid = os.getpid()
            self._failure = None
            _open.by_store[id(self._store)] = self
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        self._failure = self._failure or error
        if self._depth == 0:
            _open.by_store.pop(id(self._store), None)
            failure, self._failure = self._failure, None  # it has this frame in its traceback
            self._end(failure, swallowed=error is None)

    def _end(self, failure: BaseException | None, swallowed: bool) -> None:
        if os.getpid() != self._pid or not self._store.in_transaction:
            self._report_gone(failure, swallowed)
        elif failure is None:
            commit(self._store)
        else:
            self._store.abort()
            if swallowed:
                msg = (
                    "nothing of this transaction was done: a part of it had failed "
                    f"({type(failure).__name__}: {failure}) and the exception went no further "
                    "than the outer block; let it out, or keep that part outside of a transaction"
                )
                raise TransactionFailed(msg) from failure

    def _report_gone(self, failure: BaseException | None, swallowed: bool) -> None:
        if swallowed or failure is None:
            forked = os.getpid() != self._pid
            why = "this process was forked inside of it" if forked else "it was ended from inside"
            raise TransactionFailed(f"this transaction is not ours to commit: {why}") from failure

    def __repr__(self) -> str:
        return f"<Transaction {'open' if self._depth else 'closed'}>"


def begin(store: Store, timeout: float | None) -> None:
    """Begin a transaction, or raise TimeoutError."""
    try:
        store.begin(timeout)
    except StoreBusy as error:
        if timeout is None:
            raise
        raise TimeoutError(f"others were writing to the store for {timeout} s") from error


def commit(store: Store) -> None:
    """Make a transaction visible; if that fails there is nothing left of it."""
    try:
        store.commit()
    finally:
        if store.in_transaction:
            store.abort()


def transaction(store: Store, timeout: float | None = None) -> Transaction:
    """Return a block whose operations on `store` are done as one step, or not at all.

    Others see nothing of it before its end, and all of it afterwards; who wants to write meanwhile
    waits. An exception, or the death of the process, undoes everything. A block inside of a block
    is a part of the outer one, and if it fails the outer one cannot be committed any more.

    Parameters
    ----------
    store
        The engine.
    timeout : float, optional
        Seconds to wait for others that write. By default as long as it takes.

    Raises
    ------
    TimeoutError
        On entry, if others were writing for longer than `timeout`.
    TransactionFailed
        At the end, if a part had failed and the exception did not leave the block.
    """
    outer = _open.by_store.get(id(store))
    if outer is not None and store.in_transaction:
        return outer
    return Transaction(store, timeout)


class atomic:  # noqa: N801 - reads as `with transaction(...)` does
    """Any number of reads and one write at the end, as one step."""

    __slots__ = ("_joined", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._joined = self._store.in_transaction
        if not self._joined:
            self._store.begin()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._joined:
            return
        if error is None:
            commit(self._store)
        else:
            self._store.abort()
