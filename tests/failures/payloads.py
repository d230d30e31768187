"""Arguments, inputs and results that cannot be sent, are endless, or are very large."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from typing import Any, NoReturn

from . import tasks
from .registry import row
from .subject import PATIENCE, Missing, Subject, check, same

HUGE = 2_684_354_560
HUGE_SWITCH = "GARRISON_TEST_HUGE"


class RaisesWhenPickled:
    """An argument whose pickling fails."""

    def __reduce__(self) -> NoReturn:
        message = "not to be sent"
        raise RuntimeError(message)


UNPICKLABLE: dict[str, Callable[[], Any]] = {
    "lock": threading.RLock,
    "generator": lambda: (n for n in range(3)),
    "raising __reduce__": RaisesWhenPickled,
}


@row("argument that cannot be pickled", source="#13", cases=list(UNPICKLABLE), fine=["*"])
def unpicklable_argument(subject: Subject, kind: str) -> None:
    with subject.pool() as pool:
        for _ in range(3):
            subject.error(Submission(pool, tasks.sleep_and_return, 0.0, UNPICKLABLE[kind]()))
        subject.still_works(pool)
        subject.finish(pool)


class Submission:
    """An `apply_async` that may raise at the call as well as at its `get`."""

    def __init__(self, pool: Pool, function: Callable[..., Any], *args: Any) -> None:
        self._pool, self._function, self._args = pool, function, args

    def get(self, timeout: float) -> Any:
        """Submit, and get the result."""
        return self._pool.apply_async(self._function, self._args).get(timeout)


def raise_at(position: int, length: int) -> Iterator[int]:
    """Yield numbers, and raise at one of them."""
    for n in range(length):
        if n == position:
            raise LookupError(position)
        yield n


ITERATORS: dict[str, Callable[[Pool, Iterator[int]], list[int]]] = {
    "map": lambda pool, numbers: pool.map(tasks.square, numbers),
    "imap": lambda pool, numbers: list(pool.imap(tasks.square, numbers)),
    "imap_unordered": lambda pool, numbers: list(pool.imap_unordered(tasks.square, numbers)),
    "starmap": lambda pool, numbers: pool.starmap(tasks.square, ((n,) for n in numbers)),
}


@row("input iterator raises midway", source="#17", cases=list(ITERATORS), fine=["*"])
def input_iterator_raises(subject: Subject, method: str) -> None:
    with subject.pool() as pool:
        for position in (0, 3, 9):
            try:
                ITERATORS[method](pool, raise_at(position, 10))
            except LookupError as error:
                same(error.args, (position,))
            else:
                check(condition=False, otherwise="the error of the iterator is lost")
        subject.still_works(pool)
        subject.finish(pool)


AHEAD = 80_000


@row("imap over an endless iterator", source="#18", cases=["imap", "imap_unordered"])
def endless_iterator(subject: Subject, method: str) -> None:
    taken = itertools.count()
    with subject.pool() as pool:
        values = getattr(pool, method)(tasks.square, taken)
        first = [values.next(PATIENCE) for _ in range(100)]
        same(len(first), 100)
        # Time for a reader that does not stop to run ahead: a thousand round trips.
        for _ in range(1000):
            pool.apply(abs, (1,))
        ahead = next(taken) - 100
        check(ahead < AHEAD, f"{ahead} inputs taken ahead of the results")


@row("result above 2 GiB", source="#19", limit=120.0, fine=["*"])
def huge_result(subject: Subject) -> None:
    if not os.environ.get(HUGE_SWITCH):
        message = f"the environment variable {HUGE_SWITCH} (needs 8 GiB of memory)"
        raise Missing(message)
    with subject.pool(1) as pool:
        block = pool.apply_async(tasks.block_of, (HUGE,)).get(100.0)
        same((len(block), block[:1], block[-1:]), (HUGE, b"x", b"x"))
        subject.finish(pool)


@row("100,000 tasks submitted while no worker takes any", source="#5", fine=["*"], limit=20.0)
def many_tasks_while_workers_are_stopped(subject: Subject) -> None:
    with subject.pool() as pool:
        subject.still_works(pool)
        stopped = subject.workers(pool)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        results = [pool.apply_async(abs, (-n,)) for n in range(100_000)]
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        same([subject.value(result) for result in results], list(range(100_000)))
        subject.finish(pool)


@row("lambdas, closures and functions of __main__ as tasks and as input", source="#13")
def functions_by_value(subject: Subject) -> None:
    exec("def cube(x): return x ** 3", vars(sys.modules["__main__"]))
    offset = 10
    with subject.pool() as pool:
        same(pool.map(lambda x: x + offset, range(3)), [10, 11, 12])
        same(list(pool.imap(sys.modules["__main__"].cube, range(3))), [0, 1, 8])
        same(subject.value(pool.apply_async(_call, (lambda: offset,))), 10)


def _call(function: Callable[[], Any]) -> Any:
    return function()
