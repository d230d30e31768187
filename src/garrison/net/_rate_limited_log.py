"""The server's log: at most so many lines a second, of bounded length, and a count of the rest.

All that the server logs about its clients goes through here: a client decides how often it happens,
and what the text contains.
"""

from __future__ import annotations

import time

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

__all__ = ["RateLimitedLog", "server_log"]

INFO, WARNING, ERROR = 20, 30, 40
"""The levels of `logging`."""
LINES_PER_SECOND = 10
MAX_LENGTH = 1000
"""Characters of a line, without its traceback."""
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
"""A client's text must not look like another line."""


def server_log() -> logging.Logger:
    """Return the log of servers and their clients."""
    # Late: few have something to say.
    import logging

    return logging.getLogger("garrison.manager")


class RateLimitedLog:
    """A log that a flood of peers cannot fill. For one thread."""

    def __init__(self, call_later: Callable[..., Any]) -> None:
        self._call_later = call_later
        self._second = 0.0
        self._lines = 0
        self._more = 0

    def info(self, text: str, *args: Any) -> None:
        """Log what happens in order."""
        if server_log().isEnabledFor(INFO):
            self._write(INFO, text, args)

    def warning(self, text: str, *args: Any) -> None:
        """Log what a client has done wrong, or what was done to it."""
        self._write(WARNING, text, args)

    def failure(self, text: str, *args: Any, error: BaseException | bool = True) -> None:
        """Log a failure with its traceback; by default that of the exception being handled."""
        self._write(ERROR, text, args, exc_info=error)

    def _write(self, level: int, text: str, args: tuple[Any, ...], exc_info: Any = None) -> None:
        """Log one line, or count it if there were too many in this second."""
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        if self._lines < LINES_PER_SECOND:
            self._lines += 1
            server_log().log(level, "%s", _one_line(text % args), exc_info=exc_info, stacklevel=3)
            return
        if not self._more:
            self._call_later(1.0, self.flush)
        self._more += 1

    def flush(self) -> None:
        """Log how many lines were left out."""
        more, self._more = self._more, 0
        if more:
            server_log().warning("and %d more lines about clients were left out", more)


def _one_line(text: str) -> str:
    """Return a text without control characters, and not too long."""
    if len(text) > MAX_LENGTH:
        text = f"{text[:MAX_LENGTH]} ... ({len(text)} characters)"
    return text.translate(_ESCAPES)
