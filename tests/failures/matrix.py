"""The thirteen rows of the failure matrix, in its order."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

from . import tasks
from .registry import row
from .subject import PATIENCE, Subject, check, none_lost, same
from .system import all_gone
from .victims import Victim

LATER = 6.0


@row("worker killed (SIGKILL) in the middle of a task: that task", source="matrix")
def worker_killed_its_task(subject: Subject) -> None:
    with subject.pool() as pool:
        error: Any = subject.death(pool.apply_async(tasks.die, ("SIGKILL",)), signal=signal.SIGKILL)
        if subject.is_garrison:
            check("die" in error.task and "SIGKILL" in error.task, f"task = {error.task!r}")
            check(error.out_of_memory is False, f"out_of_memory = {error.out_of_memory!r}")


@row("... the five other tasks", source="matrix", fine=["*"])
def worker_killed_other_tasks(subject: Subject) -> None:
    with subject.pool() as pool:
        results = [pool.apply_async(tasks.die_or_square, (n, 2)) for n in range(6)]
        others = [n for n in range(6) if n != 2]
        none_lost([subject.value(results[n]) for n in others], [n * n for n in others])


@row("... the pool afterwards", source="matrix", fine=["*"])
def worker_killed_pool_afterwards(subject: Subject) -> None:
    with subject.pool() as pool:
        pool.apply_async(tasks.die, ("SIGKILL",))
        subject.still_works(pool, 20)


@row("idle workers killed (one holds the queue lock in the standard library)", source="matrix")
def idle_workers_killed(subject: Subject) -> None:
    with subject.pool() as pool:
        subject.still_works(pool)
        idle = subject.workers(pool)
        for pid in idle:
            os.kill(pid, signal.SIGKILL)
        same(all_gone(idle, PATIENCE), [])
        subject.still_works(pool, 20)
        subject.finish(pool)


class BadInit(Exception):
    """Cannot be unpickled: ``BadInit(*args)`` lacks an argument."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)
        self.two = two


@row("task raises an exception whose unpickling fails", source="matrix")
def exception_fails_to_unpickle(subject: Subject) -> None:
    with subject.pool() as pool:
        error = subject.error(pool.apply_async(tasks.raise_it, (BadInit, "one", "two")))
        if subject.is_garrison:
            check(type(error) is subject.module.ResultUnpicklable, f"{type(error)}: {error}")
            check("BadInit" in str(error), f"the type is not named: {error}")
            check("raise_it" in str(error), f"no remote traceback: {error}")
        subject.still_works(pool)
        subject.finish(pool)


@row("task calls sys.exit(3)", source="matrix")
def task_calls_sys_exit(subject: Subject) -> None:
    with subject.pool() as pool:
        subject.death(pool.apply_async(sys.exit, (3,)), exitcode=3)
        subject.still_works(pool)
        subject.finish(pool)


class Bare(BaseException):
    """An exception that ``except Exception`` does not see."""


@row("task raises a bare BaseException", source="matrix")
def task_raises_base_exception(subject: Subject) -> None:
    with subject.pool() as pool:
        error = subject.error(pool.apply_async(tasks.raise_it, (Bare, 1, "two")), Bare)
        same(error.args, (1, "two"))
        subject.still_works(pool)
        subject.finish(pool)


@row("result cannot be pickled", source="matrix", fine=["*"])
def result_not_picklable(subject: Subject) -> None:
    with subject.pool() as pool:
        result = pool.apply_async(threading.Lock)
        subject.error(result, subject.module.pool.MaybeEncodingError)
        subject.still_works(pool)
        subject.finish(pool)


@row("lambda submitted from __main__", source="matrix")
def lambda_from_main(subject: Subject) -> None:
    exec("offset = 1\nfunction = lambda x: x * x + offset", vars(sys.modules["__main__"]))
    function = sys.modules["__main__"].function
    with subject.pool() as pool:
        same(subject.value(pool.apply_async(function, (7,))), 50)


@row(
    "parent killed (SIGKILL) with 3 s tasks running: workers 6 s later",
    source="matrix",
    fine=["-fork", "-spawn"],
)
def parent_killed_with_short_tasks(subject: Subject) -> None:
    with Victim(subject, hold_with_short_tasks) as victim:
        pids = victim.ready()
        victim.kill()
        same(all_gone(pids, LATER), [])


def hold_with_short_tasks(subject: Subject) -> None:
    """Run 3 s tasks until killed."""
    pool = subject.pool()
    pool.map_async(tasks.sleep_and_return, [3.0, 3.0], chunksize=1)
    Victim.say_ready(subject.workers(pool))
    Victim.wait_for_the_end()


@row("Ctrl-C with long tasks running: the program ends", source="matrix", fine=["*"])
def ctrl_c_with_long_tasks(subject: Subject) -> None:
    with Victim(subject, hold_with_long_tasks) as victim:
        victim.ready()
        victim.interrupt_group()
        victim.ended_by_interrupt()


def hold_with_long_tasks(subject: Subject) -> None:
    """Wait for long tasks, which have begun, until interrupted."""
    with tasks.Ear() as ear, subject.pool() as pool:
        results = [pool.apply_async(tasks.tell_and_sleep, (ear.address,)) for _ in range(2)]
        Victim.say_ready(ear.hear(2))
        results[0].get()


@row("a pool inside a pool", source="matrix")
def pool_inside_a_pool(subject: Subject) -> None:
    with subject.pool() as pool:
        result = pool.apply_async(map_in_an_inner_pool, (subject.name, subject.method))
        same(subject.value(result), [0, 1, 4])
        subject.finish(pool)


def map_in_an_inner_pool(name: str, method: str) -> list[int]:
    """Make a pool and use it; to be run in a worker."""
    with Subject.prepare(name, method).pool() as pool:
        return pool.map(tasks.square, range(3))


@row("add_note() kept, and the object of __cause__", source="matrix")
def notes_and_cause_are_kept(subject: Subject) -> None:
    with subject.pool() as pool:
        error = subject.error(pool.apply_async(raise_with_note_and_cause), ValueError)
    same(error.args, ("outer",))
    if sys.version_info >= (3, 11):
        # garrison adds one of its own: which call it was.
        same(error.__notes__[:1], ["a note"])
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    found = [repr(link) for link in chain if isinstance(link, KeyError)]
    same(found, ["KeyError('inner')"])


def raise_with_note_and_cause() -> NoReturn:
    """Raise an exception with a note, caused by another."""
    error = ValueError("outer")
    if sys.version_info >= (3, 11):
        error.add_note("a note")
    raise error from KeyError("inner")
