"""Damage in the shared memory of a queue or lock is an error of that object alone."""

from __future__ import annotations

from typing import Any

import pytest

from damage import QueueWords
from garrison import SharedMemoryCorrupt
from garrison._core import SharedBlock
from garrison.sync import Lock, Queue
from pool.test_damage import CORRUPT, in_child, outcome

ITEM = bytes(60_000)
NEXT, END, RESERVED = 0, 4, 8
NOBODY = 0x12  # a slot of the registry, without a generation: no process ever signs so
"""A number that no process signs with: there is no such slot in the registry."""


def other_queue() -> Any:
    other: Any = Queue()
    other.put(1)
    return other.get()


def filled() -> tuple[Any, QueueWords]:
    """A queue with three segments on its circle, and its words."""
    queue: Any = Queue()
    for _ in range(12):
        queue.put(ITEM)
    return queue, QueueWords(queue)


def get_from_a_circle_without_the_tail() -> Any:
    queue, words = filled()
    words.write(words.segment(1) + NEXT, 1, "I")
    words.write(words.segment(1) + END, 0, "I")
    found = [outcome(queue.get) for _ in range(6)]
    return [each if each == CORRUPT else len(each) for each in found], other_queue()


def test_get_does_not_run_round_a_circle_that_the_tail_is_not_on() -> None:
    found = [len(ITEM)] * 4 + [CORRUPT] * 2
    assert in_child(get_from_a_circle_without_the_tail) == repr((found, 1))


def put_to_a_circle_without_the_head(next_: int) -> Any:
    queue, words = filled()
    for number in (3, 4):
        words.write(words.segment(number) + RESERVED, 0, "I")
        words.write(words.segment(number) + NEXT, 7 - number, "I")
    words.write(words.segment(2) + NEXT, next_, "I")
    put = [outcome(queue.put, ITEM) for _ in range(5)]
    return put[-1], len(queue.get()), other_queue()


@pytest.mark.parametrize("next_", [3, 1 << 20, (1 << 32) - 1])
def test_put_does_not_run_round_a_circle_that_the_head_is_not_on(next_: int) -> None:
    expected = repr((CORRUPT, len(ITEM), 1))
    assert in_child(put_to_a_circle_without_the_head, next_) == expected


def get_from(field: str, value: int) -> Any:
    queue: Any = Queue()
    for item in range(3):
        queue.put(item)
    words = QueueWords(queue)
    words.write(words.at(field), value)
    return outcome(queue.get, True, 10), other_queue()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("head", 1),
        ("head", 1 << 32),
        ("head", 2 << 32 | 7 << 16),
        ("head", (1 << 64) - 1),
        ("tail", 1),
        ("tail", 1 << 31),
        ("tail", 1 << 32),
        ("tail", (1 << 64) - 1),
    ],
)
def test_junk_in_a_word_of_an_end_is_an_error_of_get(field: str, value: int) -> None:
    assert in_child(get_from, field, value) == repr((CORRUPT, 1))


def test_an_item_that_is_read_where_none_begins_is_an_error() -> None:
    """The head goes back over items that were taken: what lies there is none any more."""
    queue: Any = Queue()
    for item in (1, 2):
        queue.put(item)
    queue.get()
    words = QueueWords(queue)
    words.write(words.at("head"), 1 << 32)
    with pytest.raises(SharedMemoryCorrupt, match="no item lies"):
        queue.get(timeout=10)


def put_into_full() -> Any:
    queue: Any = Queue(2)
    queue.put(1)
    words = QueueWords(queue)
    words.write(words.at("head"), 1 << 62)
    return outcome(queue.put, 2), other_queue()


def test_a_queue_with_more_items_than_it_may_hold_does_not_wait_for_room() -> None:
    assert in_child(put_into_full) == repr((CORRUPT, 1))


def acquire_of_nobody() -> Any:
    spot = SharedBlock(64)
    lock, other = Lock._from_block(spot, 0), Lock()
    view = memoryview(spot)
    view[0:4] = NOBODY.to_bytes(4, "little")
    return outcome(lock.acquire), outcome(lock.acquire, True, 10), other.acquire()


def test_a_lock_of_an_owner_that_cannot_be_is_an_error() -> None:
    assert in_child(acquire_of_nobody) == repr((CORRUPT, CORRUPT, True))
