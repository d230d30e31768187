"""Damage in the shared memory of a pool is an error in that pool alone."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from damage import HEADER, PoolWords, watched
from garrison import SharedMemoryCorrupt, get_context
from sync.forked import Forked

CORRUPT = "corrupt"
FORK = get_context("fork")


def outcome(get: Any, *args: Any) -> Any:
    try:
        return get(*args)
    except SharedMemoryCorrupt:
        return CORRUPT


def in_child(function: Any, *args: Any) -> str:
    """Run it where a signal or a hang ends a child, not the tests."""

    def run() -> Any:
        watched(20)
        return function(*args)

    with Forked(run) as child:
        answer = child.answer()
        assert child.join() == 0
    return answer


def take_damaged(method: str, size: int, field: str, value: int) -> Any:
    context = get_context(method)
    with context.Pool(1) as pool, context.Pool(1) as other:
        task = pool.apply_async(bytes, (size,))
        task.wait()
        words = PoolWords(pool)
        words.write(words.cell(0, field), value)
        return outcome(task.get), pool.apply(abs, (-1,)), other.apply(abs, (-2,))


@pytest.mark.parametrize("size", [50, 5000, 500_000])
@pytest.mark.parametrize("field", ["result_len", "result_at"])
@pytest.mark.parametrize("value", [145, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_wrong_length_or_place_of_a_result_is_an_error_of_that_task(
    size: int, field: str, value: int
) -> None:
    assert in_child(take_damaged, "fork", size, field, value) == repr((CORRUPT, 1, 2))


def test_a_wrong_length_of_a_result_under_each_start_method(method: str) -> None:
    assert in_child(take_damaged, method, 50, "result_len", 1 << 40) == repr((CORRUPT, 1, 2))


def run_damaged(size: int, field: str, value: int) -> Any:
    reading, writing = os.pipe()
    with FORK.Pool(1) as pool:
        busy = pool.apply_async(os.read, (reading, 1))
        damaged, sound = pool.apply_async(len, (bytes(size),)), pool.apply_async(len, (b"sound",))
        words = PoolWords(pool)
        words.write(words.cell(1, field), value)
        os.write(writing, b"x")
        return busy.get(), outcome(damaged.get), sound.get()


@pytest.mark.parametrize("size", [5, 5000])
@pytest.mark.parametrize("field", ["args_len", "args_at"])
@pytest.mark.parametrize("value", [97, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_wrong_length_or_place_of_arguments_is_an_error_of_that_task(
    size: int, field: str, value: int
) -> None:
    assert in_child(run_damaged, size, field, value) == repr((b"x", CORRUPT, 5))


def submit_with_ring(field: str, change: int) -> Any:
    with FORK.Pool(1) as pool, FORK.Pool(1) as other:
        pool.map(abs, range(10))
        words = PoolWords(pool)
        words.write(HEADER[field], (words.read(HEADER[field]) + change) % (1 << 64))
        return outcome(pool.apply, abs, (-1,)), other.apply(abs, (-2,))


@pytest.mark.parametrize("field", ["ring_head", "ring_tail"])
@pytest.mark.parametrize("change", [1 << 21, 1 << 40, 1 << 63])
def test_junk_in_a_word_of_the_ring_of_tasks_is_an_error_where_a_task_is_submitted(
    field: str, change: int
) -> None:
    assert in_child(submit_with_ring, field, change) == repr((CORRUPT, 2))


def wait_with_ring(method: str) -> Any:
    with get_context(method).Pool(1) as pool:
        pool.apply(abs, (-1,))
        os.kill(pool.statistics().worker_pids[0], signal.SIGSTOP)
        task = pool.apply_async(abs, (-1,))
        words = PoolWords(pool)
        words.write(HEADER["ring_tail"], 1 << 40)
        return outcome(task.get)


def test_a_wait_for_a_task_ends_when_the_ring_of_tasks_is_damaged(method: str) -> None:
    assert in_child(wait_with_ring, method) == repr(CORRUPT)
