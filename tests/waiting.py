"""Waiting for a state that no event announces. Prefer an event, a pipe or the end of a process."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMEOUT_S = 20.0
_INTERVAL_S = 0.002


def becomes_true(condition: Callable[[], object], seconds: float = TIMEOUT_S) -> bool:
    """Whether the condition holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_INTERVAL_S)
    return True


def wait_until(condition: Callable[[], object], seconds: float = TIMEOUT_S) -> None:
    """Wait until the condition holds; fail if it does not within so many seconds."""
    assert becomes_true(condition, seconds), f"not within {seconds} s"
