"""The base of backends whose workers get tasks as bytes, and return bytes.

::

    submit ──▶ queue ──▶ message(task) ──▶ call_runner.run_message, anywhere ──▶ finish(task, reply)

A message has all that its task needs, the function too, so it does not matter which worker gets it.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import threading
from abc import abstractmethod

from garrison._pickling import dumps
from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._calls import call_policy
from garrison.pool._encoding import ItemError, decode_error, decode_failure, decode_value
from garrison.pool._function_registry import FunctionRegistry
from garrison.pool._payload_kinds import PayloadKind
from garrison.pool._pickling_rules import unpicklable
from garrison.pool._task_backend import ItemBuffer, Task, TaskBackend
from garrison.pool.call_runner import BROKEN, ERROR, ITEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.options import Options

__all__ = ["EncodingBackend", "PickledBackend"]

_FAILED = -1
"""A reply of this process: the exception itself."""
_FAILURES = _FAILED, ERROR
_numbers = itertools.count()


class _Functions(dict[int, bytes]):
    """The pickles of functions, by number."""

    add_function = dict.__setitem__

    def forget_function(self, number: int) -> None:
        """Let a function go: tasks that have it keep it."""
        self.pop(number, None)


class _Function:
    """A registered function."""

    __slots__ = ("number", "pickled", "size")

    def __init__(self, number: int, pickled: bytes, size: int) -> None:
        self.number: int = number
        self.pickled: bytes = pickled
        self.size: int = size


class EncodingBackend(TaskBackend):
    """Encodes what is submitted at once: later changes of an argument do not count."""

    encodes_results: bool = True

    def check_options(self, options: Options) -> None:
        """Refuse what needs memory that workers share with the program."""
        for name in ("logs", "finalizer"):
            if getattr(options, name):
                raise ValueError(
                    f"{name}: this engine's workers share no memory with the program; "
                    'use engine="processes", "threads" or "serial"'
                )

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """Return arguments as `_put_encoded` takes them.

        Raises
        ------
        ArgumentUnpicklable
            If they cannot be sent; the message names the path to the part.
        """

    @abstractmethod
    def _put_encoded(
        self, function: Any, kind: PayloadKind, data: Any, options: Options, items: int
    ) -> Task:
        """Queue a task; for `PICKLED_ITEMS`, `data` is a list of what `encode` returned."""

    def submit(
        self, function: Any, kind: PayloadKind, value: Any, options: Options, items: int = 1
    ) -> Task:
        """Queue a task."""
        return self._put_encoded(function, kind, self.encode(value), options, items)

    def item_buffer(self, chunksize: int) -> ItemBuffer:  # type: ignore[override] # static there
        """Return a buffer that encodes items."""
        return ItemBuffer(chunksize, self._encode_item)

    def _encode_item(self, value: Any) -> Any:
        try:
            return self.encode(value)
        except Exception as error:
            return ItemError(error)

    def submit_items(self, function: Any, items: Any, options: Options) -> Task:
        """Queue a task for encoded items, each with an outcome of its own."""
        kind = PayloadKind.PICKLED_ITEMS
        return self._put_encoded(function, kind, list(items), options, len(items))

    def encode_chunk(self, items: list[Any]) -> Any:  # type: ignore[override] # static there
        """Encode several items together: what they share arrives shared."""
        return self.encode(items)

    def submit_chunk(self, function: Any, chunk: Any, count: int, options: Options) -> Task:
        """Queue a task for items that are one pickle, each with an outcome of its own."""
        return self._put_encoded(function, PayloadKind.LISTED_ITEMS, chunk, options, count)


class PickledBackend(EncodingBackend):
    """Keeps tasks as messages until they are run, and replies until they are decoded.

    Parameters
    ----------
    parallelism : int
        Tasks that run at the same time.
    initializer, initargs : callable or None, tuple
        Called in each worker before its first task.

    Raises
    ------
    ArgumentUnpicklable
        If the initializer or its arguments cannot be sent.
    """

    def __init__(
        self,
        parallelism: int,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
    ) -> None:
        super().__init__(parallelism)
        self._pickles = _Functions()
        self._registry = FunctionRegistry(self._pickles, fork=False, elsewhere=True)
        self._registering = threading.RLock()
        self._key = os.getpid(), next(_numbers)
        start: bytes | None = None
        if initializer is not None:
            start = self._registry.dumps_at_start((initializer, tuple(initargs)))
        # Modules beside the program are found on a machine that has them.
        self._setup: bytes = pickle.dumps(([place for place in sys.path if place], start))

    # --- For those that run them ------------------------------------------------------------

    def message(self, task: Task | None) -> bytes:
        """Return a task as `call_runner.run_message` takes it; None only begins a worker."""
        return pickle.dumps((self._key, self._setup, None if task is None else task.job))

    def begin(self, reply: bytes) -> None:
        """Note what the beginning of a worker has brought: its initializer may have failed."""
        kind, payload, _ = pickle.loads(reply)  # noqa: S301 - written by a worker of this program
        if kind == BROKEN:
            self._break(decode_error(payload))

    def finish(self, task: Task, reply: bytes) -> None:
        """End a task that was begun with its reply."""
        found = pickle.loads(reply)  # noqa: S301 - written by a worker of this program
        with self.changed:
            if found[0] == BROKEN:
                self._running -= 1
                self._break(decode_error(found[1]))
            else:
                self._end(task, found)
            self.changed.notify_all()

    def fail(self, task: Task, error: BaseException) -> None:
        """End a task that was begun, without a reply."""
        with self.changed:
            self._end(task, (_FAILED, error, 0))
            self.changed.notify_all()

    # --- Tasks ------------------------------------------------------------------------------

    def register(self, function: Callable[..., Any], options: Options) -> _Function:  # type: ignore[override] # static there
        """Pickle a function."""
        policy = call_policy(options, function)
        with self._registering:  # a number may be forgotten for another thread's function
            number = self._registry.number(function, policy)
            return _Function(number, self._pickles[number], self._registry.size(number))

    def encode(self, value: Any) -> bytes:
        """Pickle arguments.

        Raises
        ------
        ArgumentUnpicklable
            If they cannot be sent; the message names the path to the part.
        """
        rules = self._registry.rules
        try:
            return dumps(value, rules, self._registry.imports.descriptors.first())
        except Exception as error:
            raise unpicklable(value, "the arguments", error, rules) from error

    def _put_encoded(
        self, function: Any, kind: PayloadKind, data: Any, options: Options, items: int
    ) -> Task:
        del options  # they are a part of the registered function
        size = len(data) if isinstance(data, bytes) else sum(map(len, data))
        job = function.number, function.pickled, int(kind), data
        return self._put(Task(self, job, items, size))

    # --- Results ----------------------------------------------------------------------------

    def decode(self, raw: Any) -> tuple[Any, ...]:
        """Decode a reply."""
        kind, payload, duration = raw
        if kind == _FAILED:
            return False, payload, duration
        if kind == ERROR:
            error, facts = decode_failure(payload)
            return False, error, duration, facts
        if kind == ITEMS:
            return True, self.decode_items(payload), duration
        try:
            return True, decode_value(payload, None), duration
        except Exception as error:
            return False, error, duration

    def is_failure(self, raw: Any) -> bool:
        """Whether a reply is that of a failed task."""
        return raw[0] in _FAILURES

    def items_of(self, raw: Any) -> tuple[list[Any] | None, Any, int, int]:
        """Return the encoded results of a task's items, or the reply as a whole."""
        kind, payload, duration = raw
        if kind != ITEMS:
            return None, raw, 0, duration
        return payload, None, sum(len(data) for _, data in payload), duration

    @staticmethod
    def decode_items(encoded: list[Any]) -> list[Any]:
        """Decode results of items; a failed one is an `ItemError`."""
        return [_decode_item(*each) for each in encoded]


def _decode_item(succeeded: bool, data: bytes) -> Any:
    try:
        return decode_value(data, None) if succeeded else ItemError(*decode_failure(data))
    except Exception as error:
        return ItemError(error)
