"""The end of a program with a live pool, and what many pools leave behind."""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
from itertools import count

from waiting import becomes_true

from . import tasks
from .registry import row
from .subject import PATIENCE, Subject, check, same
from .system import descriptors, mappings, meminfo_kib
from .victims import Victim, nothing_left

CYCLES = {"fork": 50, "spawn": 8, "forkserver": 8}
NOISE_KIB = 64 << 10


@row(
    "the program ends without close(), the pool being",
    source="#25",
    cases=["idle", "busy", "full of results"],
    fine=["*"],
)
def pool_alive_at_exit(subject: Subject, state: str) -> None:
    with Victim(subject, leave_a_pool_alone, state) as victim:
        victim.ready()
        same(victim.ended(), 0)
        nothing_left(1.0)


def leave_a_pool_alone(subject: Subject, state: str) -> None:
    """Come to the end of the program with a pool at work."""
    global _kept  # noqa: PLW0603
    _kept = pool = subject.pool()
    subject.still_works(pool)
    with tasks.Ear() as ear:
        if state == "busy":
            pool.apply_async(tasks.tell_and_sleep, (ear.address,))
            ear.hear()
        if state == "full of results":
            pool.map_async(tasks.block_of, [1 << 20] * 20)
            pool.imap(tasks.square, range(10_000))
    Victim.say_ready()


_kept: object = None


@row(
    "pools made and ended, again and again: descriptors, threads, mappings",
    source="#32",
    limit=60.0,
    fine=["*"],
)
def many_pools(subject: Subject) -> None:
    _make_and_end(subject)
    before = _held()
    for _ in range(CYCLES[subject.method]):
        _make_and_end(subject)
    becomes_true(lambda: _held() == before, PATIENCE)
    same(_held(), before)


def _make_and_end(subject: Subject) -> None:
    with subject.pool() as pool:
        same(pool.map(tasks.square, range(4)), [0, 1, 4, 9])
    pool.join()


def _held() -> dict[str, int]:
    gc.collect()
    threads = threading.active_count()
    return {"descriptors": descriptors(), "threads": threads, "mappings": mappings()}


@row(
    "at most 64 descriptors (ulimit -n 64): eight workers, ten pools",
    source="#32",
    limit=20.0,
    fine=["*"],
)
def few_descriptors(subject: Subject) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    for _ in range(10 if subject.method == "fork" else 3):
        with subject.pool(8) as pool:
            same(pool.map(tasks.square, range(50)), [n * n for n in range(50)])
            subject.finish(pool)


@row(
    "the whole tree killed (SIGKILL) with large results under way: shared memory",
    source="#36",
    limit=60.0,
    fine=["-fork"],
)
def tree_killed(subject: Subject) -> None:
    before = meminfo_kib("Shmem")
    for _ in range(3):
        with Victim(subject, stream_large_results) as victim:
            victim.ready()
            os.killpg(victim.process.pid, signal.SIGKILL)
            nothing_left(1.0)
    becomes_true(lambda: meminfo_kib("Shmem") < before + NOISE_KIB, PATIENCE)
    check(meminfo_kib("Shmem") < before + NOISE_KIB, "shared memory is left")


def stream_large_results(subject: Subject) -> None:
    """Move 32 MB blocks in both directions until killed."""
    block = bytes(32 << 20)
    with subject.pool() as pool:
        for number in count():
            results = [pool.apply_async(tasks.block_of, (len(block),)) for _ in range(2)]
            pool.apply(len, (block,))
            same([len(result.get()) for result in results], [len(block)] * 2)
            if number == 2:
                Victim.say_ready()
