"""Several operations as one step.

``transaction`` is what users see: it nests, and a failure inside of it is never half forgotten.
``atomic`` is for the faces' own steps: any number of reads, then one write, so that there is
nothing to undo if it fails in somebody's transaction.
"""

from __future__ import annotations

import threading

from garrison.errors import StoreBusy, TransactionFailed
from garrison.store._backend import Block, Store, Transactions

__all__ = ["PythonBlock", "atomic", "transaction"]


def transaction(store: Store, timeout: float | None = None) -> Block:
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
    return store.block(timeout)


def atomic(store: Store) -> Block:
    """Return a block for any number of reads and one write at the end, as one step."""
    return store.block(None, True)


class _Failures(threading.local):
    """What parts of this thread's transactions have raised, by store."""

    def __init__(self) -> None:
        self.first: dict[int, BaseException] = {}


_failures = _Failures()


class PythonBlock:
    """A block of operations on one store, for engines that are written in Python.

    Parameters
    ----------
    store
        The engine.
    timeout : float, optional
        Seconds to wait for others that write.
    gentle : bool
        Whether it may fail as a part of another without the other failing.
    """

    __slots__ = ("_entered", "_gentle", "_store", "_timeout")

    def __init__(
        self, store: Transactions, timeout: float | None = None, gentle: bool = False
    ) -> None:
        self._store = store
        self._timeout = timeout
        self._gentle = gentle
        self._entered: list[bool] = []

    def __enter__(self) -> PythonBlock:
        joined = self._store.in_transaction
        if not joined:
            _failures.first.pop(id(self._store), None)
            self._begin()
        self._entered.append(joined)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        joined = self._entered.pop()
        if not joined:
            self._end(error)
        elif error is not None and not self._gentle:
            _failures.first.setdefault(id(self._store), error)

    def _begin(self) -> None:
        store, timeout = self._store, self._timeout
        try:
            store.begin(timeout)
        except StoreBusy as error:
            if timeout is None:
                raise
            raise TimeoutError(f"others were writing to the store for {timeout} s") from error
        except BaseException:
            if store.in_transaction:  # what a signal's handler has raised on the way back
                store.abort()
            raise

    def _end(self, error: BaseException | None) -> None:
        store, failure = self._store, _failures.first.pop(id(self._store), None)
        if not store.in_transaction:
            if error is None:
                msg = "it was ended from inside, or this process was forked inside of it"
                raise _failed(msg) from failure
        elif error is None and failure is None:
            _commit(store)
        else:
            store.abort()
            if error is None:
                msg = (
                    f"a part of it had failed ({type(failure).__name__}: {failure}) and the "
                    "exception went no further than the outer block; let it out, or keep that "
                    "part outside of a transaction"
                )
                raise _failed(msg) from failure

    def __repr__(self) -> str:
        return f"<Transaction {'open' if self._entered else 'closed'}>"


def _commit(store: Transactions) -> None:
    try:
        store.commit()
    finally:
        if store.in_transaction:
            store.abort()


def _failed(why: str) -> TransactionFailed:
    return TransactionFailed(f"nothing of this transaction was done: {why}")
