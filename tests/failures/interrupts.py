"""Ctrl-C: at random moments from outside, and at every line of every public call."""

from __future__ import annotations

import dis
import functools
import gc
import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from waiting import becomes_true

from . import tasks
from .registry import row
from .subject import PATIENCE, Subject, check
from .system import descendants_of, describe, helpers
from .victims import Victim, nothing_left

LINES = {"fork": 30, "spawn": 6, "forkserver": 6}
"""How many of them in the suite; all of them if the environment says so."""
ALL_LINES = "GARRISON_TEST_ALL_LINES"


@row(
    "Ctrl-C at a random moment",
    source="#20",
    cases=["program", "group"],
    limit=60.0,
    fine=["*-spawn", "*-forkserver"],
)
def ctrl_c_at_random(subject: Subject, target: str) -> None:
    moments = random.Random(5)
    for _ in range(6 if subject.method == "fork" else 3):
        with Victim(subject, call_everything) as victim:
            victim.ready()
            time.sleep(moments.random() * 0.2)  # the moment itself is what is tried here
            if target == "group":
                victim.interrupt_group()
            else:
                victim.process.send_signal(signal.SIGINT)
            victim.ended_by_interrupt()
            nothing_left(1.0)


def call_everything(subject: Subject) -> None:
    """Go through the public calls, again and again, until interrupted."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = _press_again
    for number in itertools.count():
        if number == 1:
            Victim.say_ready()
        with subject.pool() as pool:
            pool.map(tasks.square, range(100))
            list(pool.imap(tasks.square, range(20)))
            list(pool.imap_unordered(tasks.square, range(20)))
            pool.apply(tasks.block_of, (1 << 20,))
            pool.apply_async(tasks.sleep_and_return, (0.005,)).get()
            subject.finish(pool)


def _press_again(dropped: Any) -> None:
    """Python drops a Ctrl-C that comes in a destructor; whoever sees that presses it again."""
    if dropped.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(dropped)


def _create(subject: Subject, pool: Pool | None) -> object:
    return subject.pool()


def _terminate_and_join(subject: Subject, pool: Any) -> object:
    pool.terminate()
    return pool.join()


CALLS: dict[str, Callable[[Subject, Any], object]] = {
    "Pool()": _create,
    "apply": lambda subject, pool: pool.apply(tasks.square, (7,)),
    "map": lambda subject, pool: pool.map(tasks.square, range(10)),
    "imap": lambda subject, pool: list(pool.imap(tasks.square, range(3))),
    "imap_unordered": lambda subject, pool: list(pool.imap_unordered(tasks.square, range(3))),
    "close, join": lambda subject, pool: subject.finish(pool),
    "terminate, join": _terminate_and_join,
}


@row(
    "KeyboardInterrupt at lines throughout",
    source="#20",
    cases=list(CALLS),
    limit=60.0,
    fine=["apply-*", "map-*", "close*-spawn"],
)
def interrupt_at_lines(subject: Subject, call: str) -> None:
    lines = _count_lines(subject, call)
    check(lines > 0, "no line was seen")
    step = 1 if os.environ.get(ALL_LINES) else max(1, lines // LINES[subject.method])
    for line in range(1, lines + 1, step):
        _interrupt(subject, call, line)


def _count_lines(subject: Subject, call: str) -> int:
    pool = None if call == "Pool()" else subject.pool()
    with Tracer(subject, None) as tracer:
        made = CALLS[call](subject, pool)
    for one in (pool, made):
        if isinstance(one, subject.module.pool.Pool):
            one.terminate()
            one.join()
    return tracer.lines


def _interrupt(subject: Subject, call: str, line: int) -> None:
    before = set(descendants_of(os.getpid()))
    tracer = Tracer(subject, line)
    pool = None if call == "Pool()" else subject.pool()
    try:
        with tracer:
            made: Any = CALLS[call](subject, pool)
    except KeyboardInterrupt:
        made = None
    for one in (pool, made):
        if isinstance(one, subject.module.pool.Pool):
            one.terminate()
            one.join()
    pool = made = one = None
    gc.collect()
    becomes_true(lambda: not _new_children(before), PATIENCE)
    left = [describe(pid) for pid in _new_children(before)]
    check(not left, f"interrupted at {tracer.where}: {left}")


def _new_children(before: set[int]) -> set[int]:
    multiprocessing.active_children()  # reaps those that have ended
    return set(descendants_of(os.getpid())) - before - set(helpers())


class Tracer:
    """Counts the lines run in the module under test; interrupts at one of them."""

    def __init__(self, subject: Subject, at: int | None) -> None:
        folder = f"{Path(subject.module.__file__).parent}{os.sep}"
        self.lines, self.where = 0, ""
        self._folder, self._at, self._pid = folder, at, os.getpid()
        self._thread = threading.get_ident()

    def __enter__(self) -> Tracer:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        if os.getpid() != self._pid:
            sys.settrace(None)
            return None
        return self._line if frame.f_code.co_filename.startswith(self._folder) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event != "line" or os.getpid() != self._pid or ends_a_with_block(frame):
            return self._line
        self.lines += 1
        if self.lines == self._at:
            sys.settrace(None)
            self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            raise KeyboardInterrupt
        return self._line


_THIRD_NONE = "LOAD_CONST" if sys.version_info >= (3, 11) else "DUP_TOP"
_ASIDE = {"POP_BLOCK", "ROT_TWO", "SWAP"}
"""They come first where a value is returned, which is put aside."""


def ends_a_with_block(frame: FrameType) -> bool:
    """Whether the next instructions call an ``__exit__``.

    They have a line of their own, the one of ``with``. Python raises no interrupt between the last
    instruction of the block and this call, as a tracer could: a lock would stay locked.
    """
    return frame.f_lasti in _ends_of_with_blocks(frame.f_code)


@functools.cache
def _ends_of_with_blocks(code: CodeType) -> frozenset[int]:
    """Return the offsets of the instructions that lead to the call of an ``__exit__``."""
    steps = list(dis.get_instructions(code))
    ends: set[int] = set()
    for at, step in enumerate(steps[:-2]):
        # In CPython 3.10 the second and the third None are copies of the first.
        is_none = step.opname == "LOAD_CONST" and step.argval is None
        if is_none and steps[at + 2].opname == _THIRD_NONE:
            before = itertools.takewhile(lambda each: each.opname in _ASIDE, reversed(steps[:at]))
            ends.update(each.offset for each in (step, *before))
    return frozenset(ends)
