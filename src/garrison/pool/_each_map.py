"""`EachMapResult`: the result of a map whose items have an outcome each, with `on_error`.

An `imap` does the work: a failed item, or a worker's death, costs none of its neighbours there.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import threading
import time

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.pool._results import DEFAULT_GRACE_S, AsyncResult, R, check_grace
from garrison.pool._stdlib_names import StandardMapResult, hide

if TYPE_CHECKING:
    from garrison.pool._backend import Backend, TaskHandle
    from garrison.pool._imap import IMapIterator

__all__ = ["EachMapResult"]


class EachMapResult(AsyncResult["list[R]"], StandardMapResult[R]):
    """The future list of the results of an `imap`."""

    __slots__ = ("_chunksize", "_error", "_items", "_iterator", "_lock", "_values")

    is_fully_submitted: bool = True
    """The pool sees to the iterator's input."""
    _is_cancelling: bool = False

    def __init__(
        self,
        pool: object,
        backend: Backend,
        iterator: IMapIterator[R],
        error: BaseException | None,
        items: int,
        chunksize: int,
    ) -> None:
        self._pool, self._backend, self._task, self._outcome = pool, backend, None, None
        self._iterator: IMapIterator[R] | None = iterator
        self._error = error
        """The error of the input, which `get` raises."""
        self._items, self._chunksize = items, chunksize
        self._values: list[R] = []
        self._lock = threading.RLock()

    def ready(self) -> bool:
        """Whether all calls have completed."""
        return self._outcome is not None or self._poll()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all calls have ended or never will, at most `timeout` seconds."""
        with contextlib.suppress(GarrisonError, multiprocessing.TimeoutError):
            self._collect(timeout)

    def get(self, timeout: float | None = None) -> list[R]:
        """Return the list of results, once all have arrived."""
        self._collect(timeout)
        return super().get()

    def _collect(self, timeout: float | None) -> None:
        """Take the results as they come; TimeoutError after `timeout` seconds.

        One thread does it, and others wait for that; `cancel` ends its wait.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise multiprocessing.TimeoutError
        try:
            while (iterator := self._iterator) is not None:
                left = None if timeout is None else max(0.0, deadline - time.monotonic())
                try:
                    self._values.append(iterator.next_again(left))
                except StopIteration:
                    self._end()
        finally:
            self._lock.release()

    def _end(self) -> None:
        if self._is_cancelling:
            self._set_cancelled()
            self._values = []
        else:
            failed = self._error is not None
            self._outcome = not failed, self._error if failed else self._values
        self._iterator = self._pool = None

    def _resolve(self) -> tuple[bool, Any]:
        self._collect(None)
        assert self._outcome is not None  # noqa: S101 - what _collect is for
        return self._outcome

    def _poll(self) -> bool:
        with contextlib.suppress(multiprocessing.TimeoutError):
            self._collect(0.0)
        return self._outcome is not None

    def _next_task(self) -> TaskHandle | None:
        iterator = self._iterator
        tasks = [] if iterator is None else iterator.stream.tasks()
        return tasks[0] if tasks else None

    @property
    def _number_left(self) -> int:
        """The number of unfinished chunks."""
        if self.ready():
            return 0
        return -(-(self._items - len(self._values)) // self._chunksize)

    def cancel(self, *, grace: float = DEFAULT_GRACE_S) -> bool:
        """Give all results up: calls are withdrawn, or interrupted if they run."""
        grace = check_grace(grace)
        iterator = self._iterator
        if iterator is not None and not self.ready():
            # Without the lock, which a thread that waits for results has.
            self._is_cancelling = True
            iterator.close(grace=grace)
            with self._lock:
                if self._iterator is not None:
                    self._end()
        return self._was_cancelled

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._was_cancelled

    def withdraw(self) -> None:
        """End all that is left of it soon: there was an interrupt, and nobody wants the result."""
        iterator = self._iterator
        if iterator is not None:
            iterator.withdraw()


hide(EachMapResult)
