"""The server's log about its peers: at most so many lines a second, and a count of the rest."""

from __future__ import annotations

import logging
import time

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RateLimitedLog", "log"]

log = logging.getLogger("garrison.manager")

LINES_PER_SECOND = 10


class RateLimitedLog:
    """A log that a flood of peers cannot fill."""

    def __init__(self, call_later: Callable[..., Any]) -> None:
        self._call_later = call_later
        self._second = 0.0
        self._lines = 0
        self._more = 0

    def warning(self, text: str, *args: Any) -> None:
        """Log one line, or count it if there were too many in this second."""
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        if self._lines < LINES_PER_SECOND:
            self._lines += 1
            log.warning(text, *args)
            return
        if not self._more:
            self._call_later(1.0, self.flush)
        self._more += 1

    def flush(self) -> None:
        """Log how many lines were left out."""
        more, self._more = self._more, 0
        if more:
            log.warning("and %d more peers were refused or dropped", more)
