"""What a death means: decisions without I/O, so that they can be tested without a process."""

from __future__ import annotations

import signal

from garrison._typing import Any

__all__ = ["Exit", "Starts", "fate", "own_frames"]


MOST_REFUSALS = 30
"""Attempts to start a worker that may fail for want of a process while there is no other worker."""


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
        """How it ended, in words."""
        if self.out_of_memory:
            return "killed because memory ran out"
        if self.signal is None:
            return f"left with exit code {self.exitcode}"
        try:
            return f"killed by {signal.Signals(self.signal).name}"
        except ValueError:
            return f"killed by signal {self.signal}"

    @property
    def facts(self) -> dict[str, Any]:
        """What `WorkerDied` and `TaskTimeout` tell."""
        return {**vars(self), "signal": self.signal}


def fate(task: dict[str, int], why: Exit) -> tuple[bool, int]:
    """Charge a death to the item that was being worked on.

    Returns whether there is another attempt, and how many there were on this item.

    Each item of a chunk has its own `retries`; the chunk as a whole has their sum, so that two
    items which kill in turn come to an end. A task that is late was not unlucky: no retry.
    """
    same_item = task["fatalities"] > 0 and task["charged"] == task["index"]
    attempts = task["attempts"] + 1 if same_item else 1
    within = attempts <= task["retries"]
    within_sum = task["fatalities"] < task["retries"] * max(1, task["items"])
    return within and within_sum and not why.late, attempts


def own_frames(stack: str, worker_file: str) -> str:
    """Of a stack that faulthandler wrote, keep what the task did: not how its worker came there."""
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


class Starts:
    """Workers that die before they have ever worked, one after the other, end in a broken pool."""

    def __init__(self, workers: int) -> None:
        self.limit = max(3, workers)
        self.failures = self.refusals = 0

    def succeeded(self) -> None:
        """Note that a worker got past its initializer."""
        self.failures = self.refusals = 0

    def failed(self) -> bool:
        """Note a death before the first task; True if it is hopeless."""
        self.failures += 1
        return self.failures >= self.limit

    def refused(self, *, others: bool) -> bool:
        """Note that the system has no process to give; True if it is hopeless.

        While there are other workers the pool goes on with them, and waits for a process.
        """
        self.refusals = 0 if others else self.refusals + 1
        return self.refusals >= MOST_REFUSALS
