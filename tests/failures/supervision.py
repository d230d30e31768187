"""What the supervisor promises: it replaces, it gives up with a reason, it may die itself."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from . import tasks
from .payloads import Submission
from .registry import row
from .subject import PATIENCE, Subject, check, same
from .system import gone, kill

NO_SUPERVISOR = "multiprocessing has no supervisor process"
FEW = 40


def raise_in_initializer(path: str) -> NoReturn:
    """Count the call, then raise."""
    _count(path)
    message = "no licence found"
    raise RuntimeError(message)


def die_in_initializer(path: str) -> NoReturn:
    """Count the call, then die."""
    _count(path)
    tasks.die("SIGKILL")


def exit_in_initializer(path: str) -> NoReturn:
    """Count the call, then leave."""
    _count(path)
    raise SystemExit(3)


def _count(path: str) -> int:
    """Count a call: its place among all calls of all processes."""
    with Path(path).open("ab", buffering=0) as file:
        file.write(b".")
        return file.tell()


INITIALIZERS = {
    "raises": (raise_in_initializer, "no licence found"),
    "is killed": (die_in_initializer, "SIGKILL"),
    "exits": (exit_in_initializer, "3"),
}


@row("initializer", source="supervisor", cases=list(INITIALIZERS))
def initializer_fails(subject: Subject, how: str) -> None:
    function, reason = INITIALIZERS[how]
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "calls"))
        error = subject.error(_InNewPool(subject, function, path))
        calls = Path(path).stat().st_size
    check(calls <= FEW, f"{calls} workers were started in vain")
    if subject.is_garrison:
        check(type(error) is subject.module.PoolBroken, f"{type(error).__name__}: {error}")
        check(reason in str(error), f"the reason {reason!r} is not named: {error}")


class _InNewPool:
    """The result of a task in a pool with this initializer, wherever the error is raised."""

    def __init__(self, subject: Subject, initializer: Any, path: str) -> None:
        self._subject, self._initializer, self._path = subject, initializer, path

    def get(self, timeout: float) -> Any:
        """Make the pool, and get a result from it."""
        pool = self._subject.pool(2, self._initializer, (self._path,))
        with pool:
            return Submission(pool, tasks.square, 7).get(timeout)


def die_the_second_time(path: str) -> None:
    """Die in the second and third call, then be well."""
    if _count(path) in (2, 3):
        tasks.die("SIGKILL")


@row("initializer dies now and then: the pool goes on", source="supervisor", fine=["*"])
def initializer_dies_now_and_then(subject: Subject) -> None:
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "calls"))
        pool = subject.pool(2, die_the_second_time, (path,))
        subject.still_works(pool, 20)
        subject.finish(pool)


@row(
    "supervisor killed while the pool is",
    source="supervisor",
    cases=["idle", "busy"],
    only_garrison=NO_SUPERVISOR,
)
def supervisor_killed(subject: Subject, state: str) -> None:
    with subject.pool() as pool:
        subject.still_works(pool)
        running = []
        with tasks.Ear() as ear:
            if state == "busy":
                running = [
                    pool.apply_async(tasks.tell_and_sleep, (ear.address, 0.2, n)) for n in range(2)
                ]
                ear.hear(2)
            _kill_supervisor(pool)
        for number, result in enumerate(running):
            _value_or_death(subject, result, number)
        subject.still_works(pool, 20)
        subject.death(pool.apply_async(tasks.die, ("SIGKILL",)), signal=signal.SIGKILL)
        subject.still_works(pool)
        subject.finish(pool)


def _kill_supervisor(pool: Any) -> None:
    pid = pool.statistics().supervisor_pid
    os.kill(pid, signal.SIGKILL)
    check(gone(pid, PATIENCE), "survived SIGKILL")


def _value_or_death(subject: Subject, result: Any, value: int) -> None:
    try:
        same(subject.value(result), value)
    except subject.module.WorkerDied:
        return


@row(
    "supervisor killed ten times, a worker each time with it",
    source="supervisor",
    limit=40.0,
    only_garrison=NO_SUPERVISOR,
)
def supervisor_killed_again_and_again(subject: Subject) -> None:
    with subject.pool() as pool:
        for _ in range(10 if subject.method == "fork" else 4):
            worker = subject.workers(pool)[0]
            _kill_supervisor(pool)
            os.kill(worker, signal.SIGKILL)
            subject.still_works(pool)
        subject.finish(pool)


@row(
    "supervisor killed, then",
    source="supervisor",
    cases=["terminate", "close", "exit"],
    only_garrison=NO_SUPERVISOR,
)
def supervisor_killed_then_end(subject: Subject, end: str) -> None:
    pool = subject.pool()
    subject.still_works(pool)
    _kill_supervisor(pool)
    if end == "exit":
        return
    getattr(pool, end)()
    pool.join()


@row(
    "worker killed while it is being replaced or starting",
    source="supervisor",
    limit=40.0,
    fine=["-spawn", "-forkserver"],
)
def killed_while_being_replaced(subject: Subject) -> None:
    with subject.pool(maxtasksperchild=1) as pool:
        stop = threading.Event()
        thread = threading.Thread(target=_kill_new_workers, args=(subject, pool, stop))
        thread.start()
        try:
            for number in range(60 if subject.method == "fork" else 20):
                _value_or_any_death(subject, pool.apply_async(tasks.square, (number,)), number)
        finally:
            stop.set()
            thread.join()
        subject.still_works(pool)
        subject.finish(pool)


def _kill_new_workers(subject: Subject, pool: Any, stop: threading.Event) -> None:
    seen: set[int] = set()
    while not stop.wait(0.002):
        for pid in set(subject.workers(pool)) - seen:
            seen.add(pid)
            # Every third: were it all, the pool would be right to give up.
            if len(seen) % 3 == 0:
                kill(pid)


def _value_or_any_death(subject: Subject, result: Any, number: int) -> None:
    try:
        same(subject.value(result), number * number)
    except Exception as error:
        subject.check_death(error, signal=signal.SIGKILL)
