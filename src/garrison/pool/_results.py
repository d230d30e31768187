"""What the asynchronous methods return: `AsyncResult` for one call, `MapResult` for many."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import GarrisonError
from garrison.pool._stdlib_names import StandardMapResult, StandardResult, hide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from garrison import _core
    from garrison.pool._callbacks import Herald
    from garrison.pool._process_backend import Engine
    from garrison.pool._progress import Bar

    Callback = Callable[[Any], object] | None

__all__ = ["AsyncResult", "MapResult"]

Chunk = tuple[Any, int, int]
"""A ticket, the items that it stands for, the bytes of their arguments."""

_decoded = threading.Condition()
"""For the rare case that several threads want the same result at once."""
os.register_at_fork(after_in_child=_decoded._at_fork_reinit)  # type: ignore[attr-defined]


class AsyncResult(StandardResult):  # type: ignore[misc] # a standard class
    """The result of `Pool.apply_async`, perhaps still to come."""

    __slots__ = ("_engine", "_outcome", "_pool", "_ticket")

    _ticket: Any

    def __init__(
        self,
        pool: object,
        engine: Engine,
        ticket: _core.Ticket | None,
        outcome: tuple[bool, Any] | None = None,
    ) -> None:
        self._pool, self._engine, self._ticket = pool, engine, ticket
        self._outcome = outcome

    def ready(self) -> bool:
        """Whether the call has completed."""
        return self._outcome is not None or self._ticket.ended()

    def successful(self) -> bool:
        """Whether the call completed without an exception.

        Raises
        ------
        ValueError
            If the result is not ready.
        """
        if not self.ready():
            msg = f"{self!r} not ready"
            raise ValueError(msg)
        return self._settle()[0]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there or can never come, or `timeout` seconds have passed."""
        if self._outcome is None:
            deadline = None if timeout is None else time.monotonic() + timeout
            # What has become of the pool is for `get` to say.
            with contextlib.suppress(GarrisonError):
                self._engine.await_(self._ticket, deadline)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result when it arrives, or raise what the call raised.

        Raises
        ------
        multiprocessing.TimeoutError
            If it does not arrive within `timeout` seconds.
        garrison.WorkerDied
            If the process that ran the call went away.
        """
        outcome = self._outcome
        if outcome is None:
            if not self._ticket.ended():
                deadline = None if timeout is None else time.monotonic() + timeout
                if not self._engine.await_(self._ticket, deadline):
                    raise multiprocessing.TimeoutError
            outcome = self._settle()
        success, value = outcome
        if success:
            return value
        try:
            raise value
        finally:
            # The exception's frames refer to this one: no cycle, no surprise for `gc`.
            del value, self

    def _settle(self) -> tuple[bool, Any]:
        """Decode the ended task, once."""
        outcome = self._outcome
        if outcome is not None:
            return outcome
        try:
            success, value, *_ = self._engine.outcome(self._ticket)
        except RuntimeError:
            return self._settled_elsewhere()
        outcome = self._outcome = (success, value)
        if _waiting:
            with _decoded:
                _decoded.notify_all()
        return outcome

    def _settled_elsewhere(self) -> tuple[bool, Any]:
        with _decoded:
            _waiting.append(self)
            try:
                _decoded.wait_for(lambda: self._outcome is not None, timeout=60)
            finally:
                _waiting.remove(self)
        if self._outcome is None:
            msg = "this result is being decoded by the code that asks for it"
            raise RuntimeError(msg)
        return self._outcome

    # --- What code that looks into a standard result finds there --------------------------------

    @property
    def _success(self) -> bool:
        return self.ready() and self._settle()[0]

    @property
    def _value(self) -> Any:
        return self._settle()[1] if self.ready() else None

    @property
    def _event(self) -> _Ready:
        return _Ready(self)

    def __repr__(self) -> str:
        state = "pending" if not self.ready() else "ready"
        return f"<{type(self).__name__} {state}>"


class _Ready:
    """What ``_event`` of a standard result tells."""

    def __init__(self, result: AsyncResult) -> None:
        self.is_set = result.ready
        self._wait = result.wait

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as for an event."""
        self._wait(timeout)
        return self.is_set()


_waiting: deque[AsyncResult] = deque()


class MapResult(AsyncResult, StandardMapResult):  # type: ignore[misc] # as above
    """The result of `Pool.map_async` and `Pool.starmap_async`: a list, perhaps still to come.

    Chunks are submitted as long as few bytes are under way; the rest follow as results come.
    """

    __slots__ = (
        "_bar",
        "_chunks",
        "_chunksize",
        "_error",
        "_feeding",
        "_items_left",
        "_lock",
        "_values",
        "_window",
        "in_flight",
    )

    WINDOW = 256 << 20
    """Bytes under way; what a single worker needs to be busy may be more."""
    CELLS = 1 << 16
    """Chunks under way."""

    def __init__(
        self,
        pool: object,
        engine: Engine,
        chunks: Iterator[Chunk],
        error: BaseException | None,
        items: int,
        chunksize: int,
    ) -> None:
        self._pool, self._engine, self._ticket = pool, engine, None
        self._outcome = None
        self._values: list[Any] = []
        self._error = error
        """What `get` will raise, once all chunks have ended."""
        self._chunks = chunks
        self._feeding = True
        self._items_left, self._chunksize = items, chunksize
        self._window = 0
        self._lock = threading.RLock()
        self._bar: Bar | None = None
        self.in_flight: deque[Chunk] = deque()
        self._feed()

    def _feed(self) -> None:
        """Submit chunks while the window is open; what cannot be sent is an error of the result."""
        least = 2 * self._engine.processes
        while self._feeding and len(self.in_flight) < self.CELLS:
            if self._window >= self.WINDOW and len(self.in_flight) >= least:
                return
            try:
                chunk = next(self._chunks)
            except StopIteration:
                self._feeding = False
                return
            except Exception as error:
                # As with the standard library, the other chunks are worked on all the same.
                self._error = self._error or error
                continue
            self.in_flight.append(chunk)
            self._window += chunk[2]

    @property
    def _number_left(self) -> int:
        """How many chunks are still to come, if all had the size that `_chunksize` tells."""
        with self._lock:
            if self._outcome is not None:
                return 0
            ended = sum(items for ticket, items, _ in self.in_flight if ticket.ended())
            left = self._items_left - ended
        return -(-left // self._chunksize) if left else 0

    @property
    def fed(self) -> bool:
        """Whether all of the input has been submitted."""
        return not self._feeding

    def ready(self) -> bool:
        """Whether all calls have completed."""
        if self._outcome is not None:
            return True
        return not self._feeding and all(ticket.ended() for ticket, _, _ in list(self.in_flight))

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all results are there or can never come, or `timeout` seconds have passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with contextlib.suppress(GarrisonError):
            self._collect(deadline)

    def get(self, timeout: float | None = None) -> list[Any]:
        """Return the list of results when all have arrived, or raise the first error."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._collect(deadline):
            raise multiprocessing.TimeoutError
        success, value = self._settle()
        if success:
            result: list[Any] = value
            return result
        try:
            raise value
        finally:
            del value, self

    def _collect(self, deadline: float | None) -> bool:
        """Read chunk after chunk, and submit the next ones; False at the deadline."""
        while self._outcome is None:
            head = self.in_flight[0] if self.in_flight else None
            if head is not None and not self._engine.await_(head[0], deadline):
                return False
            self.step()
        return True

    def step(self) -> bool:
        """Read the first chunk if it has ended; True when the whole result is there."""
        with self._lock:
            while self._outcome is None and self.in_flight and self.in_flight[0][0].ended():
                ticket, items, size = self.in_flight.popleft()
                self._window -= size
                self._items_left -= items
                self._take(ticket, items)
                self._feed()
            if self._outcome is None and not self.in_flight and not self._feeding:
                failed = self._error is not None
                self._outcome = (not failed, self._error if failed else self._values)
                self._values = []
                if self._bar is not None:
                    self._bar.close()
            return self._outcome is not None

    def pump(self) -> None:
        """Submit all of the input: the pool is being joined."""
        while self._feeding:
            self._engine.await_(self.in_flight[0][0], None)
            self.step()

    def _take(self, ticket: _core.Ticket, items: int) -> None:
        success, value, *_ = self._engine.outcome(ticket)
        if success:
            self._values.extend(value)
        elif self._error is None:
            self._error = value
        if self._bar is not None:
            self._bar.advance(items)

    def show(self, bar: Bar) -> None:
        """Report completed items to a progress bar."""
        self._bar = bar

    def withdraw(self) -> None:
        """Take back what no worker has begun: nobody will ask for it any more."""
        self._feeding = False
        for ticket, _, _ in self.in_flight:
            ticket.withdraw()
        if self._bar is not None:
            self._bar.close()

    def _settle(self) -> tuple[bool, Any]:
        self._collect(None)
        assert self._outcome is not None  # noqa: S101 - what _collect is for
        return self._outcome


class Announced(AsyncResult):
    """A result with callbacks: it is ready once the herald's thread has called them."""

    __slots__ = ("_callback", "_done", "_error_callback", "_inner", "_lost", "_thread")

    def __init__(
        self,
        inner: AsyncResult,
        herald: Herald,
        callback: Callback,
        error_callback: Callback,
    ) -> None:
        self._pool, self._engine = inner._pool, inner._engine
        self._inner = inner
        self._ticket = self._outcome = None
        self._callback, self._error_callback = callback, error_callback
        self._done = threading.Event()
        self._lost = False
        self._thread: int | None = None
        herald.announce(self)

    @property
    def inner(self) -> AsyncResult:
        """The result itself."""
        return self._inner

    def deliver(self) -> None:
        """Call back. Runs in the herald's thread; what a callback raises is shown, not lost."""
        self._thread = threading.get_ident()
        self._outcome = outcome = self._inner._settle()
        callback = self._callback if outcome[0] else self._error_callback
        self._callback = self._error_callback = None
        try:
            if callback is not None:
                callback(outcome[1])
        finally:
            self._done.set()

    def fail(self, error: BaseException) -> None:
        """There will be no result: nobody waits any longer, and `get` says why."""
        self._outcome, self._lost = (False, error), True
        self._done.set()

    def ready(self) -> bool:
        """Whether the call has completed and was called back."""
        return not self._lost and self._is_over()

    def _is_over(self) -> bool:
        return self._done.is_set() or self._thread == threading.get_ident()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it was called back or never will be, or `timeout` seconds have passed."""
        if not self._is_over():
            self._done.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return the result after it was called back, or raise what the call raised."""
        self.wait(timeout)
        if not self._is_over():
            raise multiprocessing.TimeoutError
        success, value = self._settle()
        if success:
            return value
        try:
            raise value
        finally:
            del value, self

    def _settle(self) -> tuple[bool, Any]:
        assert self._outcome is not None  # noqa: S101 - the caller has waited
        return self._outcome


class AnnouncedMap(Announced, StandardMapResult):  # type: ignore[misc] # as above
    """The same of many calls."""

    __slots__ = ()

    @property
    def _number_left(self) -> int:
        inner: Any = self._inner
        return int(inner._number_left)

    @property
    def _chunksize(self) -> int:
        inner: Any = self._inner
        return int(inner._chunksize)


hide(AsyncResult, MapResult, Announced, AnnouncedMap)


for _public in (AsyncResult, MapResult):
    _public.__module__ = "garrison.pool"
ApplyResult = AsyncResult
