"""What a death means: decisions without I/O, so that they can be tested without a process."""

from __future__ import annotations

import enum
import signal

from garrison._typing import Any

__all__ = [
    "Exit",
    "PoolPhase",
    "StartFailures",
    "decide_retry",
    "strip_worker_frames",
]

MAX_REFUSALS = 30
"""Failed forks, without any worker alive, after which the pool is broken."""


class PoolPhase(enum.IntEnum):
    """The phases of a pool, as in `native/src/tasks/table.rs`. They only advance."""

    RUNNING = 0
    CLOSING = 1
    """Workers end when there is no more work."""
    TERMINATING = 2


class Exit:
    """How a process ended."""

    def __init__(
        self,
        pid: int,
        exitcode: int | None,
        out_of_memory: bool = False,
        late: bool = False,
        stack: str = "",
        note: str = "",
    ) -> None:
        self.pid, self.exitcode, self.out_of_memory = pid, exitcode, out_of_memory
        self.late, self.stack, self.note = late, stack, note

    @property
    def signal(self) -> int | None:
        """The signal that killed it, if one did."""
        return -self.exitcode if self.exitcode is not None and self.exitcode < 0 else None

    @property
    def text(self) -> str:
        """How it ended, as text."""
        if self.out_of_memory:
            return "killed because memory ran out"
        if self.signal is None:
            return f"left with exit code {self.exitcode}"
        try:
            return f"killed by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"killed by signal {self.signal}"

    @property
    def exit_info(self) -> dict[str, Any]:
        """The attributes of `WorkerDied` and `TaskTimeout`."""
        return {**vars(self), "signal": self.signal}


def decide_retry(task: dict[str, int], reason: Exit) -> tuple[bool, int]:
    """Charge a death to the item at work.

    Returns whether the task gets another attempt, and how many attempts this item has had.

    Each item of a chunk has its own `retries`. The chunk has their sum, so two items that kill
    alternately come to an end. A task that was killed at its timeout gets no retry, nor does a
    cancelled one.
    """
    same_item = task["fatalities"] > 0 and task["charged"] == task["index"]
    attempts = task["attempts"] + 1 if same_item else 1
    within = attempts <= task["retries"]
    within_sum = task["fatalities"] < task["retries"] * max(1, task["items"])
    wanted = not reason.late and not task.get("cancelled")
    return within and within_sum and wanted, attempts


def strip_worker_frames(stack: str, worker_file: str) -> str:
    """Remove the worker's own frames from a stack of faulthandler."""
    head, marker, frames = stack.partition("(most recent call first):\n")
    if not marker:
        return stack
    kept: list[str] = []
    for line in frames.splitlines():
        if line.startswith(f'  File "{worker_file}"'):
            break
        kept.append(line)
    if not kept:
        # A builtin that the worker called itself.
        return head.rpartition("\n")[0].strip()
    return "\n".join([head + marker.rstrip(), *kept])


class StartFailures:
    """Counts starts that failed in a row: workers that died before their first task.

    Too many of them break the pool.
    """

    def __init__(self, workers: int) -> None:
        self.limit = max(3, workers)
        self.failures = self.refusals = 0

    def succeeded(self) -> None:
        """Note that a worker got past its initializer."""
        self.failures = self.refusals = 0

    def failed(self) -> bool:
        """Count a death before the first task; return whether the pool is broken."""
        self.failures += 1
        return self.failures >= self.limit

    def refused(self, *, others: bool) -> bool:
        """Count a failed fork; return whether the pool is broken.

        While there are other workers the pool goes on with them, and tries again later.
        """
        self.refusals = 0 if others else self.refusals + 1
        return self.refusals >= MAX_REFUSALS
