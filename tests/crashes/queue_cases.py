"""Processes that are killed at every named point of what they do with a queue.

A case prepares a queue, lets a victim do something with it that dies at a certain point, perhaps
lets a second victim inherit and die as well, and then looks: what was committed is there once and
in order, what was not is not, `qsize` is exact, and nobody has to wait for the dead.
"""

from __future__ import annotations

import contextlib
import os
import queue as standard
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from garrison import _core
from garrison.sync import JoinableQueue, Queue

PREFIXES = ("queue.", "lock.", "heap.", "result.half", "agent.")
POINTS = [point for point in _core.CRASH_POINTS if point.startswith(PREFIXES)]
WIDE = 60_000
"""Bytes of an item of which four fill a segment."""

UNCOMMITTED = {
    "queue.big_begun",
    "queue.big_written",
    "queue.put_locked",
    "queue.segments_dropped",
    "queue.segment_assigned",
    "queue.segment_linked",
    "queue.segment_reserved",
    "queue.written",
    "queue.get_locked",
    "queue.copied",
    "queue.woken",
    "heap.allocated",
    "lock.inherited",
    "lock.taken",
}
COMMITTED = {
    "queue.put_committed",
    "queue.put_left",
    "queue.put_woken",
    "queue.got_committed",
    "queue.got_left",
    "queue.got_woken",
    "queue.taken",
}


def small(number: int) -> Any:
    return number


def wide(number: int) -> Any:
    return number.to_bytes(8, "little") * (WIDE // 8)


def big(number: int) -> Any:
    return number.to_bytes(8, "little") * 10_000


def array(number: int) -> Any:
    return np.full(20_000, number)


def number_of(item: Any) -> int:
    """Which item it is; an item with something of another in it is none."""
    if isinstance(item, bytes):
        first = item[:8]
        assert item == first * (len(item) // 8), "torn"
        return int.from_bytes(first, "little")
    if isinstance(item, np.ndarray):
        assert (item == item[0]).all(), "torn"
        return int(item[0])
    return int(item)


@dataclass(frozen=True)
class Deed:
    """What a victim does: putting items of these kinds, or taking so many."""

    name: str
    kinds: tuple[Callable[[int], Any], ...] = ()
    takes: int = 0
    timeout: float = 0.0

    def do(self, queue: Any, numbers: Iterator[int]) -> None:
        wait = (self.timeout > 0, self.timeout or None)
        with contextlib.suppress(standard.Full, standard.Empty):
            if len(self.kinds) > 1:
                queue.put_many([kind(next(numbers)) for kind in self.kinds], *wait)
            elif self.kinds:
                queue.put(self.kinds[0](next(numbers)), *wait)
            elif self.takes > 1:
                queue.get_many(self.takes, *wait)
            else:
                queue.get(*wait)


PUTS = {
    deed.name: deed
    for deed in (
        Deed("put", (small,)),
        Deed("put wide", (wide,)),
        Deed("put big", (big,)),
        Deed("put array", (array,)),
        Deed("put many", (small, wide, big, wide, array, wide, wide, small)),
    )
}
GETS = {deed.name: deed for deed in (Deed("get", takes=1), Deed("get many", takes=6))}
WAITS = {
    deed.name: deed
    for deed in (
        Deed("put in vain", (small,), timeout=0.15),
        Deed("get in vain", takes=1, timeout=0.15),
    )
}
DEEDS = {**PUTS, **GETS, **WAITS}


# --- States of a queue ---------------------------------------------------------------------------


def fresh(queue: Any, numbers: Iterator[int]) -> None:
    queue.put_many([kind(next(numbers)) for kind in (small, big, array, small, wide, small, small)])


def at_edges(queue: Any, numbers: Iterator[int]) -> None:
    """Head and tail both stand at the end of a segment."""
    queue.put_many([wide(next(numbers)) for _ in range(12)])
    queue.get_many(4)


def flooded(queue: Any, numbers: Iterator[int]) -> None:
    """The head leaves a segment whose memory is not needed any more."""
    queue.put_many([wide(next(numbers)) for _ in range(40)])
    queue.get_many(24)


def cold(queue: Any, numbers: Iterator[int]) -> None:
    """The tail comes to segments whose memory was given back."""
    queue.put_many([wide(next(numbers)) for _ in range(40)])
    queue.get_many(40)
    for _ in range(16):
        queue.put(wide(next(numbers)))
        queue.get()


def full(queue: Any, numbers: Iterator[int]) -> None:
    while not queue.full():
        queue.put(next(numbers))


def empty(_queue: Any, _numbers: Iterator[int]) -> None:
    pass


STATES = {state.__name__: state for state in (fresh, at_edges, flooded, cold, full, empty)}


# --- One case ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A queue, its state, and who dies where."""

    maxsize: int
    state: str
    deaths: tuple[tuple[str, str], ...]  # (deed, point)

    def __str__(self) -> str:
        deaths = ", then ".join(f"{deed} killed at {point}" for deed, point in self.deaths)
        return f"maxsize {self.maxsize}, {self.state}: {deaths}"


class Run:
    """A case under way: the queue, and what ought to be in it."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.queue = Queue(case.maxsize)
        self.numbers = count()
        self.token = folder / f"token{os.getpid()}"
        STATES[case.state](self.queue, self.numbers)
        self.inside = self._contents()

    def _contents(self) -> list[int]:
        """What is inside now, by rights: the newest numbers."""
        newest = next(self.numbers)
        return list(range(newest - self.queue.qsize(), newest))

    def die(self, deed: Deed, point: str) -> bool:
        """Let a victim die there, and compare; False if it did not come there."""
        labels = [next(self.numbers) for _ in deed.kinds]
        pid = os.fork()
        if pid == 0:
            os.environ["GARRISON_CRASH"] = f"{point}@{self.token}"
            deed.do(self.queue, iter(labels))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        died = self.token.exists()
        self.token.unlink(missing_ok=True)
        code = os.waitstatus_to_exitcode(status)
        assert code == (-signal.SIGKILL if died else 0), f"left with {code}"
        self._compare(deed, labels, point if died else "")
        return died

    def _compare(self, deed: Deed, labels: list[int], point: str) -> None:
        size = self.queue.qsize()
        vain = deed.timeout > 0
        if deed.kinds:
            done = size > len(self.inside)
            whole = self.inside + labels
            assert size == (len(whole) if done else len(self.inside)), "torn"
            complete = done
            self.inside = whole if done else self.inside
        else:
            taken = len(self.inside) - size
            assert 0 <= taken <= deed.takes, f"{taken} taken"
            complete = taken == min(deed.takes, len(self.inside))
            done = taken > 0
            self.inside = self.inside[taken:]
        if vain:
            assert not done
        elif point in COMMITTED or not point:
            assert complete, "committed, and yet not done"
        elif point in UNCOMMITTED and deed.takes <= 1:
            assert not done, "done before it was committed"
        assert self.queue.empty() == (not self.inside)

    def go_on(self) -> None:
        """Use the queue as if nothing had happened, to the last item."""
        if not self.queue.full():
            labels = [next(self.numbers) for _ in range(3)]
            for kind, label in zip((small, wide, big), labels, strict=True):
                if not self.queue.full():
                    self.queue.put(kind(label), False)
                    self.inside.append(label)
        assert self.queue.qsize() == len(self.inside)
        found = []
        while not self.queue.empty():
            found += [number_of(item) for item in self.queue.get_many(7, False)]
        assert found == self.inside
        assert self.queue.qsize() == 0
        self.queue.put(-5, False)
        assert self.queue.get(False) == -5


def run_case(case: Case, folder: Path) -> list[str]:
    """Play one case; where its victims died."""
    run = Run(case, folder)
    reached = [point for deed, point in case.deaths if run.die(DEEDS[deed], point)]
    run.go_on()
    return reached


def run_cases(cases: list[Case], processes: int) -> tuple[set[str], int, list[str]]:
    """Play cases in several processes: points reached, deaths, and what went wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pids = [_fork(cases[nth::processes], folder / str(nth)) for nth in range(processes)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        lines = [line for nth in range(processes) for line in _lines(folder / str(nth))]
    reached = {word for kind, *words in lines if kind == "reached" for word in words}
    deaths = sum(len(words) for kind, *words in lines if kind == "reached")
    wrong = [" ".join(words) for kind, *words in lines if kind == "wrong"]
    wrong += [f"a judge left with {code}" for code in codes if code != 0]
    played = sum(1 for kind, *_ in lines)
    assert wrong or played == len(cases)
    return reached, deaths, wrong


def _lines(file: Path) -> Iterator[list[str]]:
    return (line.split() for line in file.read_text().splitlines())


def _fork(cases: list[Case], report: Path) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with report.open("w") as file:
                for case in cases:
                    file.write(_line(case, report.parent))
            code = 0
        except BaseException as error:
            sys.__stderr__.write(f"{error!r}\n")  # type: ignore[union-attr] # there is one
        finally:
            os._exit(code)
    return pid


def _line(case: Case, folder: Path) -> str:
    try:
        return f"reached {' '.join(run_case(case, folder))}\n"
    except Exception as error:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        line = where.tb_lineno if where else 0
        return f"wrong {case}: {type(error).__name__} in line {line}: {error}\n"


# --- Work that is done ---------------------------------------------------------------------------


def die_in_task_done(point: str) -> tuple[bool, int]:
    """Whether a process died there, and how much work is unfinished of two items' after it."""
    queue = JoinableQueue()
    queue.put_many([1, 2])
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder, "token")
        pid = os.fork()
        if pid == 0:
            os.environ["GARRISON_CRASH"] = f"{point}@{token}"
            queue.task_done()
            os._exit(0)
        os.waitpid(pid, 0)
        died = token.exists()
    unfinished = queue._unfinished()
    for _ in range(unfinished):
        queue.task_done()
    queue.join()
    return died, unfinished
