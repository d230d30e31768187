"""``engine="serial"``: each task runs in the caller's thread, when it is submitted."""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines._engine import Engine, PoolSettings
from garrison.pool.backends import PayloadKind, Task, TaskBackend, refuse_timeout, run_call

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

    Examples
    --------
    >>> from garrison import Pool
    >>> with Pool(engine="serial") as pool:
    ...     pool.map(str, range(3))
    ['0', '1', '2']
    """

    name: str = "serial"

    def backend(self, settings: PoolSettings) -> SerialBackend:
        """Return a backend of one task at a time."""
        return SerialBackend(settings.initializer, settings.initargs)


class SerialBackend(TaskBackend):
    """Runs tasks as they are submitted."""

    runs_in_caller: bool = True

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        super().__init__(1)
        self._start = (initializer, initargs)

    def check_options(self, options: Options) -> None:
        """Refuse a timeout."""
        refuse_timeout(options, "a task in the caller's thread")

    def start(self) -> None:
        """Run the initializer; if it fails, so does each task."""
        initializer, initargs = self._start
        try:
            if initializer is not None:
                initializer(*initargs)
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
            result = run_call(function.function, kind, value, options, _CAUGHT)
        except BaseException:
            self._running -= 1
            raise
        with self.changed:
            self._end(task, result)
            self.changed.notify_all()
        return task
