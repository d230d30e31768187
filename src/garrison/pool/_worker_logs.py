"""The worker's side of ``logs=True``: see `_logs`."""

from __future__ import annotations

import contextvars
import functools
import io
import os
import sys
from multiprocessing.process import current_process

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool._facts import describe_call

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOG", "LogWriter"]

LOG = "log"
"""The kind of an item that is a log record; the others are those of a stream."""
STREAMS = ("stdout", "stderr")
MAX_LABEL = 40
"""Characters of a task in front of a line."""
PLAIN = (str, int, float, bool, type(None))
"""Types of attributes of a log record that are sent."""
coroutine_at_work: contextvars.ContextVar[tuple[Any, Any, Any] | None] = contextvars.ContextVar(
    "coroutine_at_work", default=None
)
"""The function, arguments and keywords of the coroutine that runs: the task has many."""


class LogWriter:
    """What is sent with a function: it redirects the output of its calls.

    Parameters
    ----------
    queue : garrison.Queue
        Where the output goes.
    level : int
        The level of the program's root logger.
    """

    def __init__(self, queue: Any, level: int) -> None:
        self._queue, self.level = queue, level

    def logged(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are redirected."""
        import logging

        if self.level and not logging.root.handlers:
            logging.root.setLevel(self.level)
        return _Logged(function, self._queue)


class _Logged:
    """A function whose output goes to the program."""

    def __init__(self, function: Callable[..., Any], queue: Any) -> None:
        self._function, self._queue = function, queue

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        """Call it."""
        import logging

        call = _Call(self._queue, self._function, args, kwds)
        logger: Any = logging.Logger
        before = sys.stdout, sys.stderr, logger.callHandlers
        streams = [_Stream(call, each) for each in STREAMS]
        try:
            sys.stdout, sys.stderr = streams
            logger.callHandlers = call.log
            return self._function(*args, **kwds)
        finally:
            sys.stdout, sys.stderr, logger.callHandlers = before
            for stream in streams:
                stream.end_line()


class _Call:
    """One call, whose output is labelled."""

    def __init__(self, queue: Any, function: Any, args: Any, kwds: Any) -> None:
        self._queue, self._call = queue, (function, args, kwds)
        self._task: str | None = None

    @property
    def task(self) -> str:
        """The call, in short; made when something is written."""
        coroutine = coroutine_at_work.get()
        if coroutine is not None:
            return _in_short(*coroutine)
        if self._task is None:
            self._task = _in_short(*self._call)
        return self._task

    def put(self, stream: str, text: str) -> None:
        """Send a piece of output."""
        label = f"{current_process().name} {self.task}"
        self._queue.put((stream, os.getpid(), label, text))

    def log(self, record: Any) -> None:
        """Send a log record, in the place of `logging.Logger.callHandlers`."""
        import logging

        values = dict(vars(record))
        try:
            if record.exc_info and not record.exc_text:
                values["exc_text"] = logging.Formatter().formatException(record.exc_info)
            message = record.getMessage()
        except Exception:
            logging.Handler().handleError(
                record
            )  # as handlers do: it says so, and the task goes on
            return
        values.update(msg=message, args=None, exc_info=None, taskName=self.task)
        plain = {name: each for name, each in values.items() if type(each) in PLAIN}
        self._queue.put((LOG, plain))


def _in_short(function: Any, args: Any, kwds: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None) or type(function).__name__
    text: str = name + describe_call(args, kwds)
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 4]}...)"


class _Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a call."""

    def __init__(self, call: _Call, name: str) -> None:
        self._call, self._name = call, name
        self._before: Any = getattr(sys, name)
        self._is_begun = False

    @property
    def encoding(self) -> str:  # type: ignore[override] # read only
        """That of the stream before."""
        return getattr(self._before, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Send text to the program."""
        if not isinstance(text, str):
            msg = f"write() argument must be str, not {type(text).__name__}"
            raise TypeError(msg)
        if text:
            self._is_begun = text[-1] != "\n"
            self._call.put(self._name, str(text))
        return len(text)

    def end_line(self) -> None:
        """End a line that the call has begun."""
        if self._is_begun:
            self.write("\n")

    def fileno(self) -> int:
        """Return the descriptor of the stream before."""
        number: int = self._before.fileno()
        return number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._before, name)
