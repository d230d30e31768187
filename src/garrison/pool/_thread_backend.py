"""Threads of this process as the backend of a pool. Nothing is pickled."""

from __future__ import annotations

import threading
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolBroken, PoolTerminated
from garrison.pool._encoding import ItemError
from garrison.pool._monitor import Monitor
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._thread_tasks import ItemBuffer, RunningTasks, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.options import Options
    from garrison.pool._thread_tasks import Result

__all__ = ["ThreadBackend"]


class _RegisteredFunction:
    """A function, as it is: threads need no encoding."""

    __slots__ = ("function",)

    size = 0

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class ThreadBackend:
    """Runs tasks in threads."""

    batches_items = False

    def __init__(
        self, threads: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.parallelism = threads
        self._start = (initializer, initargs)
        self._changed = Monitor()
        self._queue: deque[Task] = deque()
        self._closing = self._terminating = False
        self.interrupts = self._running = 0
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

    @staticmethod
    def register(function: Callable[..., Any], options: Options) -> _RegisteredFunction:
        """Return the function as `submit` takes it."""
        del options
        return _RegisteredFunction(function)

    @staticmethod
    def plain_calls(options: Options) -> None:
        """Nothing: a call is simple enough."""
        del options

    def submit(
        self,
        function: _RegisteredFunction,
        kind: PayloadKind,
        value: Any,
        options: Options,
        items: int = 1,
    ) -> Task:
        """Queue a task."""
        task = Task(self, (function.function, kind, value, options), items)
        with self._changed:
            self._queue.append(task)
            self._changed.notify_all()
        return task

    @staticmethod
    def item_buffer(chunksize: int) -> ItemBuffer:
        """Return a buffer of items, as they are."""
        return ItemBuffer(chunksize)

    def submit_items(
        self, function: _RegisteredFunction, items: list[Any], options: Options
    ) -> Task:
        """Queue a task for items of which each has an outcome of its own."""
        return self.submit(function, PayloadKind.PICKLED_ITEMS, items, options, len(items))

    @staticmethod
    def encode_chunk(items: list[Any]) -> tuple[Any, ...]:
        """Return the items as they are: nothing is pickled."""
        return tuple(items)

    def submit_chunk(
        self, function: _RegisteredFunction, chunk: tuple[Any, ...], count: int, options: Options
    ) -> Task:
        """Queue a task for items of which each has an outcome of its own."""
        return self.submit(function, PayloadKind.PICKLED_ITEMS, chunk, options, count)

    def withdraw(self, task: Task) -> bool:
        """Withdraw a task that no thread has begun."""
        with self._changed:
            if task.state != Task.WAITING:
                return False
            self._queue.remove(task)
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
        while (task := self._next()) is not None:
            result = _run(*task.job)
            with self._changed:
                self._running -= 1
                task.ended_at = time.monotonic_ns()
                task.result, task.job, task.state = result, (), Task.ENDED
                self._changed.notify_all()
            del task, result

    def _next(self) -> Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing or self._terminating)
            if self._terminating or not self._queue:
                return None
            task = self._queue.popleft()
            task.state = Task.RUNNING
            self._running += 1
            return task

    # --- Waiting --------------------------------------------------------------------------

    def wait(self, task: Task, deadline: float | None) -> bool:
        """Wait for a task's end; False at the deadline."""
        return self._wait_for(task.ended, deadline)

    @staticmethod
    def running_tasks(tasks: Iterable[Task] = ()) -> RunningTasks:
        """Return tasks to watch together."""
        return RunningTasks(tasks)

    def wait_any(self, tasks: RunningTasks, deadline: float | None, interrupts: int) -> bool:
        """Wait for the end of one of these tasks, or another interrupt; False at the deadline."""

        def over() -> bool:
            return self.interrupts != interrupts or tasks.any_ended()

        return self._wait_for(over, deadline)

    def wait_any_for(self, tasks: RunningTasks, seconds: float) -> None:
        """Wait until one of these tasks has ended, an interrupt comes, or time is over."""
        self.wait_any(tasks, time.monotonic() + seconds, self.interrupts)

    def interrupt_waits(self) -> None:
        """Make `wait_any` and `wait_any_for` return."""
        with self._changed:
            self.interrupts += 1
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

    # --- Results --------------------------------------------------------------------------

    @staticmethod
    def result(task: Task) -> Result:
        """Take an ended task's result: (success, value or exception, nanoseconds)."""
        result, task.result = task.result, None
        if result is None:
            msg = "there is no result to take"
            raise RuntimeError(msg)
        return result

    @staticmethod
    def decode(raw: Result) -> Result:
        """Return the raw result as it is: nothing is pickled."""
        return raw

    @staticmethod
    def decode_items(encoded: list[Any]) -> list[Any]:
        """Return the results as they are: nothing is pickled."""
        return encoded

    @staticmethod
    def finished_items(task: Task) -> list[Any]:
        """Nothing: the results of a thread's items arrive together."""
        del task
        return []

    @staticmethod
    def failed_item(task: Task) -> int:
        """Return the first item: no task of a thread is lost."""
        del task
        return 0

    @staticmethod
    def has_begun(task: Task) -> bool:
        """Yes: nothing is decoded."""
        del task
        return True

    @staticmethod
    def recall_items(task: Task) -> int:
        """Return the number of items: all of them stay with their thread."""
        return task.items

    # --- The end --------------------------------------------------------------------------

    def close(self) -> None:
        """Let the threads end once there is no more work."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end; True when they have.

        This waits for functions of the user too, also after `stop`: as in the standard library, the
        caller may free what they use once the pool is joined.
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
        """Begin no further task. Threads cannot be ended: running functions run to their end."""
        with self._changed:
            self._terminating = True
            self._queue.clear()
            self._changed.notify_all()


def _run(function: Callable[..., Any], kind: int, value: Any, options: Options) -> Result:
    start = time.perf_counter_ns()
    try:
        result = _apply(function, kind, value, options)
    except BaseException as error:
        return False, error, time.perf_counter_ns() - start
    return True, result, time.perf_counter_ns() - start


def _apply(function: Callable[..., Any], kind: int, value: Any, options: Options) -> Any:
    if kind == PayloadKind.ARGS:
        return _call(function, value, {}, options)
    if kind == PayloadKind.CALL:
        return _call(function, value[0], value[1], options)
    if kind == PayloadKind.PICKLED_ITEMS:
        return [_call_or_error(function, item, options) for item in value]
    if kind == PayloadKind.STAR_ITEMS:
        return [_call(function, item, {}, options) for item in value]
    return [_call(function, (item,), {}, options) for item in value]


def _call(function: Callable[..., Any], args: Any, kwds: Any, options: Options) -> Any:
    for _ in range(options.retries if options.retry_on else 0):
        try:
            return function(*args, **kwds)
        except options.retry_on:
            pass
    return function(*args, **kwds)


def _call_or_error(function: Callable[..., Any], item: Any, options: Options) -> Any:
    try:
        return _call(function, (item,), {}, options)
    except BaseException as error:
        return ItemError(error)
