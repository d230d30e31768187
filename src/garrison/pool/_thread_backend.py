"""`ThreadPool`: the same faces over threads of this process. Nothing is pickled."""

from __future__ import annotations

import threading
import time
from collections import deque

from garrison import _os, _standard
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolBroken, PoolTerminated
from garrison.options import Options, whole
from garrison.pool import _encoding
from garrison.pool._pool import BasePool, _not_callable
from garrison.pool._stdlib_names import StandardThreadPool, hide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ThreadPool"]


class _Ticket:
    """A task of a thread pool, and its result."""

    __slots__ = ("_engine", "ended_at", "items", "job", "result", "state")

    size = 0
    WAITING, RUNNING, ENDED = range(3)

    def __init__(self, engine: ThreadEngine, job: tuple[Any, ...], items: int) -> None:
        self._engine, self.job, self.items = engine, job, items
        self.state = self.WAITING
        self.ended_at = 0
        self.result: tuple[bool, Any, int] | None = None

    def ended(self) -> bool:
        return self.state == self.ENDED

    def lost(self) -> bool:
        return False

    def withdraw(self) -> bool:
        return self._engine.withdraw(self)


class Known:
    """A function of which several tasks will be submitted."""

    __slots__ = ("function",)

    size = 0

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class ThreadEngine:
    """Runs tasks in threads."""

    shares_cells = False

    def __init__(
        self, threads: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.processes = threads
        self._start = (initializer, initargs)
        # Reentrant: a signal handler may call the pool while this thread is inside of it.
        self._changed = threading.Condition(threading.RLock())
        self._queue: deque[_Ticket] = deque()
        self._closing = self._terminating = False
        self.nudges = self._running = 0
        self._broken: BaseException | None = None
        self.threads = [
            threading.Thread(target=self._work, name=f"garrison-thread-{n + 1}", daemon=True)
            for n in range(threads)
        ]

    @property
    def waiting(self) -> int:
        """Tasks that no thread has begun."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """Threads at work."""
        return self._running

    def start(self) -> None:
        """Start the threads."""
        for thread in self.threads:
            thread.start()

    def submit(
        self,
        function: Callable[..., Any],
        kind: int,
        value: Any,
        options: Options,
        items: int = 1,
    ) -> _Ticket:
        """Queue a task."""
        ticket = _Ticket(self, (function, kind, value, options), items)
        with self._changed:
            self._queue.append(ticket)
            self._changed.notify_all()
        return ticket

    @staticmethod
    def announce(function: Callable[..., Any], options: Options) -> Known:
        """Return the function as `submit_known` takes it."""
        del options
        return Known(function)

    def submit_known(
        self,
        known: Known,
        kind: int,
        value: Any,
        options: Options,
        items: int,
    ) -> _Ticket:
        """Queue a task of a function that was announced."""
        return self.submit(known.function, kind, value, options, items)

    @staticmethod
    def encode_item(value: Any, *, alone: bool) -> tuple[Any, None]:
        """Return an item as `submit_items` takes it."""
        del alone
        return value, None

    def submit_items(
        self, known: Known, items: list[tuple[Any, None]], options: Options
    ) -> _Ticket:
        """Queue a task for items of which each has an outcome of its own."""
        values = [value for value, _ in items]
        kind = _encoding.MAP | _encoding.EACH
        return self.submit(known.function, kind, values, options, len(values))

    def withdraw(self, ticket: _Ticket) -> bool:
        """Take back a task that no thread has begun."""
        with self._changed:
            if ticket.state != _Ticket.WAITING:
                return False
            self._queue.remove(ticket)
            return True

    # --- In the threads -------------------------------------------------------------------

    def _work(self) -> None:
        initializer, initargs = self._start
        try:
            if initializer is not None:
                initializer(*initargs)
        except BaseException as error:
            with self._changed:
                self._broken = error
                self._changed.notify_all()
            return
        while (ticket := self._next()) is not None:
            result = _run(*ticket.job)
            with self._changed:
                self._running -= 1
                ticket.ended_at = time.monotonic_ns()
                ticket.result, ticket.job, ticket.state = result, (), _Ticket.ENDED
                self._changed.notify_all()
            del ticket, result

    def _next(self) -> _Ticket | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing or self._terminating)
            if self._terminating or not self._queue:
                return None
            ticket = self._queue.popleft()
            ticket.state = _Ticket.RUNNING
            self._running += 1
            return ticket

    # --- Waiting --------------------------------------------------------------------------

    def await_(self, ticket: _Ticket, deadline: float | None) -> bool:
        """Wait for a task's end; False at the deadline."""
        return self._wait_for(ticket.ended, deadline)

    def await_any(self, tickets: list[_Ticket], deadline: float | None, nudges: int) -> bool:
        """Wait for the end of one of these tasks, or a nudge since then; False at the deadline."""

        def over() -> bool:
            return self.nudges != nudges or any(ticket.ended() for ticket in tickets)

        return self._wait_for(over, deadline)

    def wait_some(self, tickets: list[_Ticket], seconds: float) -> None:
        """Wait until one of these has ended, something new has come, or time is over."""
        self.await_any(tickets, time.monotonic() + seconds, self.nudges)

    def nudge(self) -> None:
        """Have `wait_some` and `await_any` come back."""
        with self._changed:
            self.nudges += 1
            self._changed.notify_all()

    def _wait_for(self, done: Callable[[], bool], deadline: float | None) -> bool:
        with self._changed:
            while not done():
                self.check()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def check(self) -> None:
        """Raise if no task will ever end any more."""
        if self._terminating:
            msg = "the pool was terminated before this task was over"
            raise PoolTerminated(msg)
        if self._broken is not None:
            msg = f"the initializer failed: {self._broken!r}"
            raise PoolBroken(msg) from self._broken

    @staticmethod
    def take(ticket: _Ticket) -> tuple[bool, Any, int]:
        """Take an ended task's result: (success, value or exception, nanoseconds)."""
        result, ticket.result = ticket.result, None
        if result is None:
            msg = "there is no result to take"
            raise RuntimeError(msg)
        return result

    outcome = take

    @staticmethod
    def size(taken: tuple[bool, Any, int]) -> int:
        """Nothing: what is in memory already does not count."""
        del taken
        return 0

    @staticmethod
    def decode(taken: tuple[bool, Any, int]) -> tuple[bool, Any, int]:
        """Return what was taken: nothing is pickled here."""
        return taken

    @staticmethod
    def entries(taken: tuple[bool, Any, int]) -> list[Any] | None:
        """Each item's outcome; None if the task as a whole has failed."""
        return taken[1] if taken[0] else None

    @staticmethod
    def decode_entries(entries: list[Any]) -> list[Any]:
        """Return them: nothing is pickled here."""
        return entries

    # --- The end --------------------------------------------------------------------------

    def close(self) -> None:
        """Have the threads leave when there is no more work."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the threads to leave; True when they have.

        A thread inside of a user's function is waited for, after `stop` as well: as in the standard
        library, what the function uses may go once the pool is joined.
        """
        end = time.monotonic() + seconds
        for thread in self.threads:
            left = max(0.0, end - time.monotonic())
            if thread is threading.current_thread():
                continue
            thread.join(left)
            if thread.is_alive():
                return False
        return True

    def stop(self) -> None:
        """Begin no further task. Threads cannot be ended: what runs, runs to its end."""
        with self._changed:
            self._terminating = True
            self._queue.clear()
            self._changed.notify_all()


def _run(
    function: Callable[..., Any],
    kind: int,
    value: Any,
    options: Options,
) -> tuple[bool, Any, int]:
    start = time.perf_counter_ns()
    try:
        result: Any
        if kind == _encoding.ARGS:
            result = _call(function, value, {}, options)
        elif kind == _encoding.CALL:
            result = _call(function, value[0], value[1], options)
        elif kind & _encoding.EACH:
            result = [_each(function, item, options) for item in value]
        elif kind == _encoding.STARMAP:
            result = [_call(function, item, {}, options) for item in value]
        else:
            result = [_call(function, (item,), {}, options) for item in value]
    except BaseException as error:
        return False, error, time.perf_counter_ns() - start
    return True, result, time.perf_counter_ns() - start


def _call(function: Callable[..., Any], args: Any, kwds: Any, options: Options) -> Any:
    for _ in range(options.retries if options.retry_on else 0):
        try:
            return function(*args, **kwds)
        except options.retry_on:
            pass
    return function(*args, **kwds)


def _each(function: Callable[..., Any], item: Any, options: Options) -> Any:
    try:
        return _call(function, (item,), {}, options)
    except BaseException as error:
        return _encoding.Raise(error)


class ThreadPool(BasePool, StandardThreadPool):  # type: ignore[misc] # a standard class
    """A pool of threads with the faces of `Pool`.

    Parameters
    ----------
    processes : int, optional
        Number of threads.
    initializer, initargs
        Called in each thread before its first task.
    **options
        The fields of `Options`, except `timeout`: a thread cannot be ended from outside.

    Examples
    --------
    >>> from garrison.pool import ThreadPool
    >>> with ThreadPool(2) as pool:
    ...     pool.map(str, range(3))
    ['0', '1', '2']
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **options: Any,
    ) -> None:
        wanted = Options().replace(**options)
        if wanted.timeout is not None:
            msg = "a ThreadPool cannot end a task at its timeout; use Pool, or get(timeout=...)"
            raise ValueError(msg)
        if processes is None:
            processes = _os.usable_cpus()
        processes = whole("Number of processes", processes, least=1)
        if initializer is not None and not callable(initializer):
            _not_callable(initializer, "initializer")
        self._ctx, self._processes = _standard.current_context(), processes
        self._initializer, self._initargs = initializer, tuple(initargs)
        engine = ThreadEngine(processes, initializer, self._initargs)
        super().__init__(engine, wanted)

    @property
    def _pool(self) -> list[threading.Thread]:
        threads: list[threading.Thread] = self._engine.threads
        return threads

    def _repopulate_pool(self) -> None:
        """Do nothing: threads do not die."""

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} {self._engine.processes} threads>"


hide(ThreadPool)


ThreadPool.__module__ = "garrison.pool"
