"""What the server says of its peers: one line each, and a number where there are too many."""

from __future__ import annotations

import logging
import time

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Notices", "log"]

log = logging.getLogger("garrison.manager")

LINES = 10
"""Lines a second."""


class Notices:
    """A log that a flood of peers cannot fill."""

    def __init__(self, call_later: Callable[..., Any]) -> None:
        self._call_later = call_later
        self._second = 0.0
        self._lines = 0
        self._more = 0

    def say(self, text: str, *args: Any) -> None:
        """Write one line, or count it."""
        now = time.monotonic()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        if self._lines < LINES:
            self._lines += 1
            log.warning(text, *args)
            return
        if not self._more:
            self._call_later(1.0, self.sum_up)
        self._more += 1

    def sum_up(self) -> None:
        """Say how many lines were not written."""
        more, self._more = self._more, 0
        if more:
            log.warning("and %d more peers were refused or dropped", more)
