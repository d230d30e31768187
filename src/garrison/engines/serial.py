"""``engine="serial"``: each task runs in the caller's thread, when it is submitted."""

from __future__ import annotations

import pickle

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines._engine import Engine, PoolSettings
from garrison.errors import ResultUnpicklable
from garrison.pool.backends import (
    ItemBuffer,
    ItemError,
    PayloadKind,
    PickledBackend,
    Task,
    TaskBackend,
    decode_error,
    dumps_result,
    encode_error,
    refuse_timeout,
    run_call,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.options import Options

__all__ = ["Serial"]

_CAUGHT = (Exception, SystemExit, GeneratorExit)
"""Results of a task: all but Ctrl-C, which is for the caller."""


class Serial(Engine):
    """Runs each task in the caller's thread: debuggers, profilers and coverage see all of it.

    A task runs when it is submitted; `imap` runs an item when its result is asked for. Callbacks
    run in the same thread. Exceptions have their real traceback, with all frames alive. There is no
    `timeout`: the thread that would end the task is in it.

    Parameters
    ----------
    pickle : bool
        Whether arguments and results are pickled all the same, to find what cannot be sent where it
        is sent. Otherwise tasks get, and return, the program's own objects. Functions are always
        the program's own.

    Examples
    --------
    >>> from garrison import Pool
    >>> with Pool(engine="serial") as pool:
    ...     pool.map(str, range(3))
    ['0', '1', '2']
    """

    name: str = "serial"

    def __init__(self, *, pickle: bool = False) -> None:
        self.pickle: bool = pickle

    def backend(self, settings: PoolSettings) -> SerialBackend:
        """Return a backend of one task at a time."""
        kind = PicklingBackend if self.pickle else SerialBackend
        return kind(settings.initializer, settings.initargs, settings.options)


class SerialBackend(TaskBackend):
    """Runs tasks as they are submitted."""

    runs_in_caller: bool = True

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        options: Options,
    ) -> None:
        super().__init__(1)
        self._start = (initializer, initargs)
        self._options = options
        self._state: Any = None
        self._is_finalized = False

    def check_options(self, options: Options) -> None:
        """Refuse a timeout."""
        refuse_timeout(options, "a task in the caller's thread")

    def start(self) -> None:
        """Run the initializer; if it fails, so does each task."""
        initializer, initargs = self._start
        try:
            if initializer is not None:
                self._state = initializer(*initargs)
        except Exception as error:
            self._break(error)

    def submit(
        self, function: Any, kind: PayloadKind, value: Any, options: Options, items: int = 1
    ) -> Task:
        """Run a task. Ctrl-C ends it and the caller's call."""
        task = Task(self, None, items)
        if self._broken is not None or self._terminating:
            return task  # waiting for it says why
        self._running += 1
        try:
            result = self._run(function.function, kind, value, options)
        except BaseException:
            self._running -= 1
            raise
        with self.changed:
            self._end(task, result)
            self.changed.notify_all()
        return task

    def _run(
        self, function: Callable[..., Any], kind: PayloadKind, value: Any, options: Options
    ) -> tuple[Any, ...]:
        return run_call(function, kind, value, options, _CAUGHT, self._state)

    def join(self, seconds: float) -> bool:
        """Wait for the end of all tasks, and run the finalizer."""
        over = super().join(seconds)
        if over and not self._over and not self._is_finalized:
            self._is_finalized = True
            self.finalize(self._options, 0, self._state)
        return over


class PicklingBackend(SerialBackend):
    """Pickles arguments and results on the way to tasks that run here."""

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        options: Options,
    ) -> None:
        super().__init__(initializer, initargs, options)
        self._codec = PickledBackend(1, initializer, initargs)

    def register(self, function: Callable[..., Any], options: Options) -> Any:  # type: ignore[override] # static there
        """Check that a function can be sent."""
        self._codec.register(function, options)
        return super().register(function, options)

    def _copy(self, value: Any) -> Any:
        return pickle.loads(self._codec.encode(value))  # noqa: S301 - written by this process

    def submit(
        self, function: Any, kind: PayloadKind, value: Any, options: Options, items: int = 1
    ) -> Task:
        """Run a task with copies of its arguments."""
        return super().submit(function, kind, self._copy(value), options, items)

    def item_buffer(self, chunksize: int) -> ItemBuffer:  # type: ignore[override] # static there
        """Return a buffer of copies."""
        return ItemBuffer(chunksize, self._copy_item)

    def _copy_item(self, value: Any) -> Any:
        try:
            return self._copy(value)
        except Exception as error:
            return ItemError(error)

    def encode_chunk(self, items: list[Any]) -> Any:  # type: ignore[override] # static there
        """Return copies of several items."""
        return tuple(self._copy(items))

    def submit_items(self, function: Any, items: Any, options: Options) -> Task:
        """Run a task for copied items, each with an outcome of its own."""
        return super().submit(function, PayloadKind.PICKLED_ITEMS, items, options, len(items))

    def submit_chunk(self, function: Any, chunk: Any, count: int, options: Options) -> Task:
        """Run a task for copied items, each with an outcome of its own."""
        return super().submit(function, PayloadKind.PICKLED_ITEMS, chunk, options, count)

    def _run(
        self, function: Callable[..., Any], kind: PayloadKind, value: Any, options: Options
    ) -> tuple[Any, ...]:
        success, result, duration, *facts = super()._run(function, kind, value, options)
        if not success:
            return False, _checked(result), duration, *facts
        if kind == PayloadKind.PICKLED_ITEMS:
            return True, [_copied_outcome(each) for each in result], duration
        try:
            return True, _copied(result), duration
        except Exception as error:
            return False, error, duration


def _copied(result: Any) -> Any:
    return pickle.loads(dumps_result(result))  # noqa: S301 - written by this process


def _copied_outcome(outcome: Any) -> Any:
    if isinstance(outcome, ItemError):
        return ItemError(_checked(outcome.error), outcome.facts)
    try:
        return _copied(outcome)
    except Exception as error:
        return ItemError(error)


def _checked(error: BaseException) -> BaseException:
    """Return an exception with its real traceback, if it could be sent; else what is wrong."""
    arrived = decode_error(encode_error(error))
    if isinstance(arrived, ResultUnpicklable) and not isinstance(error, ResultUnpicklable):
        arrived.__cause__ = error
        return arrived
    return error
