"""What callers do: signal handlers, other threads, exit handlers, forks, use after the end."""

from __future__ import annotations

import atexit
import io
import logging
import multiprocessing
import multiprocessing.util
import os
import random
import signal
import threading
from collections.abc import Callable
from multiprocessing.pool import Pool
from typing import Any

from . import tasks
from .payloads import Submission
from .registry import row
from .subject import PATIENCE, Hangs, Subject, check, same
from .system import helpers
from .victims import Victim, nothing_left

LOCK = threading.Lock()


@row(
    "called in a signal handler while the main thread waits in get()",
    source="#21",
    cases=["close", "terminate"],
    fine=["close-*"],
)
def called_in_a_signal_handler(subject: Subject, method: str) -> None:
    called: list[int] = []
    with subject.pool() as pool:

        def handler(number: int, frame: object) -> None:
            called.append(number)
            getattr(pool, method)()

        signal.signal(signal.SIGUSR1, handler)
        seconds = tasks.FOREVER if method == "terminate" else 0.05
        arguments = (os.getpid(), signal.SIGUSR1, seconds, 49)
        result = pool.apply_async(tasks.signal_and_return, arguments)
        if method == "close":
            same(subject.value(result), 49)
        else:
            _is_terminated(subject, result)
        same(called, [signal.SIGUSR1])
        pool.join()


def _is_terminated(subject: Subject, result: Any) -> None:
    kinds = (subject.module.PoolTerminated,) if subject.is_garrison else ()
    subject.error(result, *kinds)


@row("terminate() with 10,000 tasks pending", source="#23", fine=["*"])
def terminate_with_tasks_pending(subject: Subject) -> None:
    pool = subject.pool(1)
    for _ in range(10_000):
        pool.apply_async(tasks.sleep_and_return, (tasks.FOREVER,))
    pool.terminate()
    pool.join()


@row("get() of a pending result after terminate()", source="#23")
def get_after_terminate(subject: Subject) -> None:
    pool = subject.pool(1)
    results = [pool.apply_async(tasks.sleep_and_return, (tasks.FOREVER,)) for _ in range(3)]
    pool.terminate()
    pool.join()
    for result in results:
        _is_terminated(subject, result)


LOADS: list[Callable[[Pool], object]] = [
    lambda pool: pool.map(tasks.square, range(2000), chunksize=1),
    lambda pool: list(pool.imap(tasks.square, range(500))),
    lambda pool: [pool.apply(tasks.square, (n,)) for n in range(200)],
    lambda pool: pool.map(tasks.double_first, [b"\1" * 300_000] * 20),
    lambda pool: pool.map(tasks.block_of, [300_000] * 20),
]


@row("terminate() in another thread at any time", source="#23", limit=30.0)
def terminate_at_any_time(subject: Subject) -> None:
    moments = random.Random(3)
    for number in range(14 if subject.method == "fork" else 5):
        pool = subject.pool()
        thread = threading.Timer(moments.random() * 0.03, pool.terminate)
        thread.start()
        _until_terminated(subject, pool, LOADS[number % len(LOADS)])
        thread.join()
        pool.join()


def _until_terminated(subject: Subject, pool: Pool, load: Callable[[Pool], object]) -> None:
    """Work until the pool says that it is terminated; that, and nothing else, it must say."""
    problem: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                load(pool)
        except BaseException as error:
            problem.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        message = "a call made before terminate() has not come back"
        raise Hangs(message)
    if subject.is_garrison:
        kinds = (subject.module.PoolTerminated, subject.module.PoolClosed)
        check(isinstance(problem[0], kinds), f"{type(problem[0]).__name__}: {problem[0]}")


@row("errors on the way to a worker while the pool is shut down", source="#6", limit=30.0)
def errors_while_shutting_down(subject: Subject) -> None:
    moments = random.Random(4)
    for number in range(14 if subject.method == "fork" else 5):
        pool = subject.pool()
        end = pool.terminate if number % 2 else pool.close
        thread = threading.Timer(moments.random() * 0.02, end)
        thread.start()
        while thread.is_alive():
            subject.error(Submission(pool, tasks.square, LOCK))
        thread.join()
        pool.join()


@row("submit after", source="#26", cases=["close", "terminate"], fine=["*"])
def submit_after_the_end(subject: Subject, method: str) -> None:
    pool = subject.pool()
    getattr(pool, method)()
    kinds = (subject.module.PoolClosed,) if subject.is_garrison else (ValueError,)
    calls: list[Callable[[], object]] = [
        lambda: pool.apply_async(tasks.square, (7,)),
        lambda: pool.apply(tasks.square, (7,)),
        lambda: pool.map(tasks.square, [7]),
        lambda: pool.imap(tasks.square, [7]),
        lambda: pool.imap_unordered(tasks.square, [7]),
    ]
    for call in calls:
        try:
            call()
        except kinds as error:
            check(isinstance(error, ValueError), f"{type(error)} is not a ValueError")
        else:
            check(condition=False, otherwise=f"accepted after {method}()")
    pool.join()


@row(
    "submit in an exit handler that runs",
    source="#26",
    cases=["before the pool's own", "after the pool's own"],
    fine=["before the pool's own-*"],
)
def submit_at_exit(subject: Subject, when: str) -> None:
    with Victim(subject, register_and_exit, when) as victim:
        said = victim.line()
        check(said in ("49", "refused"), said)
        same(victim.ended(), 0)


def register_and_exit(subject: Subject, when: str) -> None:
    """Leave a pool to an exit handler which submits; say what came of it."""
    pool = subject.pool()
    subject.still_works(pool)

    def handler() -> None:
        Victim.say(_square_or_refused(pool))

    if when == "before the pool's own":
        atexit.register(handler)
    else:
        # Pools of the standard library have priority 15; what comes later ends later.
        multiprocessing.util.Finalize(None, handler, exitpriority=0)


def _square_or_refused(pool: Pool) -> str:
    try:
        return str(pool.apply_async(tasks.square, (7,)).get(PATIENCE))
    except multiprocessing.TimeoutError:
        return "accepted, and never run"
    except Exception:
        return "refused"


def take_lock() -> int:
    """Take a lock which another thread of the parent may have held at the fork."""
    with LOCK:
        return os.getpid()


@row(
    "a worker is replaced while another thread holds a lock that tasks take",
    source="#27",
    fine=["-spawn", "-forkserver"],
)
def replaced_while_a_lock_is_held(subject: Subject) -> None:
    with subject.pool(maxtasksperchild=1) as pool:
        held, release = threading.Event(), threading.Event()
        thread = threading.Thread(target=_hold, args=(held, release))
        thread.start()
        held.wait()
        try:
            results = [pool.apply_async(take_lock) for _ in range(6)]
            same(len({subject.value(result) for result in results}), 6)
        finally:
            release.set()
            thread.join()
        subject.finish(pool)


def _hold(held: threading.Event, release: threading.Event) -> None:
    with LOCK:
        held.set()
        release.wait()


@row("workers start while a thread writes to the log", source="#27", fine=["*"], limit=30.0)
def logging_while_workers_start(subject: Subject) -> None:
    logger = logging.getLogger("tests.failures")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    stop = threading.Event()
    thread = threading.Thread(target=_log, args=(logger, stop))
    thread.start()
    try:
        for _ in range(8 if subject.method == "fork" else 3):
            with subject.pool(maxtasksperchild=1) as pool:
                results = [pool.apply_async(log_and_return, (n,)) for n in range(6)]
                same([subject.value(result) for result in results], list(range(6)))
                subject.finish(pool)
    finally:
        stop.set()
        thread.join()


def _log(logger: logging.Logger, stop: threading.Event) -> None:
    while not stop.is_set():
        logger.info("busy")


def log_and_return(value: int) -> int:
    """Write to the logger that the parent's thread writes to."""
    logging.getLogger("tests.failures").info("task %d", value)
    return value


@row(
    "a process forked by the user outlives the program, whose pool was",
    source="#34",
    cases=["closed", "left alone"],
    fine=["*-fork"],
)
def forked_child_outlives(subject: Subject, end: str) -> None:
    with Victim(subject, fork_and_exit, end) as victim:
        # The forked process keeps the standard library's resource tracker, as any copy does.
        sleeper, *tracker = victim.ready()
        try:
            same(victim.ended(), 0)
            nothing_left(1.0, besides=[sleeper, *tracker])
        finally:
            os.kill(sleeper, signal.SIGKILL)


def fork_and_exit(subject: Subject, end: str) -> None:
    """Fork a process that sleeps, and come to the end of the program."""
    pool = subject.pool()
    subject.still_works(pool)
    sleeper = os.fork()
    if not sleeper:
        Victim.wait_for_the_end()
    Victim.say_ready([sleeper, *helpers()])
    if end == "closed":
        subject.finish(pool)
