"""Every named crash point of a pool: the process that reaches it first kills itself there.

A worker or the supervisor that dies so must cost nothing, since each task may be tried again; a
parent that dies so must leave nothing.
"""

from __future__ import annotations

import importlib
import os
import signal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from failures import tasks
from failures.registry import Row
from failures.subject import Subject, check, none_lost, same
from failures.victims import Victim, nothing_left

LIMIT = 20.0


OF_A_POOL = frozenset({"worker", "cell", "args", "task", "heap", "result", "supervisor"}) | {
    "requeue",
    "lost",
}
"""What its points begin with; the others are reached, and killed at, by the tests of their own."""


def points() -> tuple[str, ...]:
    """The crash points of a pool in this build; none in a release build."""
    every = importlib.import_module("garrison._core").CRASH_POINTS
    return tuple(point for point in every if point.partition(".")[0] in OF_A_POOL)


def rows() -> dict[str, Row]:
    """A row for each crash point of this build."""
    return {made.name: made for made in map(_row, points())}


def _row(point: str) -> Row:
    return Row(
        name=f"crash_point[{point}]",
        title=f"killed at {point}",
        source="supervisor",
        run=partial(crash_point, point=point),
        limit=LIMIT,
        fine=(),
        case=point,
        only_garrison="crash points exist in garrison's test build only",
    )


def crash_point(subject: Subject, point: str) -> None:
    """Run a mixed load in a process whose tree meets the crash point once."""
    with TemporaryDirectory() as folder:
        token = Path(folder, "token")
        os.environ["GARRISON_CRASH"] = f"{point}@{token}"
        with Victim(subject, work_to_the_end, str(Path(folder, "died"))) as victim:
            status = victim.ended(LIMIT - 2.0)
            check(status in (0, -signal.SIGKILL), f"ended with {status}")
            nothing_left(1.0)
        check(token.exists(), "the point was not reached")


def _once(pool: Any) -> Any:
    return pool.options(retries=0)


def _cancel_a_running_task(subject: Subject, pool: Any) -> None:
    with tasks.Ear() as ear:
        sleeping = pool.apply_async(tasks.tell_and_sleep, (ear.address, LIMIT))
        # A supervisor that has died just now is replaced when somebody waits for a result.
        same(subject.value(pool.apply_async(tasks.square, (3,))), 9)
        ear.hear(1)
        check(sleeping.cancel(grace=0), "the running task was not cancelled")


def work_to_the_end(subject: Subject, path: str) -> None:
    """Go through all kinds of work, with tasks that may be tried again, and check each result."""
    with subject.pool(2, maxtasksperchild=20, retries=5) as pool:
        results = [pool.apply_async(tasks.square, (n,)) for n in range(50)]
        none_lost([subject.value(result) for result in results], [n * n for n in range(50)])
        same(pool.map(tasks.square, range(200)), [n * n for n in range(200)])
        same(list(pool.imap(tasks.square, range(20))), [n * n for n in range(20)])
        same(pool.map(tasks.double_first, [b"\1" * 3_000_000] * 4, chunksize=1), [2] * 4)
        same([len(block) for block in pool.map(tasks.block_of, [3_000_000] * 4)], [3_000_000] * 4)
        subject.error(pool.apply_async(tasks.raise_it, (ValueError,)), ValueError)
        same(subject.value(pool.apply_async(tasks.die_once, (path, 7))), 7)
        # Where the supervisor dies before it could tell how the worker did, nobody can.
        lost = subject.error(_once(pool).apply_async(tasks.die, ("SIGKILL",)))
        check(type(lost) is subject.module.WorkerDied, f"{type(lost).__name__}: {lost}")
        _cancel_a_running_task(subject, pool)
        subject.still_works(pool)
        subject.finish(pool)
