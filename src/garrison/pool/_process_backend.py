"""The parent's side of a pool of processes: the table, the supervisor, the registry of functions.

::

    submit   function → number, value → bytes, both into a cell, from which a worker takes it
    wait     spin, then sleep on the cell's word; check the supervisor now and then
    result   read the cell, free it, rebuild the value or the exception

There is no thread, and no lock around code of the user: each call does its own work.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import time
from functools import partial
from multiprocessing.process import BaseProcess, current_process

from garrison import _core, _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import (
    PoolTerminated,
    SharedMemoryCorrupt,
    SharedMemoryFull,
    TaskTimeout,
    WorkerDied,
)
from garrison.memory import capacity, handles
from garrison.pool import _encoding, _function_registry, _preloading, _worker
from garrison.pool._calls import call_policy
from garrison.pool._encoding import ItemError, Outcome
from garrison.pool._payload_kinds import TASKS_AHEAD_PER_WORKER, PayloadKind
from garrison.supervisor import (
    LIVENESS_CHECK_INTERVAL_S,
    PoolPhase,
    SupervisorHandle,
    WorkerProcesses,
    WorkerSpec,
    WorkerTemplate,
    is_launched,
    list_among_children,
    main_path,
    preparation_data,
    shared_counter,
    uncounted,
    work_in_slot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.context import BaseContext

    from garrison.options import Options
    from garrison.pool._ending import Ending
    from garrison.pool._logs import LogReader
    from garrison.pool._seeds import Seeds
    from garrison.supervisor import Preload

    Call = tuple[int, int, int, Any]
    """Function, kind, index of the item at work, payload."""
    RawResult = tuple[Call | None, int, Any, list[Any] | None, int, int]
    """The call if the task was lost, then the result of the core's task handle."""

__all__ = ["ProcessBackend"]

MAX_TIMEOUT_NS = 1 << 62
_LEFT = "the workers have left before this task was begun: the pool was closed"
_OK, _MEMORY_FULL = Outcome.OK, Outcome.MEMORY_FULL
_RUNNING = 2
"""What `TaskHandle.cancel` says of a task that a worker is at."""
FREE_CELL_CHECK_S = 0.005
"""Seconds between two checks for a free cell."""
_NAME_PREFIX = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}


class RegisteredFunction:
    """A function that workers find by its number."""

    __slots__ = ("function", "number", "retry_policy", "size")

    def __init__(
        self, function: Callable[..., Any], retry_policy: tuple[Any, ...], number: int, size: int
    ) -> None:
        self.function, self.retry_policy = function, retry_policy
        self.number, self.size = number, size


class ProcessBackend:
    """Runs tasks in processes of this machine."""

    runs_in_caller: bool = False
    log: LogReader | None = None
    """Where the output of tasks goes, with the option `logs`."""

    def __init__(
        self,
        processes: int,
        context: BaseContext,
        make: Callable[..., BaseProcess],
        start: tuple[Callable[..., object] | None, Iterable[Any]],
        lifetime: int | None,
        seeds: Seeds,
        *,
        plain: bool,
        of_executor: bool = False,
        options: Options | None = None,
    ) -> None:
        method = context.get_start_method()
        fork = method not in ("spawn", "forkserver")
        self.parallelism = processes
        self.tasks_ahead = TASKS_AHEAD_PER_WORKER * processes
        self.batches_items = lifetime is None
        self._bytes_since_memory_check = 0
        self._shortest_timeout = MAX_TIMEOUT_NS
        # The supervisor has its own slot: its heap is freed like a worker's.
        self.table = _core.Table(processes + 1, _os.region_size())
        self.parent = _core.Parent(self.table)
        self.registry = _function_registry.FunctionRegistry(self.parent, fork=fork)
        ending = self._ending(options, fork=fork)
        self.ending: Ending | None = ending
        args = ((*self._start_args(start, fork=fork), of_executor, ending), seeds, lifetime)
        spec = self._worker_spec(method, make, args, "Process" if of_executor else "PoolWorker")
        kind: Any = context.Process  # type: ignore[attr-defined]
        spec = spec.replace(launches=plain and fork and is_launched(kind))
        if start[0] is not None:
            spec = spec.replace(preload=_preloading.modules())
        self.supervisor = SupervisorHandle(self.table, spec, fork=fork)
        kind = kind if isinstance(kind, type) else BaseProcess
        self.workers = WorkerProcesses(self.supervisor, kind)

    def _start_args(
        self, start: tuple[Callable[..., object] | None, Iterable[Any]], *, fork: bool
    ) -> tuple[Any, tuple[Any, ...], Any]:
        initializer, initargs = start
        if initializer is None:
            return None, tuple(initargs), None
        namespace = self.registry.imports.namespace_of(initializer, fork=fork)
        pickled = initializer if fork else self.registry.pickled(initializer)
        return pickled, tuple(initargs), namespace

    def _ending(self, options: Options | None, *, fork: bool) -> Ending | None:
        if options is None or options.finalizer is None:
            return None
        from garrison.pool._ending import Ending  # late: few pools have one

        found = options.finalizer
        pickled = found if fork else self.registry.pickled(found)
        return Ending(pickled, pass_state=options.pass_state)

    def show_output(self) -> LogReader:
        """Show the output of tasks that have the option `logs` from now on."""
        if self.log is None:
            from garrison.pool._logs import LogReader  # late: few pools have one

            self.log = LogReader()
        return self.log

    def finalizer_values(self) -> list[Any]:
        """Return what the finalizers of workers have returned."""
        return [] if self.ending is None else self.ending.values()

    def _worker_spec(
        self, method: str, make: Callable[..., BaseProcess], args: tuple[Any, ...], name: str
    ) -> WorkerSpec:
        name = f"{_NAME_PREFIX.get(method, 'Fork')}{name}"
        work, size = _worker.run_worker, self.parallelism
        if method in ("spawn", "forkserver"):
            process = partial(_daemonic, make, target=work_in_slot, args=(work, args))
            dumps = self.registry.dumps_at_start
            template = WorkerTemplate(method, process, dumps, preparation_data)
            spec = WorkerSpec(size, template, work, (), name, served=_preload(method))
        else:
            spec = WorkerSpec(size, make, work, args, name)
        me: Any = current_process()
        return spec.replace(identity=me._identity, counter=shared_counter())

    @property
    def waiting(self) -> int:
        """Tasks that no worker has begun."""
        return self.table.waiting

    @property
    def handles_sent(self) -> int:
        """A number that grows with each handle of a shared object that is sent to a worker."""
        return handles.export_count

    @property
    def busy(self) -> int:
        """Workers that are in a task."""
        slots = map(self.table.slot, range(self.parallelism))
        return sum(slot["cell"] is not None for slot in slots)

    def state(self) -> dict[str, Any]:
        """Return the fields of `Statistics`, without an import: for the end of an interpreter."""
        table, supervisor = self.table, self.supervisor
        slots = [table.slot(slot) for slot in range(self.parallelism)]
        there = supervisor.pid is not None
        alive = [slot for slot in slots if there and slot["pid"] and not slot["over"]]
        return {
            "workers": len(alive),
            "busy": sum(slot["cell"] is not None for slot in alive),
            "queued": table.waiting,
            "in_flight": self.parent.in_use,
            "completed": self.parent.completed,
            "deaths": table.losses,
            "retried": table.retried,
            "supervisor_pid": supervisor.pid,
            "supervisors_lost": supervisor.replaced,
            "worker_pids": tuple(slot["pid"] for slot in alive),
        }

    def members(self) -> list[BaseProcess]:
        """Return the workers."""
        return self.workers.all()

    def start(self) -> None:
        """Start the supervisor and the workers."""
        self.supervisor.start()
        list_among_children(self.workers)

    # --- Tasks ----------------------------------------------------------------------------

    def check_options(self, options: Options) -> None:
        """Accept all options."""

    def register(self, function: Callable[..., Any], options: Options) -> RegisteredFunction:
        """Make a function known to the workers, for any number of tasks."""
        log = self.log.writer if options.logs and self.log is not None else None
        retry_policy = call_policy(options, function, log)
        number = self.registry.number(function, retry_policy)
        return RegisteredFunction(function, retry_policy, number, self.registry.size(number))

    def plain_calls(self, options: Options) -> Callable[..., Any] | None:
        """Return a function of the core that submits the simplest calls."""
        if options.timeout is not None or options.retry_on or options.pass_state or options.logs:
            return None
        return _core.PlainCalls(self.parent, self.registry.plain, options.retries).submit

    def submit(
        self,
        function: RegisteredFunction,
        kind: PayloadKind,
        value: Any,
        options: Options,
        items: int = 1,
    ) -> _core.TaskHandle:
        """Put a task into the table."""
        data, buffers = _encoding.encode(value, self.registry.rules, "the arguments")
        return self.submit_encoded(function, kind, data, buffers, options, items)

    def encode_call(self, value: object, first: dict[type, Any]) -> _encoding.Encoded:
        """Pickle what a function of the caller's unpickles in a worker.

        `first` has reducers, by exact type, that come before all others.
        """
        return _encoding.encode(value, self.registry.rules, "the tasks", first=first)

    def item_buffer(self, chunksize: int) -> _core.ItemBuffer:
        """Return a buffer that encodes items."""
        alone = chunksize == 1
        encode = partial(self._encode_item, large=_encoding.LARGE if alone else sys.maxsize)
        return _core.ItemBuffer(encode, chunksize, alone)

    def _encode_item(self, value: Any, *, large: int) -> Any:
        """Encode an item that the core could not."""
        try:
            data, buffers = _encoding.encode(
                value, self.registry.rules, "the arguments", large=large
            )
        except Exception as error:
            return ItemError(error)
        if buffers is None:
            return data
        self._check_memory(buffers)
        return _core.EncodedItems(data, buffers)

    def submit_items(
        self, function: RegisteredFunction, items: _core.EncodedItems, options: Options
    ) -> _core.TaskHandle:
        """Put items into one cell, each with an outcome of its own."""
        kind = PayloadKind.PICKLED_ITEMS if len(items) > 1 else PayloadKind.ONE_ITEM
        return self._submit(self.parent.submit_items, function, options, kind, items)

    def encode_chunk(self, items: list[Any]) -> _encoding.Encoded:
        """Pickle several items together."""
        return _encoding.encode(items, self.registry.rules)

    def submit_chunk(
        self,
        function: RegisteredFunction,
        chunk: _encoding.Encoded,
        count: int,
        options: Options,
    ) -> _core.TaskHandle:
        """Put items that are one pickle into one cell, each with an outcome of its own."""
        return self.submit_encoded(function, PayloadKind.LISTED_ITEMS, *chunk, options, count)

    def submit_encoded(
        self,
        function: RegisteredFunction,
        kind: PayloadKind,
        data: bytes,
        buffers: list[Any] | None,
        options: Options,
        items: int,
    ) -> _core.TaskHandle:
        """Put a task whose value is encoded into the table."""
        if buffers:
            self._check_memory(buffers)
        return self._submit(self.parent.submit, function, options, kind, data, buffers, items)

    def _submit(
        self,
        submit: Callable[..., _core.TaskHandle],
        function: RegisteredFunction,
        options: Options,
        kind: PayloadKind,
        *payload: Any,
    ) -> _core.TaskHandle:
        limit = 0 if options.timeout is None else _nanoseconds(options.timeout)
        while True:
            try:
                task = submit(function.number, kind, *payload, options.retries, limit)
            except KeyError:
                # This function was evicted by others meanwhile.
                function.number = self.registry.number(function.function, function.retry_policy)
                continue
            except BlockingIOError:
                # A million tasks are pending: the next one waits here.
                self.wait_any_for(self.running_tasks(), FREE_CELL_CHECK_S)
                continue
            if limit and (limit < self._shortest_timeout or self.table.dozing):
                # The supervisor may sleep as long as the shortest timeout so far.
                self._shortest_timeout = min(limit, self._shortest_timeout)
                self.supervisor.wake()
            return task

    def cancel(self, task: _core.TaskHandle, grace: float) -> bool:
        """Withdraw a task, or have the supervisor interrupt it."""
        return self._tell_of_cancel(task.cancel(_grace_ns(grace)))

    @property
    def latest(self) -> int:
        """The task that this thread has submitted last, as a number."""
        return self.parent.latest

    def cancel_latest(self, since: int, grace: float) -> None:
        """Cancel the task that this thread has submitted since then, which nobody may have."""
        if self.parent.latest != since:
            self._tell_of_cancel(self.parent.cancel_latest(_grace_ns(grace)))

    def _tell_of_cancel(self, found: int) -> bool:
        if found == _RUNNING:
            self.supervisor.wake()
        if found:
            self.interrupt_waits()
        return found != 0

    def _check_memory(self, buffers: list[Any]) -> None:
        """Check the available memory now and then: many tasks together may need too much."""
        self._bytes_since_memory_check += sum(view.nbytes for view in buffers)
        if self._bytes_since_memory_check >= capacity.CHECK_THRESHOLD:
            capacity.check_available(self._bytes_since_memory_check)
            self._bytes_since_memory_check = 0

    # --- Waiting --------------------------------------------------------------------------

    def wait(self, task: _core.TaskHandle, deadline: float | None) -> bool:
        """Wait for a task's end; False at the deadline. Raises if it will never end."""
        return self._wait(task, deadline, None)

    def wait_unless_failure(
        self, task: _core.TaskHandle, deadline: float | None, failures: int
    ) -> bool:
        """Wait for a task's end, or another failure; False at the deadline."""
        return self._wait(task, deadline, failures)

    def _wait(self, task: _core.TaskHandle, deadline: float | None, failures: int | None) -> bool:
        while True:
            if task.wait(_seconds_to_sleep(deadline), failures):
                return True
            if failures is not None and self.parent.failures != failures:
                return True
            self.check()
            if self.table.finished and not task.ended():
                raise PoolTerminated(_LEFT)
            if deadline is not None and time.monotonic() >= deadline:
                return task.ended()

    @property
    def failures(self) -> int:
        """The number of tasks that have failed so far."""
        return self.parent.failures

    def running_tasks(self, tasks: Iterable[_core.TaskHandle] = ()) -> _core.RunningTasks:
        """Return tasks to watch together."""
        return _core.RunningTasks(self.parent, list(tasks))

    def wait_any(self, tasks: _core.RunningTasks, deadline: float | None, interrupts: int) -> bool:
        """Wait for the end of one of these tasks, or another interrupt; False at the deadline."""
        while True:
            ended = tasks.wait(_seconds_to_sleep(deadline), interrupts)
            if ended or self.parent.interrupts != interrupts:
                return True
            self.check()
            if self.table.finished and not tasks.wait(0.0, interrupts):
                raise PoolTerminated(_LEFT)
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def wait_any_for(self, tasks: _core.RunningTasks, seconds: float) -> None:
        """Wait until one of these tasks has ended, an interrupt comes, or time is over."""
        if not tasks.wait(seconds, self.parent.interrupts):
            self.check()

    @property
    def interrupts(self) -> int:
        """The number of calls of `interrupt_waits`; read it before deciding what to wait for."""
        return self.parent.interrupts

    def interrupt_waits(self) -> None:
        """Make `wait_any` and `wait_any_for` return."""
        self.parent.interrupt_waits()

    def check(self) -> None:
        """Check the supervisor, and raise if no task will ever end any more."""
        if self.table.phase == PoolPhase.TERMINATING:
            msg = "the pool was terminated before this task was over"
            raise PoolTerminated(msg)
        self.supervisor.check()

    # --- Results --------------------------------------------------------------------------

    def result(self, task: _core.TaskHandle) -> tuple[Any, ...]:
        """Take an ended task's result: (success, value or exception, nanoseconds)."""
        call = task.call() if task.lost() else None
        return self.decode((call, *task.take()))

    def decode(self, raw: RawResult) -> tuple[Any, ...]:
        """Decode a raw result: (success, value or exception, nanoseconds)."""
        call, outcome, payload, buffers, duration, _ = raw
        if outcome == _OK:
            try:
                return True, _encoding.decode_value(payload, buffers), duration
            except Exception as error:
                return False, error, duration
        if outcome == _MEMORY_FULL:
            return False, _result_too_large(bytes(payload)), duration
        if outcome == Outcome.MEMORY_CORRUPT:
            return False, SharedMemoryCorrupt(bytes(payload).decode()), duration
        if call is None:
            failure, facts = _encoding.decode_failure(payload)
            return False, failure, duration, facts
        exit_info = pickle.loads(payload)  # noqa: S301 - written by the supervisor
        loss = self._error_for_lost_task(call, exit_info)
        # Late: tasks are lost rarely.
        from garrison.pool._safe_repr import facts_of_lost

        return False, loss, duration, facts_of_lost(*call[1:], exit_info, duration / 1e9)

    @staticmethod
    def decode_items(encoded: list[Any]) -> list[Any]:
        """Decode results of items; a failed one is an `ItemError`."""
        return _encoding.decode_items(encoded)

    @staticmethod
    def finished_items(task: _core.TaskHandle) -> list[Any]:
        """Return the encoded results so far of a running or lost task."""
        return task.recover()

    @staticmethod
    def failed_item(task: _core.TaskHandle) -> int:
        """Return the index of the item during which a lost task's worker ended."""
        return task.call()[2]

    @staticmethod
    def has_begun(task: _core.TaskHandle) -> bool:
        """Whether a worker has begun an item of an ended chunk."""
        return task.has_begun()

    @staticmethod
    def recall_items(task: _core.TaskHandle) -> int:
        """Withdraw the items that the worker has not begun; return the number of the others."""
        return task.take_back()

    # --- What happened to a task ----------------------------------------------------------

    def _error_for_lost_task(self, call: Call, exit_info: dict[str, Any]) -> BaseException:
        task = self.describe_task(call)
        return TaskTimeout(task, exit_info) if exit_info["late"] else WorkerDied(task, exit_info)

    def describe_task(self, call: Call) -> str:
        """Return the function and a short repr of the arguments that it was working on."""
        # Late: tasks are lost rarely.
        from garrison.pool._safe_repr import describe_call

        number, kind, index, payload = call
        return describe_call(self.registry.name(number), kind, index, payload)

    # --- The end --------------------------------------------------------------------------

    def close(self) -> None:
        """Let the workers end once there is no more work."""
        self.table.enter(PoolPhase.CLOSING)
        self.supervisor.wake()

    def join(self, seconds: float) -> bool:
        """Wait for the workers to end; True when they have. Checks the supervisor."""
        if self.supervisor.join(seconds) and self.supervisor.finished:
            return True
        if self.table.broken:
            return True
        self.supervisor.check()
        return False

    def stop(self) -> None:
        """End everything now."""
        self.supervisor.stop()


def _result_too_large(cause: bytes) -> SharedMemoryFull:
    """Make the error for a result without memory, from what the worker could say of the cause."""
    msg = (
        f"{cause.decode(errors='replace')}: a task's result was not stored; take results earlier, "
        "return smaller ones, or raise the limit"
    )
    return SharedMemoryFull(msg)


def _nanoseconds(timeout: float) -> int:
    return max(1, min(int(timeout * 1e9), MAX_TIMEOUT_NS))


def _grace_ns(grace: float) -> int:
    return int(min(grace * 1e9, MAX_TIMEOUT_NS))


def _seconds_to_sleep(deadline: float | None) -> float:
    """Seconds until the next check of the supervisor and the clock."""
    if deadline is None:
        return LIVENESS_CHECK_INTERVAL_S
    return min(LIVENESS_CHECK_INTERVAL_S, deadline - time.monotonic())


def _daemonic(make: Callable[..., BaseProcess], **kwds: Any) -> BaseProcess:
    """Make the process object of all workers; each gets its own number."""
    with uncounted():
        process = make(**kwds)
    process.daemon = True
    return process


def _preload(method: str) -> Preload | None:
    """The modules that the fork server imports: the program's, and those of supervisors."""
    if method != "forkserver":
        return None
    forkserver: Any = importlib.import_module("multiprocessing.forkserver")
    names = tuple(forkserver._forkserver._preload_modules)
    ours: tuple[str, ...] = (_worker.__name__, "garrison.supervisor._handle")
    if "cloudpickle" in sys.modules:
        # A worker may need them; the first pool starts faster without them.
        ours += _preloading.modules()
    return names, main_path() if "__main__" in names else None, ours
