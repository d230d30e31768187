"""The base of backends whose tasks are objects of this process: threads, and other engines.

A backend that derives from `TaskBackend` takes tasks out of its queue (`next_task`, or `_next`
without waiting), runs them wherever it likes, and ends each with its result (`_end`). Everything
that a pool asks of it while it waits is done here.
"""

from __future__ import annotations

import operator
import os
import sys
import threading
import time
from collections import deque

from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import PoolBroken, PoolClosed, PoolTerminated
from garrison.pool._calls import SHARE, prepared, sees_through
from garrison.pool._encoding import ItemError
from garrison.pool._monitor import Monitor
from garrison.pool._payload_kinds import TASKS_AHEAD_PER_WORKER, PayloadKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.options import Options
    from garrison.pool._facts import Facts

    Result = tuple[Any, ...]
    """Success, value or exception, nanoseconds; for a failure its `Facts`."""

__all__ = ["ItemBuffer", "RunningTasks", "Task", "TaskBackend", "refuse_timeout", "run_call"]


class Task:
    """A task and its result.

    Parameters
    ----------
    backend : TaskBackend
        The backend that runs it.
    job : object
        What the backend needs to run it.
    items : int
        Number of items.
    size : int
        Bytes of the encoded arguments; 0 if nothing is encoded.
    """

    __slots__ = (
        "_backend",
        "_watchers",
        "cancelled",
        "ended_at",
        "items",
        "job",
        "result",
        "size",
        "state",
    )

    WAITING: int = 0
    RUNNING: int = 1
    ENDED: int = 2
    WITHDRAWN: int = 3
    result_size: int = 0

    def __init__(self, backend: TaskBackend, job: Any, items: int, size: int = 0) -> None:
        self._backend = backend
        self.job: Any = job
        self.items: int = items
        self.size: int = size
        self.state: int = self.WAITING
        self.cancelled: bool = False
        """Whether there will be no result, which counts as an end."""
        self.ended_at: int = 0
        self.result: Any = None
        """The result, for `TaskBackend.decode`, until it is taken."""
        self._watchers: list[tuple[RunningTasks, object]] = []

    def ended(self) -> bool:
        """Whether it has a result, or will have none."""
        return self.state == self.ENDED or self.cancelled

    def lost(self) -> bool:
        """Whether its worker ended: no such task keeps results of single items."""
        return False

    def running(self) -> bool:
        """Whether it was begun, and has not ended."""
        return self.state == self.RUNNING

    def end(self, result: Any) -> None:
        """Store the result; the caller holds the backend's lock."""
        self.job, self.state = None, self.ENDED
        if self.cancelled:
            return
        self.result = result
        self._tell()

    def cancel(self) -> None:
        """Note that there will be no result; the caller holds the backend's lock."""
        self.cancelled = True
        self._tell()

    def _tell(self) -> None:
        self.ended_at = time.monotonic_ns()
        watchers, self._watchers = self._watchers, []
        for tasks, value in watchers:
            tasks.ended.append(value)

    def watch(self, tasks: RunningTasks, value: object) -> None:
        """Append `value` to ``tasks.ended`` when it ends."""
        with self._backend.changed:
            if self.ended():
                tasks.ended.append(value)
            else:
                self._watchers.append((tasks, value))

    def _take(self) -> Any:
        found, self.result = self.result, None
        if found is None:
            msg = "there is no result to take"
            raise RuntimeError(msg)
        return found

    def take_into(self, result: Any) -> None:
        """Take the result into an `AsyncResult`."""
        found = self._take()
        if self._backend.encodes_results or not found[0]:
            result._raw = found
        else:
            result._outcome = found[:2]

    def take_items_into(self, batch: Any) -> None:
        """Take the results of items into a batch, or the result of the task as a whole."""
        found = self._take()
        batch.brought = self._backend.items_of(found)

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not well; its result was not taken."""
        result = self.result
        return result is not None and self._backend.is_failure(result)

    def withdraw(self) -> bool:
        """Withdraw it; return whether nothing had begun it."""
        return self._backend.withdraw(self)


class ItemBuffer:
    """Keeps items that were read.

    Parameters
    ----------
    size : int
        Items that may share a task.
    encode : callable, optional
        Encodes an item as it is read; without it items stay as they are.
    """

    def __init__(self, size: int, encode: Callable[[Any], Any] | None = None) -> None:
        self.size: int = size
        self._encode = encode
        self._items: deque[Any] = deque()

    def __len__(self) -> int:
        """Return the number of items that were read and not taken."""
        return len(self._items)

    def read(self, source: Any, limit: int, most: int, slow: int) -> tuple[bool, bool]:
        """Read items: (whether there may be more, whether the input is slow)."""
        del most
        start = time.perf_counter_ns()
        encode = self._encode
        for count, item in enumerate(source, start=1):
            self._items.append(item if encode is None else encode(item))
            if count >= min(limit, self.size):
                return True, time.perf_counter_ns() - start > slow * count
        return False, False

    def move_to(self, pieces: Any) -> None:
        """Move all items to the end of a list or a deque: encoded ones together, errors alone."""
        together: list[Any] = []
        found: list[Any] = []
        for item in tuple(self._items):
            if self._encode is not None and isinstance(item, ItemError):
                found += [together, item] if together else [item]
                together = []
            else:
                together.append(item)
        pieces.extend([*found, together] if together else found)
        self._items.clear()


class RunningTasks:
    """Tasks that are watched together."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self.ended: deque[object] = deque()
        """The values of ended tasks that were not collected, in the order of their ends."""
        self._left = 0
        for task in tasks:
            self.add(task, None)

    def __len__(self) -> int:
        """Return the number of tasks that were not collected."""
        return self._left

    def add(self, task: Task, value: object) -> None:
        """Watch a task until it is collected; `value` is what `collect` gives for it."""
        self._left += 1
        task.watch(self, value)

    def collect(self, ended: Any) -> bool:
        """Move the values of ended tasks to the end of a list or deque; whether there were any.

        After an interrupt in the middle the next call may give a value again.
        """
        found = tuple(self.ended)
        ended.extend(found)
        for _ in found:
            self.ended.popleft()
        self._left -= len(found)
        return bool(found)


class TaskBackend:
    """Keeps tasks until they are run, and results until they are taken.

    Parameters
    ----------
    parallelism : int
        Tasks that run at the same time.
    """

    batches_items: bool = False
    runs_in_caller: bool = False
    latest: int = 0
    handles_sent: int = 0
    """None: tasks get their arguments themselves, or copies."""
    encodes_results: bool = False
    """Whether `decode` has anything to do."""

    def __init__(self, parallelism: int) -> None:
        self.parallelism: int = parallelism
        self.changed: Monitor = Monitor()
        """Held while a task changes its state, and told of each change."""
        self.interrupts: int = 0
        self._pid = os.getpid()
        self.completed: int = 0
        """Tasks that have ended."""
        self.failures: int = 0
        """Those that have failed."""
        self._running = self._withdrawn = 0
        self._queue: deque[Task] = deque()
        self._closing = self._terminating = False
        self._broken: BaseException | None = None
        self._final: list[tuple[int, Any]] = []
        """What finalizers have returned, with the numbers of their workers."""

    @property
    def tasks_ahead(self) -> int:
        """Tasks that `imap` has waiting or at work at the same time."""
        return TASKS_AHEAD_PER_WORKER * self.parallelism

    @property
    def waiting(self) -> int:
        """Tasks that nothing has begun."""
        return len(self._queue) - self._withdrawn

    @property
    def busy(self) -> int:
        """Tasks that run."""
        return self._running

    def state(self) -> dict[str, Any]:
        """Return the fields of `Statistics`; results that were not read do not count."""
        waiting, running = self.waiting, self._running
        busy = min(self.busy, running)
        return {
            "workers": 0 if self._terminating else self.parallelism,
            "busy": busy,
            "queued": waiting + running - busy,
            "in_flight": waiting + running,
            "completed": self.completed,
            "deaths": 0,
            "retried": 0,
            "supervisor_pid": None,
            "supervisors_lost": 0,
            "worker_pids": (),
        }

    def members(self) -> list[Any]:
        """Return nothing: no object of this process does the work."""
        return []

    # --- Tasks ----------------------------------------------------------------------------

    def check_options(self, options: Options) -> None:
        """Accept all options."""

    @staticmethod
    def register(function: Callable[..., Any], options: Options) -> Any:
        """Return the function as `submit` takes it: as it is."""
        del options
        return Uncopied(function)

    def plain_calls(self, options: Options) -> Callable[..., Any] | None:
        """Nothing: there is no shorter way than `submit`."""
        del options
        return None

    def submit(
        self, function: Any, kind: PayloadKind, value: Any, options: Options, items: int = 1
    ) -> Task:
        """Queue a task."""
        return self._put(Task(self, (function.function, kind, value, options), items))

    def _put(self, task: Task) -> Task:
        self._check_process()
        with self.changed:
            self._queue.append(task)
            self.changed.notify_all()
        return task

    def _check_process(self) -> None:
        """Raise in a forked child, where nothing runs the tasks."""
        if os.getpid() != self._pid:
            raise PoolClosed(
                f"this pool belongs to process {self._pid}; make a pool of your own here"
            )

    @staticmethod
    def item_buffer(chunksize: int) -> ItemBuffer:
        """Return a buffer of items, as they are."""
        return ItemBuffer(chunksize)

    def submit_items(self, function: Any, items: Any, options: Options) -> Task:
        """Queue a task for items of which each has an outcome of its own."""
        return self.submit(function, PayloadKind.PICKLED_ITEMS, items, options, len(items))

    @staticmethod
    def encode_chunk(items: list[Any]) -> Any:
        """Return the items as they are."""
        return tuple(items)

    def submit_chunk(self, function: Any, chunk: Any, count: int, options: Options) -> Task:
        """Queue a task for items of which each has an outcome of its own."""
        return self.submit(function, PayloadKind.PICKLED_ITEMS, chunk, options, count)

    def withdraw(self, task: Task) -> bool:
        """Withdraw a task that nothing has begun."""
        with self.changed:
            if task.state != Task.WAITING:
                return False
            # It stays in the queue: to search for it there takes as long as the queue is.
            task.state, task.job = Task.WITHDRAWN, None
            self._withdrawn += 1
            return True

    def cancel(self, task: Task, grace: float) -> bool:
        """Withdraw a task; one that runs goes on: nothing here can end it."""
        del grace
        with self.changed:
            if not self.withdraw(task):
                return False
            task.cancel()
            self.changed.notify_all()
            return True

    def cancel_latest(self, since: int, grace: float) -> None:
        """Do nothing: a task that an interrupt has lost runs to its end, with no other effect."""

    # --- For those that run them ------------------------------------------------------------

    def next_task(self) -> Task | None:
        """Wait for a task and begin it; None when there will be no more."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self._closing or self._terminating)
            return None if self._terminating else self._next()

    def _next(self) -> Task | None:
        """Begin the first waiting task, or return None; the caller holds the lock."""
        while self._queue:
            task = self._queue.popleft()
            if task.state == Task.WAITING:
                task.state = Task.RUNNING
                self._running += 1
                return task
            self._withdrawn -= 1
        return None

    def _put_back(self, tasks: list[Task]) -> None:
        """Let tasks wait again, before all others; the caller holds the lock."""
        for task in reversed(tasks):
            if task.cancelled:
                task.end(None)
                continue
            task.state = Task.WAITING
            self._queue.appendleft(task)
        self._running -= len(tasks)

    def _end(self, task: Task, result: Any) -> None:
        """End a task that was begun; the caller holds the lock and tells of the change."""
        self._running -= 1
        self.completed += 1
        self.failures += self.is_failure(result)
        task.end(result)

    def lose(self, error: PoolBroken) -> None:
        """Note that no task will end any more: all waits raise this."""
        self._break(error)

    def _break(self, error: BaseException) -> None:
        """Note that no task will end any more, because of this."""
        with self.changed:
            self._broken = self._broken or error
            self.changed.notify_all()

    # --- Waiting --------------------------------------------------------------------------

    def wait(self, task: Task, deadline: float | None) -> bool:
        """Wait for a task's end; False at the deadline."""
        return self._wait_for(task.ended, deadline)

    def wait_unless_failure(self, task: Task, deadline: float | None, failures: int) -> bool:
        """Wait for a task's end, or another failure; False at the deadline."""
        return self._wait_for(lambda: task.ended() or self.failures != failures, deadline)

    @staticmethod
    def running_tasks(tasks: Iterable[Task] = ()) -> RunningTasks:
        """Return tasks to watch together."""
        return RunningTasks(tasks)

    def wait_any(self, tasks: RunningTasks, deadline: float | None, interrupts: int) -> bool:
        """Wait for the end of one of these tasks, or another interrupt; False at the deadline."""

        def over() -> bool:
            return self.interrupts != interrupts or bool(tasks.ended)

        return self._wait_for(over, deadline)

    def wait_any_for(self, tasks: RunningTasks, seconds: float) -> None:
        """Wait until one of these tasks has ended, an interrupt comes, or time is over."""
        self.wait_any(tasks, time.monotonic() + seconds, self.interrupts)

    def interrupt_waits(self) -> None:
        """Make `wait_any` and `wait_any_for` return."""
        with self.changed:
            self.interrupts += 1
            self.changed.notify_all()

    def _wait_for(self, done: Callable[[], bool], deadline: float | None) -> bool:
        self._check_process()
        with self.changed:
            while not done():
                self.check()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self.changed.wait(left)
        return True

    def check(self) -> None:
        """Raise if no task will ever end any more."""
        if self._terminating:
            msg = "the pool was terminated before this task was over"
            raise PoolTerminated(msg)
        if isinstance(self._broken, PoolBroken):
            raise type(self._broken)(*self._broken.args) from self._broken.__cause__
        if self._broken is not None:
            msg = f"the initializer failed: {self._broken!r}"
            raise PoolBroken(msg) from self._broken

    # --- Results --------------------------------------------------------------------------

    def result(self, task: Task) -> Result:
        """Take an ended task's result: (success, value or exception, nanoseconds)."""
        return self.decode(task._take())

    def is_failure(self, raw: Any) -> bool:
        """Whether a raw result is that of a failed task."""
        return not raw[0]

    def decode(self, raw: Any) -> Result:
        """Return the raw result as it is."""
        found: Result = raw
        return found

    def items_of(self, raw: Any) -> tuple[list[Any] | None, Any, int, int]:
        """Return a raw result of several items as `TaskHandle.take_items_into` gives it."""
        success, results, duration, *_ = raw
        # Results in this process's memory do not count.
        return (results, None, 0, duration) if success else (None, raw, 0, duration)

    @staticmethod
    def decode_items(encoded: list[Any]) -> list[Any]:
        """Return the results as they are."""
        return list(encoded)

    @staticmethod
    def finished_items(task: Task) -> list[Any]:
        """Nothing: the results of a task's items arrive together."""
        del task
        return []

    @staticmethod
    def failed_item(task: Task) -> int:
        """Return the first item: no task is `lost`."""
        del task
        return 0

    @staticmethod
    def has_begun(task: Task) -> bool:
        """Yes: the items were decoded, or there was nothing to decode."""
        del task
        return True

    @staticmethod
    def recall_items(task: Task) -> int:
        """Return the number of items: all of them stay together."""
        return task.items

    # --- The end --------------------------------------------------------------------------

    def start(self) -> None:
        """Start what runs the tasks."""

    def close(self) -> None:
        """Let the workers end once there is no more work."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the end of all tasks; True when they have ended."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not self._over and (self._queue or self._running):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(left)
        return True

    def finalize(self, options: Options | None, number: int, state: Any) -> None:
        """Run the finalizer at the end of a worker of this process."""
        if options is None or options.finalizer is None:
            return
        value: Any
        try:
            value = options.finalizer(state) if options.pass_state else options.finalizer()
        except Exception as error:
            import traceback

            from garrison.pool._failure import Failure

            traceback.print_exception(error)
            value = Failure(None, "finalizer", error)
        self._final.append((number, value))

    def show_output(self) -> None:
        """Nothing: tasks write to the program's own streams."""

    def finalizer_values(self) -> list[Any]:
        """Return what the finalizers of workers have returned."""
        return [value for _, value in sorted(self._final, key=operator.itemgetter(0))]

    @property
    def _over(self) -> bool:
        """Whether no task will end any more."""
        return self._terminating or self._broken is not None

    def stop(self) -> None:
        """Begin no further task."""
        with self.changed:
            self._terminating = True
            self._queue.clear()
            self._withdrawn = 0
            self.changed.notify_all()


class Uncopied:
    """A registered function, as it is."""

    __slots__ = ("function",)

    size: int = 0

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] = function


def refuse_timeout(options: Options, what: str) -> None:
    """Raise if a task has a timeout, at which `what` cannot be ended."""
    if options.timeout is not None:
        msg = (
            f"{what} cannot be ended at a timeout of {options.timeout:g} s; "
            'use engine="processes", or get(timeout=...)'
        )
        raise ValueError(msg)


# --- Calls without a worker of another process ----------------------------------------------------


def run_call(
    function: Callable[..., Any],
    kind: int,
    value: Any,
    options: Options,
    caught: Any = BaseException,
    state: Any = None,
) -> Result:
    """Run a task in this thread; exceptions of the types `caught` are its result."""
    if options.pass_state or SHARE in sys.modules:
        function = prepared(function, state, options.pass_state, sees_through(function))
    call = _Call(function, options, caught)
    start = time.perf_counter_ns()
    try:
        result = call.all(kind, value)
    except caught as error:
        return False, error, time.perf_counter_ns() - start, call.facts()
    return True, result, time.perf_counter_ns() - start


class _Call:
    """A task that runs in this thread, and what is known of it if it fails."""

    __slots__ = (
        "_arguments",
        "_attempt",
        "_caught",
        "_function",
        "_index",
        "_item",
        "_options",
        "_start",
    )

    def __init__(self, function: Callable[..., Any], options: Options, caught: Any) -> None:
        self._function, self._options, self._caught = function, options, caught
        self._index: int | None = None
        self._arguments: tuple[Any, Any] = (), {}
        self._attempt, self._start = 1, time.perf_counter_ns()

    def facts(self) -> Facts:
        """Return what is known of the call that has failed."""
        from garrison.pool import _facts  # late, as few calls fail

        seconds = (time.perf_counter_ns() - self._start) / 1e9
        if self._index is None:
            described = _facts.describe_call(*self._arguments)
        else:
            described = _facts.describe(self._item)
        worker = threading.current_thread().name
        return _facts.Facts(self._index, described, self._attempt, worker, None, seconds)

    def all(self, kind: int, value: Any) -> Any:
        """Return the result of a task."""
        if kind == PayloadKind.ARGS:
            return self._one(value, {})
        if kind == PayloadKind.CALL:
            return self._one(*value)
        if kind == PayloadKind.PICKLED_ITEMS:
            return [self._or_error(index, item) for index, item in enumerate(value)]
        results = []
        for self._index, self._item in enumerate(value):
            item = self._item if kind == PayloadKind.STAR_ITEMS else (self._item,)
            results.append(self._one(item, {}))
        return results

    def _one(self, args: Any, kwds: Any) -> Any:
        options, self._arguments = self._options, (args, kwds)
        for self._attempt in range(1, 1 + (options.retries if options.retry_on else 0)):
            self._start = time.perf_counter_ns()
            try:
                return self._function(*args, **kwds)
            except options.retry_on:
                pass
        self._attempt = 1 + (options.retries if options.retry_on else 0)
        self._start = time.perf_counter_ns()
        return self._function(*args, **kwds)

    def _or_error(self, index: int, item: Any) -> Any:
        self._index, self._item = index, item
        try:
            return self._one((item,), {})
        except self._caught as error:
            return ItemError(error, self.facts())
