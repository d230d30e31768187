"""A worker: takes a task, runs it, returns its result. Runs in a child of the supervisor."""

from __future__ import annotations

import faulthandler
import os
import pickle
import sys
from functools import partial
from multiprocessing.process import current_process

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import TaskInterrupt
from garrison.pool import (
    _definitions,
    _encoding,
    _interrupting,
    _pickling_rules,
    _seeds,
    _worker_namespaces,
)
from garrison.pool._encoding import Outcome
from garrison.pool._payload_kinds import PayloadKind
from garrison.supervisor import STACK_SIGNAL, allow_children, record_crashes

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = tuple[Any, tuple[Any, ...], _worker_namespaces.NamespaceRef | None, bool, Any]
    """Initializer (or its pickle), its arguments, the namespace of its globals; whether the worker
    is an executor's: a task's `SystemExit` is its result, and failures are logged; the `Ending`."""

CRASH_POINTS = bool(_core.CRASH_POINTS)
# Globals are found faster than members.
_CALL, _ARGS = PayloadKind.CALL, PayloadKind.ARGS
_STAR_ITEMS, _ONE_ITEM = PayloadKind.STAR_ITEMS, PayloadKind.ONE_ITEM
_PICKLED_ITEMS, _LISTED_ITEMS = PayloadKind.PICKLED_ITEMS, PayloadKind.LISTED_ITEMS
_CHUNK_KINDS = PayloadKind.ITEMS, _STAR_ITEMS
_CALL_KINDS = _ARGS, _ONE_ITEM, *_CHUNK_KINDS
_ERROR, _ITEMS = Outcome.ERROR, Outcome.ITEMS
INITIALIZER_FAILED = 1
"""Exit code."""
MAX_CACHED_FUNCTIONS = 256
"""Functions that a worker keeps loaded."""
MAX_INLINE_RESULT = 140
"""Bytes that always fit into a cell."""

current_slot = 0
"""This worker's place among those of its pool, which its successor has after it."""


def run_worker(
    table: _core.Table,
    slot: int,
    owner_id: int,
    number: int,
    stack_fd: int,
    start: Start,
    seeds: _seeds.Seeds,
    maxtasks: int | None,
) -> None:
    """Run a worker until the pool ends it."""
    global current_slot  # noqa: PLW0603 - a process is one worker
    current_slot = slot
    stack_file = _core.Descriptor(_core.move_up(stack_fd))
    record_crashes(stack_file.fileno())
    faulthandler.register(STACK_SIGNAL, file=stack_file.fileno(), all_threads=False, chain=False)
    worker = _core.Worker(table, slot, owner_id)
    _interrupting.begin(worker)
    _encoding.facts_at_work = partial(_facts_at_work, worker)
    worker.note_start()
    if start[3]:
        _mark_as_executors()
    allow_children(worker.set_children)
    _core.crash_point("worker.started")
    _definitions.begin(worker)
    _worker_namespaces.snapshot_module("__main__")
    _seeds.seed_worker(seeds, number)
    state = _initialize(start, stack_file)
    worker.initialized()
    _serve(worker, maxtasks, state, of_executor=start[3])
    if start[4] is not None:
        start[4].run(number, state)


def _mark_as_executors() -> None:
    """Let programs see that this process may have children, as a worker of an executor may."""
    me: Any = current_process()
    me._config["daemon"] = False


_retried = 0
"""Attempts that the call at work has had in this worker, before the present one."""


def _facts_at_work(worker: _core.Worker, result: Any) -> tuple[Any, ...] | None:
    """Return what is known of the call that fails, perhaps since its result cannot be sent."""
    global _retried
    index: int | None
    try:
        kind, payload, _, index, deaths, nanoseconds = worker.at_work()
    except Exception:
        return None  # there is none, or its arguments cannot be looked at
    # Late, as few calls fail.
    from garrison.pool._safe_repr import describe_item

    if result is not None and kind in _CHUNK_KINDS:
        # All calls are over, and the result is the list of theirs.
        index = _encoding.index_of_unpicklable(result)
    task = os.getpid(), worker.taken
    item = "" if index is None else describe_item(kind, index, payload, task)
    place = None if kind in {_CALL, _ARGS} else index
    name = current_process().name
    attempt, _retried = 1 + deaths + _retried, 0
    return place, item, attempt, name, os.getpid(), nanoseconds / 1e9


def _initialize(start: Start, stack_file: _core.Descriptor) -> Any:
    """Run the user's initializer, and return the state. A failure ends this worker."""
    state: Any = None
    try:
        pickled, initargs, namespace, of_executor, _ = start
        if pickled is not None:
            if namespace is not None:
                _worker_namespaces.begin(namespace)
            _worker_namespaces.note_user_code()
            initializer = pickled if callable(pickled) else pickle.loads(pickled)  # noqa: S301 - written by the parent
            state = initializer(*initargs)
            _seeds.keep_numpy_state()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        import traceback

        text = "the initializer failed\n" + "".join(traceback.format_exception(error))
        if stack_file.is_ours:
            os.write(stack_file.fileno(), text.encode(errors="replace"))
        if of_executor:
            import logging

            logging.getLogger("concurrent.futures").critical(
                "Exception in initializer:", exc_info=True
            )
        else:
            traceback.print_exception(error)
        sys.exit(INITIALIZER_FAILED)
    return state


def _serve(worker: _core.Worker, maxtasks: int | None, state: Any, *, of_executor: bool) -> None:
    """Run tasks until the pool ends. Ctrl-C ends a task, never a worker between two tasks."""
    functions = _Functions(state)
    while True:
        try:
            if worker.busy:
                # Ctrl-C came between a task's claim and its result.
                interrupted = _encoding.encode_error(KeyboardInterrupt())
                worker.publish(_ERROR, interrupted, None)
            _serve_on(worker, functions, maxtasks)
        except KeyboardInterrupt:
            continue
        except SystemExit as error:
            if not (of_executor and worker.busy):
                _interrupting.end()
                raise
            worker.publish(_ERROR, _encoding.encode_error(error), None)
            continue
        return


class _Functions:
    """Functions by number that this worker keeps loaded."""

    def __init__(self, state: Any) -> None:
        self.state = state
        """What the initializer has returned."""
        self.plain: dict[int, Callable[..., Any]] = {}
        self.retrying: dict[int, _Retrying] = {}

    def get(self, number: int) -> Callable[..., Any] | None:
        """Return a function, or None if it must be loaded."""
        found = self.plain.get(number)
        return self.retrying.get(number) if found is None else found

    def keep(self, number: int, function: Callable[..., Any]) -> None:
        """Keep a function; now and then all others are forgotten."""
        if len(self.plain) + len(self.retrying) >= MAX_CACHED_FUNCTIONS:
            self.plain.clear()
            self.retrying.clear()
        if type(function) is _Retrying:
            self.retrying[number] = function
        else:
            self.plain[number] = function


def _serve_on(worker: _core.Worker, functions: _Functions, maxtasks: int | None) -> None:
    take, publish = worker.take, worker.publish
    # Small calls are made by the core, one after the other, if their number does not matter.
    plain = functions.plain if maxtasks is None else None
    # Asked first: an interrupt after a worker's last task must not give it another.
    while maxtasks is None or worker.taken < maxtasks:
        task = take(plain, _CALL_KINDS)
        if task is None:
            return
        if isinstance(task, _core.MadeCall):
            outcome, payload, buffers = _encode_made(task)
        else:
            outcome, payload, buffers = _run(worker, functions, task)
        del task
        if CRASH_POINTS:
            _core.crash_point("task.done")
        try:
            publish(outcome, payload, buffers)
        except Exception as error:
            # Its traceback would not fit either: send only what fits into a cell.
            publish(Outcome.MEMORY_FULL, str(error).encode()[:MAX_INLINE_RESULT], None)
        del payload, buffers
    worker.retire()


Result = tuple[int, bytes, "list[Any] | None"]


def _run(worker: _core.Worker, functions: _Functions, task: tuple[Any, ...]) -> Result:
    number, kind, payload, buffers = task
    try:
        function = functions.get(number)
        if function is None:
            function = _load(worker, functions, number)
        if type(function) is _Retrying:
            return function.run(worker, kind, payload, buffers)
        if kind == _PICKLED_ITEMS:
            return _map_each(worker, function, payload)
        arguments = _encoding.loads(payload, buffers=buffers)
        del payload, buffers, task
        return _apply(worker, function, kind, arguments)
    except SystemExit:
        # The task called `sys.exit` or the like: end, and the supervisor tells the parent.
        raise
    except BaseException as error:
        return _ERROR, _encoding.encode_error(error), None


def _apply(worker: _core.Worker, function: Callable[..., Any], kind: int, arguments: Any) -> Result:
    if kind == _LISTED_ITEMS:
        return _map_each(worker, function, arguments)
    if kind == _ARGS:
        result = function(*arguments)
    elif kind == _ONE_ITEM:
        result = function(arguments)
    elif kind == _CALL:
        args, kwds = arguments
        result = function(*args, **kwds)
    else:
        result = worker.map(function, arguments, kind == _STAR_ITEMS)
    return _encoding.encode_result(result)


def _encode_made(call: _core.MadeCall) -> Result:
    if call.succeeded:
        return _encoding.encode_result(call.value)
    return _ERROR, _encoding.encode_error(call.value), None


def _map_each(worker: _core.Worker, function: Callable[..., Any], items: Any) -> Result:
    """Apply a function to items that have an outcome each: a list, or a payload of pickles."""
    encode, encode_error = _encoding.encode_result_fallback, _encoding.encode_error
    worker.map_each(function, items, _encoding.loads, encode_error, encode)
    return _ITEMS, b"", None


def _load(worker: _core.Worker, functions: _Functions, number: int) -> Callable[..., Any]:
    """Load the present task's function; with retries on exceptions, wrap it.

    Only plain functions are cached. A bound method or a partial has a state, and each chunk gets
    its own copy of it, as in the standard library.
    """
    pickled = worker.function()
    received, made = _worker_namespaces.received, _worker_namespaces.made
    loaded = pickle.loads(pickled)  # noqa: S301 - written by the parent
    if _worker_namespaces.made == made:
        _worker_namespaces.note_user_code()
    own_size = len(pickled) - (_worker_namespaces.received - received)
    _seeds.seed_late_numpy()
    function: Callable[..., Any]
    function = plain = loaded
    if isinstance(loaded, tuple):
        plain = loaded[0]
        function = _called_by_policy(functions.state, *loaded)
    if (
        type(plain) in _pickling_rules.PLAIN_TYPES
        and own_size <= _pickling_rules.MAX_CACHED_FUNCTION
    ):
        functions.keep(number, function)
    return function


def _called_by_policy(
    state: Any,
    function: Callable[..., Any],
    retries: int,
    retry_on: tuple[type[BaseException], ...],
    *policy: Any,
) -> Callable[..., Any]:
    """Return a function as it is called: see `call_policy`."""
    from garrison.pool._calls import prepared  # late: few functions have a policy

    made = prepared(function, state, *policy)
    return _Retrying(made, retries, retry_on) if retry_on else made


class _Retrying:
    """A function that is called again after some exceptions, each time with fresh arguments."""

    def __init__(
        self, function: Callable[..., Any], retries: int, retry_on: tuple[type[BaseException], ...]
    ) -> None:
        self.function, self.retries, self.retry_on = function, retries, retry_on

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        """Exist for code that checks whether it is callable."""
        return self.function(*args, **kwds)

    def run(
        self, worker: _core.Worker, kind: int, payload: Any, buffers: list[Any] | None
    ) -> Result:
        """Run the present task."""

        def load(data: Any) -> Any:
            # A private copy: the next attempt must not see writes of this one.
            copies = [memoryview(bytearray(view)) for view in buffers or ()]
            return _encoding.loads(data, buffers=copies)

        def arguments() -> Any:
            return load(payload)

        if kind in {_CALL, _ARGS, _ONE_ITEM}:
            return _encoding.encode_result(self._attempts(worker, kind, arguments(), arguments))
        if kind == _PICKLED_ITEMS:
            return self._run_items(worker, _core.split(payload), load)
        first = arguments()

        def item(index: int) -> Any:
            return self._attempts(worker, kind, first[index], lambda: arguments()[index])

        numbers = list(range(len(first)))
        if kind == _LISTED_ITEMS:
            return _map_each(worker, item, numbers)
        return _encoding.encode_result(worker.map(item, numbers, False))

    def _run_items(
        self, worker: _core.Worker, items: list[bytes], load: Callable[[bytes], Any]
    ) -> Result:
        def attempts(item: bytes) -> Any:
            return self._attempts(worker, PayloadKind.ITEMS, load(item), lambda: load(item))

        return _map_each(worker, attempts, items)

    def _attempts(
        self, worker: _core.Worker, kind: int, value: Any, again: Callable[[], Any]
    ) -> Any:
        global _retried  # noqa: PLW0603 - a process runs one call at a time
        for _retried in range(self.retries + 1):
            try:
                result = self._call(kind, value)
            except TaskInterrupt:
                raise
            except self.retry_on:
                if _retried == self.retries or worker.cancelled:
                    raise
                value = again()
                worker.restart_clock()
            else:
                _retried = 0
                return result
        raise AssertionError("there is a last attempt")

    def _call(self, kind: int, value: Any) -> Any:
        if kind == _CALL:
            args, kwds = value
            return self.function(*args, **kwds)
        if kind in {_ARGS, _STAR_ITEMS}:
            return self.function(*value)
        return self.function(value)
