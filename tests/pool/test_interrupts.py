"""Ctrl-C at every step of the locks that a program's thread shares with a pool's own threads."""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import garrison
from failures.interrupts import ALL_LINES, ends_a_with_block
from garrison.pool import ThreadPool, _worker
from garrison.pool._monitor import Monitor
from garrison.pool._payload_kinds import PayloadKind

from . import tasks

_SHARED = (threading.Condition, threading.Event, Monitor)


class Interrupter:
    """Raises KeyboardInterrupt at the first instruction of shared locks that was not tried yet."""

    def __init__(self, tried: set[Any]) -> None:
        self.tried, self.done = tried, False

    def __enter__(self) -> Interrupter:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        shared = isinstance(frame.f_locals.get("self"), _SHARED)
        if not shared or frame.f_code.co_name == "__init__" or _is_python_s(frame):
            return None
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        place = frame.f_code, frame.f_lasti, event
        if place not in self.tried:
            sys.settrace(None)
            self.tried.add(place)
            self.done = True
            raise KeyboardInterrupt
        return self._step


def _is_python_s(frame: FrameType | None) -> bool:
    """Whether what an interrupt does here is Python's own.

    A destructor's error is dropped, and an interrupted `Thread.start` leaves a thread that never
    begins.
    """
    while frame is not None and frame.f_code.co_name != "__del__":
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return frame is not None


def _slow(number: int) -> int:
    time.sleep(0.002)
    return number


def _endless(pool: Any) -> Iterator[int]:
    results = pool.imap(_slow, itertools.count())
    yield from itertools.islice(results, 4)


def _read_some(pool: Any) -> None:
    assert list(_endless(pool)) == [0, 1, 2, 3]
    assert list(_endless(pool)) == [0, 1, 2, 3]


def _read_behind_a_thread(pool: Any) -> None:
    source = (_slow(number) for number in range(6))
    assert list(pool.options(buffersize=2).imap(_slow, source)) == list(range(6))


def _call_back(pool: Any) -> None:
    called: list[int] = []
    results = [pool.apply_async(_slow, (n,), callback=called.append) for n in range(3)]
    assert [result.get() for result in results] == called == [0, 1, 2]


@pytest.mark.watchdog(120)  # each makes some hundred pools
@pytest.mark.parametrize("use", [_read_some, _read_behind_a_thread, _call_back])
@pytest.mark.parametrize("kind", [garrison.get_context("fork").Pool, ThreadPool])
def test_no_interrupt_leaves_a_lock_behind(
    kind: Callable[[int], Any], use: Callable[[Any], None]
) -> None:
    tried: set[Any] = set()
    interrupted = True
    while interrupted:
        pool = kind(1)
        interrupter = Interrupter(tried)
        try:
            with interrupter:
                use(pool)
        except KeyboardInterrupt:
            pass
        finally:
            # Each waits for the pool's own threads.
            pool.terminate()
            pool.join()
        interrupted = interrupter.done
    assert len(tried) > 5


# --- The results of an iterator ---------------------------------------------------------------


class AtLine:
    """Raises KeyboardInterrupt at one line of the modules of iterators, counted from 1."""

    def __init__(self, number: int) -> None:
        self.number, self.seen, self.function = number, 0, ""

    def __enter__(self) -> AtLine:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        name = Path(frame.f_code.co_filename)
        if name.parent.name != "pool" or not name.name.startswith("_imap"):
            return None
        return None if frame.f_code.co_name == "__del__" else self._line

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and not ends_a_with_block(frame):
            self.seen += 1
            if self.seen == self.number:
                sys.settrace(None)
                self.function = frame.f_code.co_name
                raise KeyboardInterrupt
        return self._line


ON_ITS_WAY = {"__next__", "next", "_hand_out", "_note_handed_out"}
"""Functions that return the result to the caller, who may not get it, as with any function."""


@pytest.mark.parametrize("chunksize", [1, 5])
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_an_interrupt_ends_an_iterator_or_comes_before_it_or_after_it(
    name: str, chunksize: int
) -> None:
    step = 1 if os.environ.get(ALL_LINES) else 3
    with garrison.Pool(2) as pool:
        number, over, ended = 1, False, 0
        while not over:
            results = getattr(pool, name)(tasks.square, list(range(40)), chunksize)
            found: list[int] = []
            is_cancelled = False
            with AtLine(number) as tracer:
                while True:
                    try:
                        found.append(next(results))
                    except StopIteration:
                        break
                    except KeyboardInterrupt:
                        continue
                    except garrison.TaskCancelled:
                        is_cancelled = True
            missing = {n * n for n in range(40)} - set(found)
            assert is_cancelled or len(missing) <= (tracer.function in ON_ITS_WAY), tracer.function
            ended += is_cancelled
            over = not tracer.function
            assert len(set(found)) == len(found), tracer.function
            number += step
        assert number > 500
        assert ended > 100
        assert pool.map(abs, [-1, -2]) == [1, 2]


class _InterruptedWorker:
    """A worker that Ctrl-C, or a cancel, strikes while it hands in its only task."""

    taken = retired = 0

    def take(self, *_: object) -> Any:
        self.taken += 1
        return 1, PayloadKind.ARGS, pickle.dumps((-1,)), None

    def publish(self, *_: object) -> None:
        raise KeyboardInterrupt

    def retire(self) -> None:
        self.retired += 1


def test_an_interrupt_after_a_workers_last_task_gives_it_no_other() -> None:
    worker: Any = _InterruptedWorker()
    functions = _worker._Functions(None)
    functions.keep(1, abs)
    with pytest.raises(KeyboardInterrupt):
        _worker._serve_on(worker, functions, 1)
    _worker._serve_on(worker, functions, 1)
    assert (worker.taken, worker.retired) == (1, 1)
