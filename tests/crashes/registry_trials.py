"""Flips the bytes of registries of owners: run as a program, in which no registry exists before.

Each trial makes a registry, with three owners: itself, a child that holds a lock, and a child that
died with one. A lock of a living owner must not be had by another; that of a dead one is inherited,
or is an error.
"""

from __future__ import annotations

import mmap
import os
import sys

from damage import PAGE
from flipping import PATIENCE_S, TrialFailedError, assert_same, run_trials, suppressed
from garrison import _core
from garrison.sync import Lock

HEADER_SIZE, SLOT_SIZE = 48, 64
BYTES = [*range(HEADER_SIZE), *range(PAGE, PAGE + 3 * SLOT_SIZE)]
STOLEN = 7


def fork_holder(lock: Lock, mine: Lock, pipes: tuple[int, int]) -> int:
    """A child that holds a lock until it is told; it must not get that of its parent."""
    ready, go_on = pipes
    pid = os.fork()
    if pid:
        return pid
    lock.acquire()
    os.write(ready, b"x")
    os.read(go_on, 1)
    stolen = False
    with suppressed():
        stolen = mine.acquire(timeout=0.3)
    with suppressed():
        lock.release()
    os._exit(STOLEN if stolen else 0)


def fork_dead(lock: Lock) -> None:
    pid = os.fork()
    if not pid:
        lock.acquire()
        os._exit(0)
    os.waitpid(pid, 0)


def use_registry(at: int) -> None:
    mine, held, left = Lock(), Lock(), Lock()
    mine.acquire()
    (reading, ready), (go_on, told) = os.pipe(), os.pipe()
    child = fork_holder(held, mine, (ready, go_on))
    os.read(reading, 1)
    fork_dead(left)
    registry = mmap.mmap(_core.registry()[1], PAGE + 3 * SLOT_SIZE)
    registry[at] ^= 0xFF
    with suppressed():
        assert_same(held.acquire(timeout=0.3), False)
    os.write(told, b"x")
    _, status = os.waitpid(child, 0)
    if status:
        raise TrialFailedError(f"the child ended with {os.waitstatus_to_exitcode(status)}")
    with suppressed():
        assert_same(held.acquire(timeout=PATIENCE_S), True)
    with suppressed():
        assert_same(left.acquire(timeout=PATIENCE_S), True)
    with suppressed():
        mine.release()
        assert_same(mine.acquire(timeout=PATIENCE_S), True)


def main() -> None:
    """Run all trials, and say which failed."""
    sys.stdout.write(f"failed: {run_trials(use_registry, BYTES)}\n")


if __name__ == "__main__":
    main()
