"""Bytes of what lies in a pool's rings, at the head of its blocks and of a queue's items, flipped.

As in `test_flipped_bytes.py`: an error or no harm, and never a wrong value.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import pytest

from damage import CAPACITY, CELL_SIZE, PAGE, PoolWords
from flipping import PATIENCE_S, assert_same, check, run_trials, suppressed
from garrison import get_context
from garrison.sync import JoinableQueue

FORK = get_context("fork")
SMALL_BLOCK, LARGE_BLOCK = bytes(range(256)) * 400, bytes(range(256)) * 4000
HEAD_SIZE = 64
ITEMS = [1, "two", 3.0, SMALL_BLOCK, b"five" * 20]


def flip_in_file(fd: int, at: int) -> None:
    start = at // PAGE * PAGE
    with mmap.mmap(fd, PAGE, offset=start) as page:
        page[at - start] ^= 0xFF


def take(task: Any, expected: object) -> None:
    with suppressed():
        assert_same(task.get(timeout=PATIENCE_S), expected)


def use_ring(at: int) -> None:
    reading, writing = os.pipe()
    with suppressed(), FORK.Pool(1) as pool:
        take(pool.apply_async(len, (b"first",)), 5)
        busy = pool.apply_async(os.read, (reading, 1))
        ready = [pool.apply_async(len, (bytes(number),)) for number in range(3)]
        words = PoolWords(pool)
        words.flip(words.rings_at + at)
        os.write(writing, b"x")
        take(busy, b"x")
        for number, task in enumerate(ready):
            take(task, number)
        take(pool.apply_async(len, (b"later",)), 5)


RING_ENTRIES = range(6 * 4)


@pytest.mark.watchdog(120)
def test_every_byte_of_the_entries_of_a_ring(capsys: pytest.CaptureFixture[str]) -> None:
    check(run_trials(use_ring, RING_ENTRIES), len(RING_ENTRIES), capsys)


def use_block(payload: bytes, at: int, *, of_result: bool) -> None:
    """Flip a byte of the head of a result's block, or of waiting arguments'."""
    reading, writing = os.pipe()
    with suppressed(), FORK.Pool(1) as pool:
        done = pool.apply_async(bytes, (payload,))
        done.wait()
        busy = pool.apply_async(os.read, (reading, 1))
        ready = pool.apply_async(bytes, (payload,))
        flip_in_file(pool._backend.table.fd, head_of(pool, of_result=of_result) + at)
        os.write(writing, b"x")
        take(busy, b"x")
        take(ready, payload)
        take(done, payload)
        take(pool.apply_async(len, (payload,)), len(payload))
        take(pool.apply_async(bytes, (payload,)), payload)


def head_of(pool: Any, *, of_result: bool) -> int:
    """Where the block of cell 0's result, or of cell 2's arguments, lies in the pool's file."""
    words, region = PoolWords(pool), 0
    place = words.read(words.cell(0, "result_at") if of_result else words.cell(2, "args_at"))
    if of_result:
        region = words.read(words.cell(0, "result_at") + 8, "I")
    assert place
    end = -(-(words.cells_at + CAPACITY * CELL_SIZE) // PAGE) * PAGE
    return int(end + region * pool._backend.table.region_len + place - 1)


@pytest.mark.watchdog(120)
@pytest.mark.parametrize(
    ("payload", "of_result"),
    [(SMALL_BLOCK, False), (LARGE_BLOCK, True)],
    ids=["small, of arguments", "large, of a result"],
)
def test_every_byte_of_the_head_of_a_block(
    payload: bytes, of_result: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = run_trials(lambda at: use_block(payload, at, of_result=of_result), range(HEAD_SIZE))
    check(failed, HEAD_SIZE, capsys)


def use_item(at: int) -> None:
    queue: Any = JoinableQueue()
    other: Any = JoinableQueue()
    for item in ITEMS:
        queue.put(item)
    flip_in_file(queue._spot.chunk[2], ITEMS_AT + at)
    for item in ITEMS:
        with suppressed():
            assert_same(queue.get(timeout=PATIENCE_S), item)
    with suppressed():
        queue.put("six", timeout=PATIENCE_S)
    other.put(1)
    assert other.get(timeout=PATIENCE_S) == 1


ITEMS_AT = 8 << 20
HEADS = [*range(8), *range(16, 24), *range(32, 40), *range(48, 56 + 32), *range(96, 104)]


@pytest.mark.watchdog(120)
def test_every_byte_of_the_heads_of_a_queues_items(capsys: pytest.CaptureFixture[str]) -> None:
    check(run_trials(use_item, HEADS), len(HEADS), capsys)
