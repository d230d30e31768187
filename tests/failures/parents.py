"""The parent is killed: within a second no process of its pool is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import count

from . import tasks
from .registry import row
from .subject import PATIENCE, Subject, check, same
from .system import gone, helpers
from .victims import Victim, nothing_left

AT_ONCE = 1.0


@row(
    "parent killed while its pool is",
    source="#29",
    alone=True,
    cases=["idle", "in tasks", "busy"],
    fine=["[ib][du]*-fork", "[ib][du]*-spawn"],
)
def parent_killed(subject: Subject, state: str) -> None:
    with Victim(subject, hold_a_pool, state) as victim:
        victim.ready()
        victim.kill()
        nothing_left(AT_ONCE)


def hold_a_pool(subject: Subject, state: str) -> None:
    """Keep a pool, idle, in long tasks, or in many short ones, until killed."""
    pool = subject.pool()
    subject.still_works(pool)
    if state == "in tasks":
        with tasks.Ear() as ear:
            for _ in range(2):
                pool.apply_async(tasks.tell_and_sleep, (ear.address,))
            ear.hear(2)
    Victim.say_ready()
    if state == "busy":
        for number in pool.imap_unordered(tasks.square, count()):
            tasks.square(number)
    Victim.wait_for_the_end()


@row(
    "parent killed while it makes a pool",
    source="#29",
    alone=True,
    limit=40.0,
    fine=["-fork", "-spawn"],
)
def parent_killed_making_a_pool(subject: Subject) -> None:
    moments = random.Random(6)
    for _ in range(12 if subject.method == "fork" else 6):
        with Victim(subject, make_pools) as victim:
            victim.ready()
            time.sleep(moments.random() * 0.1)  # the moment itself is what is tried here
            victim.kill()
            nothing_left(AT_ONCE)


def make_pools(subject: Subject) -> None:
    """Make and end pools until killed."""
    Victim.say_ready()
    while True:
        with subject.pool() as pool:
            pool.apply(tasks.square, (1,))


@row(
    "parent killed while a task's own process (sleep 1000) runs",
    source="#29",
    alone=True,
)
def parent_killed_with_grandchildren(subject: Subject) -> None:
    with Victim(subject, hold_grandchildren) as victim:
        grandchildren = victim.ready()
        same(len(grandchildren), 2)
        victim.kill()
        nothing_left(AT_ONCE)


def hold_grandchildren(subject: Subject) -> None:
    """Wait for tasks which have started processes of their own, until killed."""
    pool = subject.pool()
    with tasks.Ear() as ear:
        for _ in range(2):
            pool.apply_async(start_a_sleeper, (ear.address,))
        Victim.say_ready(ear.hear(2))
    Victim.wait_for_the_end()


def start_a_sleeper(address: bytes) -> None:
    """Run ``sleep 1000`` and wait for it."""
    with subprocess.Popen(["sleep", "1000"]):
        tasks.tell(address)


@row(
    "worker killed while its task's own process runs: the process goes, too",
    source="#29",
    alone=True,
)
def worker_killed_with_grandchild(subject: Subject) -> None:
    with subject.pool() as pool:
        result = pool.apply_async(start_a_sleeper_and_die)
        subject.death(result)
        subject.still_works(pool)
        subject.finish(pool)
    nothing_left(AT_ONCE, besides=helpers())


def start_a_sleeper_and_die() -> None:
    """Run ``sleep 1000`` and do not wait for it."""
    subprocess.Popen(["sleep", "1000"])
    tasks.die("SIGKILL")


@row("parent killed, and a process that it had forked lives on", source="#34", alone=True)
def parent_killed_with_forked_child(subject: Subject) -> None:
    with Victim(subject, hold_a_pool_and_a_child) as victim:
        sleeper = victim.ready()
        # The forked process keeps the standard library's resource tracker, as any copy does.
        kept = [*sleeper, *helpers(victim.process.pid)]
        victim.kill()
        try:
            nothing_left(AT_ONCE, besides=kept)
        finally:
            os.kill(sleeper[0], signal.SIGKILL)
            check(gone(sleeper[0], PATIENCE), "the forked process survived SIGKILL")


def hold_a_pool_and_a_child(subject: Subject) -> None:
    """Keep a pool and a forked process, until killed."""
    pool = subject.pool()
    subject.still_works(pool)
    sleeper = os.fork()
    if sleeper:
        Victim.say_ready([sleeper])
    Victim.wait_for_the_end()
    sys.exit(len(subject.workers(pool)))


@row("pools three deep, the middle one's worker killed", source="#48", limit=20.0)
def nested_pools(subject: Subject) -> None:
    with tasks.Ear() as ear, subject.pool() as pool:
        arguments = (subject.name, subject.method, 3, ear.address)
        doomed = pool.apply_async(descend, arguments)
        other = pool.apply_async(tasks.square, (7,))
        outer, middle = _chain(ear)
        os.kill(middle, signal.SIGKILL)
        kind = subject.error(doomed)
        if subject.is_garrison:
            subject.check_death(kind, signal=signal.SIGKILL)
        same(subject.value(other), 49)
        check(outer in subject.workers(pool), "the outer worker is gone, too")
        subject.still_works(pool)
        subject.finish(pool)


def _chain(ear: tasks.Ear) -> tuple[int, int]:
    outer, middle, _ = ear.hear(3)
    return outer, middle


def descend(name: str, method: str, depth: int, address: bytes) -> int:
    """Say so, make a pool, and run this in it, until the depth is reached; then sleep."""
    tasks.tell(address)
    if depth == 1:
        time.sleep(tasks.FOREVER)
    with Subject.prepare(name, method).pool(1) as pool:
        deeper: int = pool.apply(descend, (name, method, depth - 1, address))
        return deeper
