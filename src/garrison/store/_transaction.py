"""Several operations as one step.

`transaction` is for users. It nests, and a failure of a nested block fails the outer one.
`single_step` is for methods of containers: any number of reads, then one write. If it fails inside
a transaction, there is nothing to undo.
"""

from __future__ import annotations

import threading

from garrison.errors import StoreBusy, TransactionFailed
from garrison.store._backend import StoreBackend, TransactionBlock, Transactions

__all__ = ["PythonTransaction", "single_step", "transaction"]


def transaction(backend: StoreBackend, timeout: float | None = None) -> TransactionBlock:
    """Return a block whose operations on `backend` are done as one step, or not at all.

    Other processes see nothing of it before its end, and all of it afterwards. Other writers wait
    meanwhile. An exception, or the death of the process, undoes everything. A nested block is a
    part of the outer one; if it fails, the outer one cannot be committed any more.

    Parameters
    ----------
    backend
        The backend.
    timeout : float, optional
        Seconds to wait for other writers. By default as long as it takes.

    Raises
    ------
    TimeoutError
        On entry, if other writers took longer than `timeout`.
    TransactionFailed
        At the end, if a part had failed and the exception did not leave the block.
    """
    return backend.transaction(timeout)


def single_step(backend: StoreBackend) -> TransactionBlock:
    """Return a block for any number of reads and one write at the end, as one step."""
    return backend.transaction(None, True)


class _Failures(threading.local):
    """What nested blocks of this thread have raised, by store."""

    def __init__(self) -> None:
        self.first: dict[int, BaseException] = {}


_failures = _Failures()


class PythonTransaction:
    """A block of operations on one store, for backends that are written in Python.

    Parameters
    ----------
    backend
        The backend.
    timeout : float, optional
        Seconds to wait for other writers.
    nested_failure_ok : bool
        Whether it may fail inside another block without failing that.
    """

    __slots__ = ("_backend", "_entered", "_nested_failure_ok", "_timeout")

    def __init__(
        self, backend: Transactions, timeout: float | None = None, nested_failure_ok: bool = False
    ) -> None:
        self._backend = backend
        self._timeout = timeout
        self._nested_failure_ok = nested_failure_ok
        self._entered: list[bool] = []

    def __enter__(self) -> PythonTransaction:
        joined = self._backend.in_transaction
        if not joined:
            _failures.first.pop(id(self._backend), None)
            self._begin()
        self._entered.append(joined)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        joined = self._entered.pop()
        if not joined:
            self._end(error)
        elif error is not None and not self._nested_failure_ok:
            _failures.first.setdefault(id(self._backend), error)

    def _begin(self) -> None:
        backend, timeout = self._backend, self._timeout
        try:
            backend.begin(timeout)
        except StoreBusy as error:
            if timeout is None:
                raise
            raise TimeoutError(f"others were writing to the store for {timeout} s") from error
        except BaseException:
            if backend.in_transaction:  # what a signal's handler has raised on the way back
                backend.abort()
            raise

    def _end(self, error: BaseException | None) -> None:
        backend, failure = self._backend, _failures.first.pop(id(self._backend), None)
        if not backend.in_transaction:
            if error is None:
                msg = "it was ended from inside, or this process was forked inside of it"
                raise _failed(msg) from failure
        elif error is None and failure is None:
            _commit(backend)
        else:
            backend.abort()
            if error is None:
                msg = (
                    f"a part of it had failed ({type(failure).__name__}: {failure}) and the "
                    "exception went no further than the outer block; let it out, or keep that "
                    "part outside of a transaction"
                )
                raise _failed(msg) from failure

    def __repr__(self) -> str:
        return f"<Transaction {'open' if self._entered else 'closed'}>"


def _commit(backend: Transactions) -> None:
    try:
        backend.commit()
    finally:
        if backend.in_transaction:
            backend.abort()


def _failed(why: str) -> TransactionFailed:
    return TransactionFailed(f"nothing of this transaction was done: {why}")
