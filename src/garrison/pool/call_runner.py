"""Runs tasks that arrive as bytes, wherever that is: the worker's side of `PickledBackend`.

It needs the standard library and cloudpickle, and nothing of garrison's core, so a sub-interpreter
can load it.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import threading
import time
import types
from collections.abc import Callable
from multiprocessing.process import current_process

from garrison._typing import Any
from garrison.pool._calls import prepared
from garrison.pool._error_pickles import encode_error
from garrison.pool._facts import describe, describe_call
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._seeds import Seeds, seed_worker

__all__ = ["BROKEN", "ERROR", "ITEMS", "VALUE", "dumps_result", "prepare", "run_message"]

VALUE, ERROR, ITEMS, BROKEN = range(4)
"""Kinds of replies: a pickled result; an encoded exception; for each item (success, pickle); the
encoded exception of the initializer."""
MAX_FUNCTIONS = 256
"""Functions that a worker keeps loaded."""
_PLAIN_TYPES = (types.FunctionType, types.BuiltinFunctionType, type)
"""Types of functions without a state."""
_REFUSED = "subinterpreters"
"""In the error of an extension module that was not prepared for them."""

_functions: dict[tuple[Any, int], Any] = {}


_begun: dict[tuple[Any, int], Any] = {}
"""Pools that a thread has begun, each with what its initializer has returned.

A `threading.local` would last for one call of an interpreter."""


def prepare(seeds: Seeds, number: int) -> None:
    """Give a sub-interpreter seeds of its own."""
    seed_worker(seeds, number)


def run_message(message: bytes) -> bytes:
    """Run a task, and return its reply; exceptions are a reply too.

    Parameters
    ----------
    message : bytes
        What `PickledBackend.message` returned.
    """
    start = time.perf_counter_ns()
    kind, reply = _run(*pickle.loads(message))  # noqa: S301 - written by the program
    return pickle.dumps((kind, reply, time.perf_counter_ns() - start))


def _run(pool: tuple[int, int], setup: bytes, task: tuple[Any, ...] | None) -> tuple[int, Any]:
    try:
        _begin(pool, setup)
    except BaseException as error:
        return BROKEN, _encode_error(error)
    if task is None:
        return VALUE, None
    number, pickled, kind, data = task
    call: _Call | None = None
    try:
        function, retries, retry_on, *policy = _load((pool, number), pickled)
        state = _begun[pool, threading.get_ident()]
        call = _Call(prepared(function, state, *policy), retries, retry_on)
        if kind in {PayloadKind.PICKLED_ITEMS, PayloadKind.LISTED_ITEMS}:
            return ITEMS, call.each(kind, data)
        return VALUE, dumps_result(call.all(kind, data))
    except BaseException as error:
        return ERROR, _encode_error(error, None if call is None else call.facts())


def _begin(pool: tuple[int, int], setup: bytes) -> None:
    """Find the program's modules, and run its initializer, before this thread's first task."""
    here = pool, threading.get_ident()
    if here in _begun:
        return
    path, start = pickle.loads(setup)  # noqa: S301 - written by the program
    if pool[0] != os.getpid():
        # The program's choice: a pool in a task has processes of this machine.
        os.environ.pop("GARRISON_ENGINE", None)
    sys.path += [place for place in path if place not in sys.path]
    state = None
    if start is not None:
        initializer, initargs = pickle.loads(start)  # noqa: S301 - written by the program
        state = initializer(*initargs)
    _begun[here] = state


def _load(key: tuple[Any, int], pickled: bytes) -> tuple[Any, ...]:
    """Load a function. One with a state is loaded for each task, as in the standard library."""
    found: tuple[Any, ...] | None = _functions.get(key)
    if found is None:
        loaded = pickle.loads(pickled)  # noqa: S301 - written by the program
        found = loaded if isinstance(loaded, tuple) else (loaded, 0, ())
        if type(found[0]) in _PLAIN_TYPES:
            if len(_functions) >= MAX_FUNCTIONS:
                _functions.clear()
            _functions[key] = found
    return found


class _Call:
    """A function that is called again after some exceptions, each time with fresh arguments."""

    def __init__(self, function: Callable[..., Any], retries: int, retry_on: Any) -> None:
        self.function, self.retries, self.retry_on = function, retries, retry_on
        self._index: int | None = None
        self._is_star = False
        self._arguments: tuple[Any, Any] = (), {}
        self._attempt, self._start = 1, time.perf_counter_ns()

    def facts(self) -> tuple[Any, ...]:
        """Return what is known of the call that has failed."""
        seconds = (time.perf_counter_ns() - self._start) / 1e9
        args, kwds = self._arguments
        if self._index is None:
            item = describe_call(args, kwds)
        else:
            item = describe(args if self._is_star else args[0])
        name = f"{current_process().name}, {threading.current_thread().name}"
        return self._index, item, self._attempt, name, os.getpid(), seconds

    def all(self, kind: int, data: bytes) -> Any:
        """Return the result of a task; the first failed item fails it."""
        if kind in {PayloadKind.ITEMS, PayloadKind.STAR_ITEMS}:
            star = kind == PayloadKind.STAR_ITEMS
            items = pickle.loads(data)  # noqa: S301 - written by the program
            return [self._item(star, data, index, item) for index, item in enumerate(items)]
        return self._attempts(lambda: _arguments(kind, data))

    def _item(self, star: bool, data: bytes, index: int, item: Any) -> Any:
        """Call the function with an item, which is a fresh copy in each attempt."""
        self._index, self._is_star = index, star
        first = [item]

        def arguments() -> tuple[Any, Any]:
            item = first.pop() if first else pickle.loads(data)[index]  # noqa: S301 - written by the program
            return item if star else (item,), {}

        return self._attempts(arguments)

    def _attempts(self, arguments: Callable[[], tuple[Any, Any]]) -> Any:
        retries = self.retries
        for self._attempt in range(1, 1 + retries):
            try:
                return self._once(arguments)
            except self.retry_on:
                pass
        self._attempt = 1 + self.retries
        return self._once(arguments)

    def _once(self, arguments: Callable[[], tuple[Any, Any]]) -> Any:
        self._arguments = args, kwds = arguments()
        self._start = time.perf_counter_ns()
        return self.function(*args, **kwds)

    def each(self, kind: int, data: Any) -> list[tuple[bool, bytes]]:
        """Return an outcome for each item."""
        if kind == PayloadKind.LISTED_ITEMS:
            items = pickle.loads(data)  # noqa: S301 - written by the program
            return [
                self._outcome(self._item, False, data, index, item)
                for index, item in enumerate(items)
            ]
        return [
            self._outcome(self._pickled_item, index, pickled) for index, pickled in enumerate(data)
        ]

    def _pickled_item(self, index: int, data: bytes) -> Any:
        self._index = index
        return self._attempts(lambda: _arguments(PayloadKind.ONE_ITEM, data))

    def _outcome(self, function: Callable[..., Any], *args: Any) -> tuple[bool, bytes]:
        try:
            return True, dumps_result(function(*args))
        except BaseException as error:
            return False, _encode_error(error, self.facts())


def _arguments(kind: int, data: bytes) -> tuple[Any, Any]:
    value = pickle.loads(data)  # noqa: S301 - written by the program
    if kind == PayloadKind.CALL:
        args, kwds = value
        return args, kwds
    return value if kind == PayloadKind.ARGS else (value,), {}


# --- Results --------------------------------------------------------------------------------------


def dumps_result(value: Any) -> bytes:
    """Pickle a result.

    Raises
    ------
    multiprocessing.pool.MaybeEncodingError
        If it cannot be sent.
    """
    try:
        return _dumps(value)
    except Exception as error:
        # Late: few results fail.
        from garrison.pool._stdlib_names import MaybeEncodingError

        raise MaybeEncodingError(error, value) from None


def _dumps(value: Any) -> bytes:
    """Pickle by reference what can be, and the rest by value."""
    try:
        return pickle.dumps(value, 5)
    except Exception:
        import cloudpickle

        buffer = io.BytesIO()
        cloudpickle.Pickler(buffer, 5).dump(value)
        return buffer.getvalue()


def _encode_error(error: BaseException, facts: tuple[Any, ...] | None = None) -> bytes:
    for each in reversed(_causes(error)):
        if isinstance(each, ImportError) and _REFUSED in str(each) and hasattr(error, "add_note"):
            line = next(line for line in str(each).splitlines() if _REFUSED in line)
            error.add_note(f'{line}: use engine="threads" or "processes" for such tasks')
            break
    return encode_error(error, _dumps, facts)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
