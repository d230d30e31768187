"""Workers die: in a task, taking a task, giving a result, many times, while recycled."""

from __future__ import annotations

import mmap
import multiprocessing.connection
import os
import pickle
import random
import signal
import tempfile
from typing import Any

from . import tasks
from .registry import row
from .subject import PATIENCE, Subject, check, none_lost, same
from .system import all_gone, gone, kill

MEGABYTE = 1 << 20
EXPECTED: dict[str, dict[str, int]] = {
    "SIGKILL": {"signal": signal.SIGKILL},
    "SIGSEGV": {"signal": signal.SIGSEGV},
    "SIGABRT": {"signal": signal.SIGABRT},
    "os._exit(0)": {"exitcode": 0},
    "os._exit(1)": {"exitcode": 1},
}


@row("worker dies in a task", source="#2", cases=list(EXPECTED))
def death_in_task(subject: Subject, how: str) -> None:
    with subject.pool() as pool:
        subject.death(pool.apply_async(tasks.die, (how,)), **EXPECTED[how])
        subject.still_works(pool)
        subject.finish(pool)


@row("close and join after a worker died in a task", source="#2")
def join_after_death(subject: Subject) -> None:
    pool = subject.pool()
    results = [pool.apply_async(tasks.die_or_square, (n, 1)) for n in range(4)]
    subject.finish(pool)
    subject.death(results[1], signal=signal.SIGKILL)
    none_lost([subject.value(results[n]) for n in (0, 2, 3)], [0, 4, 9])


@row("one input of a map kills its worker", source="#2")
def death_in_map(subject: Subject) -> None:
    with subject.pool() as pool:
        subject.death(pool.map_async(_die_at_seven, range(20), chunksize=1))
        subject.still_works(pool)
        subject.finish(pool)


@row("one input of an imap kills its worker, the others arrive", source="#2")
def death_in_imap(subject: Subject) -> None:
    with subject.pool() as pool:
        values = pool.imap(_die_at_seven, range(20))
        same([values.next(PATIENCE) for _ in range(7)], [n * n for n in range(7)])
        subject.death(_Next(values), signal=signal.SIGKILL)
        same([values.next(PATIENCE) for _ in range(8, 20)], [n * n for n in range(8, 20)])


class _Next:
    """The next element of an iterator, with the `get` of a result."""

    def __init__(self, values: Any) -> None:
        self.get = values.next


def _die_at_seven(x: int) -> int:
    return tasks.die_or_square(x, 7)


@row("workers killed while they take tasks with large arguments", source="#1", limit=20.0)
def killed_taking_a_task(subject: Subject) -> None:
    moments = random.Random(1)
    with subject.pool() as pool:
        for _ in range(20):
            results = [pool.apply_async(len, (bytes(200_000),)) for _ in range(6)]
            kill(moments.choice(subject.workers(pool)))
            values = [_length_or_death(subject, result) for result in results]
            check(values.count(None) <= 1, f"one kill cost {values.count(None)} tasks")
        subject.still_works(pool)
        subject.finish(pool)


def _length_or_death(subject: Subject, result: Any) -> int | None:
    try:
        length: int = subject.value(result)
    except Exception as error:
        subject.check_death(error, signal=signal.SIGKILL)
        return None
    same(length, 200_000)
    return length


@row(
    "worker dies halfway through a result",
    source="#3",
    cases=["1 page", "half", "all but 1 page"],
)
def death_halfway_through_a_result(subject: Subject, part: str) -> None:
    size = 4 * MEGABYTE
    sizes = {"1 page": mmap.PAGESIZE, "half": size // 2, "all but 1 page": size - mmap.PAGESIZE}
    with subject.pool() as pool:
        results = [pool.apply_async(tasks.block_of, (MEGABYTE,)) for _ in range(2)]
        subject.death(pool.apply_async(torn_result, (size, sizes[part])))
        none_lost([len(subject.value(result)) for result in results], [MEGABYTE] * 2)
        same(len(subject.value(pool.apply_async(tasks.block_of, (MEGABYTE,)))), MEGABYTE)
        subject.finish(pool)


class TornBlock:
    """A block whose copying kills the process (SIGBUS) after `readable` bytes."""

    def __init__(self, size: int, readable: int) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
            file.truncate(readable)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Without out-of-band buffers there is nothing to copy: the pipe does the killing.
        content = pickle.PickleBuffer(self._map) if protocol >= 5 else bytes(self._map.size())
        return bytearray, (content,)


def torn_result(size: int, readable: int) -> TornBlock:
    """Return a result that cannot be sent whole, whether by memory or by a pipe."""

    def write_and_die(self: Any, buffer: bytes, write: Any = os.write) -> None:
        write(self.fileno(), memoryview(buffer)[:readable])
        tasks.die("SIGKILL")

    multiprocessing.connection.Connection._send = write_and_die  # type: ignore[attr-defined]
    return TornBlock(size, readable)


@row("workers die while large arguments are on their way to them", source="#4")
def death_before_large_arguments_are_read(subject: Subject) -> None:
    block = b"\1" * (8 * MEGABYTE)
    with subject.pool() as pool:
        subject.still_works(pool)
        stopped = subject.workers(pool)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        results = [pool.apply_async(tasks.double_first, (block,)) for _ in range(4)]
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        same(all_gone(stopped, PATIENCE), [])
        none_lost([subject.value(result) for result in results], [2] * 4)
        subject.finish(pool)


@row("a worker recycled after two tasks is replaced", source="#7", fine=["*"])
def recycled_worker_is_replaced(subject: Subject) -> None:
    with subject.pool(1, maxtasksperchild=2) as pool:
        results = [pool.apply_async(os.getpid) for _ in range(10)]
        pids = [subject.value(result) for result in results]
        check(len(set(pids)) >= 5, f"10 tasks, 2 for each worker, by {len(set(pids))} workers")
        subject.finish(pool)


@row("many deaths in a row", source="#9", limit=60.0)
def many_deaths_in_a_row(subject: Subject) -> None:
    with subject.pool() as pool:
        for _ in range(200 if subject.method == "fork" else 30):
            subject.death(pool.apply_async(tasks.die, ("SIGKILL",)), signal=signal.SIGKILL)
        subject.still_works(pool)
        subject.finish(pool)


@row("a hundred workers killed from outside, busy or idle", source="supervisor", limit=60.0)
def hundred_kills_from_outside(subject: Subject) -> None:
    moments = random.Random(2)
    with subject.pool() as pool:
        for _ in range(100 if subject.method == "fork" else 20):
            results = [pool.apply_async(tasks.sleep_and_return, (0.001, n)) for n in range(3)]
            pid = moments.choice(subject.workers(pool))
            kill(pid)
            check(gone(pid, PATIENCE), "survived SIGKILL")
            lost = [n for n in range(3) if _value_or_death(subject, results[n]) != n]
            check(len(lost) <= 1, f"one kill cost {len(lost)} tasks")
        subject.still_works(pool)
        subject.finish(pool)


def _value_or_death(subject: Subject, result: Any) -> Any:
    try:
        return subject.value(result)
    except Exception as error:
        subject.check_death(error, signal=signal.SIGKILL)
        return None


@row("a worker is stopped (SIGSTOP) in its task, then the pool is terminated", source="supervisor")
def terminate_with_a_stopped_worker(subject: Subject) -> None:
    with tasks.Ear() as ear, subject.pool() as pool:
        pool.apply_async(tasks.tell_and_sleep, (ear.address,))
        os.kill(ear.hear()[0], signal.SIGSTOP)
        subject.still_works(pool)
        pool.terminate()
        pool.join()
