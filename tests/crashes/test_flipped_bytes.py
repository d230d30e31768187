"""Every byte of the control words of a lock, a queue and a pool, flipped one at a time.

Each trial is a process of its own that damages an object of its own, and uses it. It may see any
`Exception`, or nothing at all. What fails is a signal, a wait without an end, a panic of the core,
a wrong value, and an object beside it that does not work any more.

The ranges are those that the core reads as lengths, places, numbers and states. Payloads are not in
them (a pickle that is damaged raises what pickle raises). Semaphores, conditions, events, barriers
and the registry of owners are in `test_flipped_sync.py`.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from damage import CELL_SIZE, PAGE, SLOT_SIZE, PoolWords, QueueWords
from flipping import PATIENCE_S, assert_same, check, flip, run_trials, suppressed
from garrison import get_context
from garrison._core import SharedBlock
from garrison.pool import ThreadPool
from garrison.sync import JoinableQueue, Lock, RLock

LOCK_SIZE = 64
FORK = get_context("fork")
LARGE = bytes(range(256)) * 400


# --- Locks ----------------------------------------------------------------------------------------


def use_lock(kind: type[Lock | RLock], *, held: bool, at: int) -> None:
    spot, other = SharedBlock(LOCK_SIZE), Lock()
    lock = kind._from_block(spot, 0)
    if held:
        lock.acquire()
    flip(memoryview(spot), at)
    with suppressed():
        if held:
            lock.release()
        for _ in range(2):
            assert_same(lock.acquire(timeout=PATIENCE_S), True)
            lock.release()
    assert other.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize("kind", [Lock, RLock])
@pytest.mark.parametrize("held", [False, True])
def test_every_byte_of_a_lock(
    kind: type[Lock | RLock], held: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = run_trials(lambda at: use_lock(kind, held=held, at=at), range(LOCK_SIZE))
    check(failed, LOCK_SIZE, capsys)


# --- Queues ---------------------------------------------------------------------------------------

ITEMS = [1, "two", 3.0, LARGE, b"five"]


def use_queue(at: int) -> None:
    queue: Any = JoinableQueue()
    other: Any = JoinableQueue()
    for item in ITEMS:
        queue.put(item)
    assert queue.get() == ITEMS[0]
    QueueWords(queue).flip(at)
    with suppressed():
        queue.put("six", timeout=PATIENCE_S)
        for item in [*ITEMS[1:], "six"]:
            assert_same(queue.get(timeout=PATIENCE_S), item)
            queue.task_done()
        queue.put("seven", timeout=PATIENCE_S)
        assert_same(queue.get(timeout=PATIENCE_S), "seven")
    other.put(1)
    assert other.get(timeout=PATIENCE_S) == 1


QUEUE_WORDS = range(QueueWords.SHARED, QueueWords.SHARED + 1024)
SEGMENT_WORDS = range(PAGE, PAGE + 3 * 16)
ITEM_HEADS = range((8 << 20), (8 << 20) + 5 * 16)


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("words", [QUEUE_WORDS, SEGMENT_WORDS], ids=["shared", "segments"])
def test_every_byte_of_a_queue(words: range, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_trials(use_queue, words), len(words), capsys)


# --- Pools ----------------------------------------------------------------------------------------


def take(task: Any, expected: object) -> None:
    with suppressed():
        assert_same(task.get(timeout=PATIENCE_S), expected)


def use_pool(area: str, at: int) -> None:
    reading, writing = os.pipe()
    # A second pool for each trial would take as long as all the rest.
    with FORK.Pool(1) if at % 16 == 0 else ThreadPool(1) as other:
        with suppressed(), FORK.Pool(1) as pool:
            done = pool.apply_async(len, (b"done",))
            done.wait()
            busy = pool.apply_async(os.read, (reading, 1))
            ready = pool.apply_async(len, (LARGE,))
            words = PoolWords(pool)
            words.flip(at + {"header": 0, "slots": PAGE, "cells": words.cells_at}[area])
            os.write(writing, b"x")
            take(busy, b"x")
            take(ready, len(LARGE))
            take(done, 4)
            take(pool.apply_async(len, (b"later",)), 5)
            take(pool.map_async(abs, [-1, -2, -3], chunksize=3), [1, 2, 3])
        assert other.apply_async(abs, (-1,)).get(timeout=PATIENCE_S) == 1


def control_of_cell(number: int) -> list[int]:
    """All but the arguments and the result."""
    first = number * CELL_SIZE
    return [*range(first, first + 112), *range(first + 352, first + CELL_SIZE)]


HEADER = [*range(56), *range(128, 140), *range(256, 264), *range(384, 392), *range(512, 520)]
HEADER += range(640, 648)
SLOTS = [*range(SLOT_SIZE), *range(SLOT_SIZE, SLOT_SIZE + 60)]
CELLS = [*control_of_cell(0), *control_of_cell(2)]


@pytest.mark.watchdog(240)
@pytest.mark.parametrize(
    ("area", "offsets"),
    [("header", HEADER), ("slots", SLOTS), ("cells", CELLS)],
    ids=["header", "slots", "cells"],
)
def test_every_byte_of_the_table_of_a_pool(
    area: str, offsets: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = run_trials(lambda at: use_pool(area, at), offsets)
    check(failed, len(offsets), capsys)
