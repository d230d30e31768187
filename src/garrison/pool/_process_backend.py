"""The parent's side of a pool of processes: the table, the supervisor, the register of functions.

::

    submit   function → number, value → bytes, both into a cell; a worker takes it from there
    await_   spin, then sleep on the cell's word; look at the supervisor now and then
    outcome  read the cell, free it, rebuild the value or the exception

No thread of its own, no lock around user code: what a call needs, the call does.
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
from garrison.errors import PoolTerminated, SharedMemoryFull, TaskTimeout, WorkerDied
from garrison.memory import capacity
from garrison.pool import _encoding, _function_registry, _preloading, _safe_repr, _worker
from garrison.supervisor import (
    LIVENESS_CHECK_INTERVAL_S,
    PoolPhase,
    SupervisorHandle,
    WorkerProcesses,
    WorkerSpec,
    WorkerTemplate,
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
    from garrison.pool._seeds import Seeds
    from garrison.supervisor import Preload

__all__ = ["Engine"]

FOREVER = 1 << 62
"""Nanoseconds: longer than any machine runs."""
_LEFT = "the workers have left before this task was begun: the pool was closed"
_SIZED = (str, bytes)
NAP = 0.005
"""Seconds between two looks for a free cell."""
SHORT = 60
"""Characters of an argument's repr in a message."""


class Announced:
    """A function that the workers know by a number."""

    __slots__ = ("function", "number", "plan", "size")

    def __init__(
        self, function: Callable[..., Any], plan: tuple[Any, ...], number: int, size: int
    ) -> None:
        self.function, self.plan, self.number, self.size = function, plan, number, size


class Engine:
    """Runs tasks in processes of this machine."""

    def __init__(
        self,
        processes: int,
        context: BaseContext,
        make: Callable[..., BaseProcess],
        start: tuple[Callable[..., object] | None, Iterable[Any]],
        lifetime: int | None,
        seeds: Seeds,
    ) -> None:
        method = context.get_start_method()
        fork = method not in ("spawn", "forkserver")
        self.processes = processes
        self.shares_cells = lifetime is None
        """Whether small items may go to a worker together, each as a task of its own."""
        self._unchecked = 0
        self._shortest = FOREVER
        # The supervisor has a slot of its own: its heap lives and dies like a worker's.
        self.table = _core.Table(processes + 1, _os.region_size())
        self.parent = _core.Parent(self.table)
        self.registry = _function_registry.Registry(self.parent, fork=fork)
        args = (self._start_args(start, fork=fork), seeds, lifetime)
        name = f"{_PREFIX.get(method, 'Fork')}PoolWorker"
        if fork:
            spec = WorkerSpec(processes, make, _worker.run_worker, args, name)
        else:
            process = partial(_daemonic, make, target=work_in_slot, args=(_worker.run_worker, args))
            template = WorkerTemplate(
                method, process, self.registry.dumps_at_start, preparation_data
            )
            spec = WorkerSpec(
                processes, template, _worker.run_worker, (), name, served=_preload(method)
            )
        if start[0] is not None:
            spec = spec.replace(preload=_preloading.modules())
        me: Any = current_process()
        spec = spec.replace(identity=me._identity, counter=shared_counter())
        self.supervisor = SupervisorHandle(self.table, spec, fork=fork)
        kind: Any = context.Process  # type: ignore[attr-defined]
        self.workers = WorkerProcesses(
            self.supervisor, kind if isinstance(kind, type) else BaseProcess
        )

    @property
    def waiting(self) -> int:
        """Tasks that no worker has begun."""
        return self.table.waiting

    @property
    def busy(self) -> int:
        """Workers that are in a task."""
        return sum(self.table.slot(slot)["cell"] is not None for slot in range(self.processes))

    def start(self) -> None:
        """Start the supervisor and the workers."""
        self.supervisor.start()
        list_among_children(self.workers)

    def _start_args(
        self, start: tuple[Callable[..., object] | None, Iterable[Any]], *, fork: bool
    ) -> _worker.Start:
        initializer, initargs = start
        home = None if initializer is None else self.registry.known.home(initializer, fork=fork)
        if initializer is None or fork:
            return initializer, tuple(initargs), home
        return self.registry.pickled(initializer), tuple(initargs), home

    # --- Tasks ----------------------------------------------------------------------------

    def submit(
        self,
        function: Callable[..., Any],
        kind: int,
        value: Any,
        options: Options,
        items: int = 1,
    ) -> _core.Ticket:
        """Put a task into the table; raises if its function or value cannot be sent."""
        return self.submit_known(self.announce(function, options), kind, value, options, items)

    def announce(self, function: Callable[..., Any], options: Options) -> Announced:
        """Make a function known to the workers, for any number of tasks."""
        plan = (options.retries, options.retry_on) if options.retry_on else ()
        number = self.registry.number(function, plan)
        return Announced(function, plan, number, self.registry.size(number))

    def submit_known(
        self, known: Announced, kind: int, value: Any, options: Options, items: int
    ) -> _core.Ticket:
        """Put a task into the table, of a function that was announced."""
        data, buffers = _encoding.encode(value, self.registry.rules, "the arguments")
        return self._submit_encoded(known, kind, data, buffers, options, items)

    def encode_item(self, value: Any, *, alone: bool) -> Any:
        """Make an item that stays as it is: a scalar, or (pickle, buffers if it goes alone)."""
        kind = type(value)
        if kind in _encoding.SCALARS and (kind not in _SIZED or len(value) < _encoding.LARGE):
            return value
        large = _encoding.LARGE if alone else sys.maxsize
        return _encoding.encode(value, self.registry.rules, "the arguments", large=large)

    def submit_items(self, known: Announced, items: list[Any], options: Options) -> _core.Ticket:
        """Put items into one cell, each with an outcome of its own."""
        kind = _encoding.MAP | _encoding.EACH
        pickled = [item for item in items if type(item) is tuple]
        buffers = None
        if not pickled:
            data, kind = _encoding.dumps(items, 5), kind | _encoding.LIST
        else:
            buffers = pickled[0][1]
            if len(pickled) < len(items):
                pickled = [
                    item if type(item) is tuple else _encoding.encode(item) for item in items
                ]
            data = _core.pack([data for data, _ in pickled])
        return self._submit_encoded(known, kind, data, buffers, options, len(items))

    def _submit_encoded(
        self,
        known: Announced,
        kind: int,
        data: bytes,
        buffers: list[Any] | None,
        options: Options,
        items: int,
    ) -> _core.Ticket:
        if buffers:
            self._look_for_room(buffers)
        limit = 0 if options.timeout is None else max(1, min(int(options.timeout * 1e9), FOREVER))
        while True:
            try:
                ticket = self.parent.submit(
                    known.number, kind, data, buffers, items, options.retries, limit
                )
            except KeyError:
                # Other functions have pushed this one out meanwhile.
                known.number = self.registry.number(known.function, known.plan)
                continue
            except BlockingIOError:
                # A million tasks are waiting or at work: the next one waits here.
                self.wait_some([], NAP)
                continue
            if limit and (limit < self._shortest or self.table.dozing):
                # The supervisor sleeps as long as the shortest timeout so far allows.
                self._shortest = min(limit, self._shortest)
                self.supervisor.wake()
            return ticket

    def _look_for_room(self, buffers: list[Any]) -> None:
        """Ask now and then whether there is memory: many tasks together may be too much as well."""
        self._unchecked += sum(view.nbytes for view in buffers)
        if self._unchecked >= capacity.CHECK_THRESHOLD:
            capacity.check_available(self._unchecked)
            self._unchecked = 0

    def await_(self, ticket: _core.Ticket, deadline: float | None) -> bool:
        """Wait for a task's end; False at the deadline. Raises if it can never come."""
        while True:
            left = (
                LIVENESS_CHECK_INTERVAL_S
                if deadline is None
                else min(LIVENESS_CHECK_INTERVAL_S, deadline - time.monotonic())
            )
            if ticket.wait(left):
                return True
            self.check()
            if self.table.finished and not ticket.ended():
                raise PoolTerminated(_LEFT)
            if deadline is not None and time.monotonic() >= deadline:
                return ticket.ended()

    def await_any(self, tickets: list[_core.Ticket], deadline: float | None, nudges: int) -> bool:
        """Wait for the end of one of these tasks, or a nudge since then; False at the deadline."""
        while True:
            left = (
                LIVENESS_CHECK_INTERVAL_S
                if deadline is None
                else min(LIVENESS_CHECK_INTERVAL_S, deadline - time.monotonic())
            )
            ended = self.parent.wait_any(tickets, left, nudges) is not None
            if ended or self.parent.nudges != nudges:
                return True
            self.check()
            if self.table.finished and not any(ticket.ended() for ticket in tickets):
                raise PoolTerminated(_LEFT)
            if deadline is not None and time.monotonic() >= deadline:
                return False

    @property
    def nudges(self) -> int:
        """How often `nudge` was called: to be read before one decides what to wait for."""
        return self.parent.nudges

    def wait_some(self, tickets: list[_core.Ticket], seconds: float) -> None:
        """Wait until one of these has ended, something new has come, or time is over."""
        if self.parent.wait_any(tickets, seconds, self.parent.nudges) is None:
            self.check()

    def nudge(self) -> None:
        """Have `wait_some` and `await_any` come back."""
        self.parent.nudge()

    def check(self) -> None:
        """Look after the supervisor, and raise if no task will ever end any more."""
        if self.table.phase == PoolPhase.TERMINATING:
            msg = "the pool was terminated before this task was over"
            raise PoolTerminated(msg)
        self.supervisor.check()

    def outcome(self, ticket: _core.Ticket) -> tuple[bool, Any, int]:
        """Take an ended task's result: (success, value or exception, nanoseconds)."""
        return self.decode(self.take(ticket))

    def take(self, ticket: _core.Ticket) -> tuple[Any, ...]:
        """Take an ended task's result as it is: no code of the user runs."""
        call = ticket.call() if ticket.lost() else None
        return call, *ticket.take()

    def decode(self, taken: tuple[Any, ...]) -> tuple[bool, Any, int]:
        """Rebuild what was taken: (success, value or exception, nanoseconds)."""
        call, outcome, payload, buffers, duration, _ = taken
        if outcome == _encoding.OK:
            try:
                return True, _encoding.decode_value(payload, buffers), duration
            except Exception as error:
                return False, error, duration
        if outcome == _encoding.NO_ROOM:
            return False, SharedMemoryFull(bytes(payload).decode()), duration
        if call is None:
            return False, _encoding.decode_error(payload), duration
        return False, self._loss(call, pickle.loads(payload)), duration

    @staticmethod
    def entries(taken: tuple[Any, ...]) -> list[tuple[bool, bytes]] | None:
        """Each item's outcome, still pickled; None if the cell has one outcome."""
        _, outcome, payload, *_ = taken
        return _core.split(payload) if outcome == _encoding.ITEMS else None

    @staticmethod
    def size(taken: tuple[Any, ...]) -> int:
        """Bytes of what was taken."""
        _, _, payload, buffers, *_ = taken
        return len(payload) + sum(len(memoryview(each).cast("B")) for each in buffers or ())

    @staticmethod
    def duration(taken: tuple[Any, ...]) -> int:
        """Nanoseconds that the task took."""
        duration: int = taken[4]
        return duration

    @staticmethod
    def decode_entries(entries: list[tuple[bool, bytes]]) -> list[Any]:
        """Rebuild each item's result; failures are `_encoding.Raise`."""
        return _encoding.decode_each(entries)

    # --- What happened to a task ----------------------------------------------------------

    def _loss(self, call: tuple[Any, ...], facts: dict[str, Any]) -> BaseException:
        task = self.describe(call)
        return TaskTimeout(task, facts) if facts["late"] else WorkerDied(task, facts)

    def describe(self, call: tuple[Any, ...]) -> str:
        """Return the function and a short repr of the arguments that it was working on."""
        number, kind, index, payload = call
        name = self.registry.name(number)
        try:
            if kind & _encoding.EACH and not kind & _encoding.LIST:
                payload = _core.split(payload)[index][1]
            value = _safe_repr.load(payload)
            value = value[index] if kind & _encoding.LIST else value
        except Exception:
            one = kind in {_encoding.CALL, _encoding.ARGS}
            return f"{name}(...)" if one else f"{name}(item {index})"
        if kind == _encoding.CALL:
            args, kwds = value
        elif kind == _encoding.ARGS:
            args, kwds = value, {}
        elif kind & _encoding.EACH:
            args, kwds = (value,), {}
        elif kind & _encoding.STARMAP:
            args, kwds = value[index], {}
        else:
            args, kwds = (value[index],), {}
        texts = [_short(arg) for arg in args]
        texts += [f"{key}={_short(arg)}" for key, arg in kwds.items()]
        return f"{name}({', '.join(texts)})"

    # --- The end --------------------------------------------------------------------------

    def close(self) -> None:
        """Have the workers leave when there is no more work."""
        self.table.enter(PoolPhase.CLOSING)
        self.supervisor.wake()

    def join(self, seconds: float) -> bool:
        """Wait for the workers to leave; True when they have. Looks after the supervisor."""
        if self.supervisor.join(seconds) and self.supervisor.finished:
            return True
        if self.table.broken:
            return True
        self.supervisor.check()
        return False

    def stop(self) -> None:
        """End everything now."""
        self.supervisor.stop()


def _until(deadline: float | None) -> float:
    """Seconds to sleep before the next look at the supervisor and the clock."""
    if deadline is None:
        return LIVENESS_CHECK_INTERVAL_S
    return min(LIVENESS_CHECK_INTERVAL_S, deadline - time.monotonic())


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


_PREFIX = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}


def _daemonic(make: Callable[..., BaseProcess], **kwds: Any) -> BaseProcess:
    """Make the process object that stands for all workers: each gets a number of its own."""
    with uncounted():
        process = make(**kwds)
    process.daemon = True
    return process


def _preload(method: str) -> Preload | None:
    """Modules of `set_forkserver_preload` and, for supervisors, of ours."""
    if method != "forkserver":
        return None
    forkserver: Any = importlib.import_module("multiprocessing.forkserver")
    names = tuple(forkserver._forkserver._preload_modules)
    ours: tuple[str, ...] = (_worker.__name__, "garrison.supervisor._handle")
    if "cloudpickle" in sys.modules:
        # Some worker may need as much. Without it, the first pool is there sooner.
        ours += _preloading.modules()
    return names, main_path() if "__main__" in names else None, ours
