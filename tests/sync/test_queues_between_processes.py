"""Queues between threads and processes: each item arrives once, also after deaths."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue as standard
import signal
import socket
import threading
from typing import Any

import numpy as np
import pytest

import garrison
from garrison.sync import JoinableQueue, Lock, Queue

from .queue_tools import METHODS, ended, in_child, memory_of

BIG = 1 << 16


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


# --- Between threads and processes ---------------------------------------------------------------


def put_range(queue: Any, who: int, count: int) -> None:
    for number in range(count):
        queue.put((who, number))


def add_up(queue: Any, results: Any) -> None:
    got = []
    while (item := queue.get()) is not None:
        got.append(item)
    results.put(got)


@pytest.mark.parametrize("maxsize", [0, 1, 7])
def test_nothing_is_lost_or_doubled_between_processes(context: Any, maxsize: int) -> None:
    queue, results = Queue(maxsize), Queue()
    count = 500
    getters = [in_child(context, add_up, queue, results) for _ in range(2)]
    putters = [in_child(context, put_range, queue, who, count) for who in range(3)]
    ended(*putters)
    queue.put(None)
    queue.put(None)
    got = [results.get(), results.get()]
    ended(*getters)
    assert sorted(got[0] + got[1]) == [(who, n) for who in range(3) for n in range(count)]
    for each in got:  # what one has put, another gets in that order
        for who in range(3):
            numbers = [number for source, number in each if source == who]
            assert numbers == sorted(numbers)
    assert queue.empty()


def threads_and_processes(queue: Any, results: Any, are_put: Any) -> None:
    getters = [threading.Thread(target=add_up, args=(queue, results)) for _ in range(3)]
    putters = [threading.Thread(target=put_range, args=(queue, who, 150)) for who in (1, 2)]
    for thread in getters + putters:
        thread.start()
    for thread in putters:
        thread.join()
    are_put.put(True)
    for thread in getters:
        thread.join()


def test_threads_put_and_get_in_both_processes(context: Any) -> None:
    queue, results, are_put = Queue(5), Queue(), Queue()
    processes = [
        in_child(context, threads_and_processes, queue, results, are_put) for _ in range(2)
    ]
    assert are_put.get()
    assert are_put.get()
    queue.put_many([None] * 3)
    queue.put_many([None] * 3)
    got: list[Any] = []
    for _ in range(6):
        got += results.get()
    ended(*processes)
    assert sorted(got) == sorted([(who, n) for who in (1, 2) for n in range(150)] * 2)
    assert queue.empty()


def test_child_exits_with_items_still_in_the_queue(context: Any) -> None:
    queue = Queue()
    ended(in_child(context, put_much, queue))
    assert queue.qsize() == 200
    for number in range(100):
        assert queue.get() == (number, b"x" * 50_000)
        array = queue.get()
        assert array[0] == number
        del array
    queue.put(1)
    assert queue.get() == 1
    # It has left nothing behind that somebody still keeps for it.
    assert memory_of(queue) < 5_000_000


def put_much(queue: Any) -> None:
    for number in range(100):
        queue.put((number, b"x" * 50_000))
        queue.put(np.full(20_000, number))


def test_array_of_another_process_arrives(context: Any) -> None:
    queue, answers = Queue(), Queue()
    process = in_child(context, double_arrays, queue, answers)
    for number in range(5):
        queue.put(np.full(300_000, number))
        assert (answers.get() == 2 * number).all()
    queue.put(None)
    ended(process)


def double_arrays(queue: Any, answers: Any) -> None:
    while (array := queue.get()) is not None:
        answers.put(array * 2)


def test_items_of_a_dead_producer_are_kept() -> None:
    queue = Queue()
    process = in_child(multiprocessing.get_context("fork"), put_and_die, queue)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()
    assert queue.qsize() == 2
    assert queue.get() == "small"
    array = queue.get()
    assert (array == 3).all()
    before = memory_of(queue)
    del array
    assert memory_of(queue) < before - 1_000_000


def put_and_die(queue: Any) -> None:
    queue.put("small")
    queue.put(np.full(300_000, 3))
    os.kill(os.getpid(), signal.SIGKILL)


def test_memory_reserved_by_a_killed_producer_is_freed() -> None:
    queue, go = Queue(), Queue()
    process = in_child(multiprocessing.get_context("fork"), put_three_and_die, queue, go)
    first, second, third = (queue.get() for _ in range(3))
    go.put("die")
    process.join()
    process.close()
    del first, second
    for _ in range(4):
        queue.put(np.ones(BIG))
        assert queue.get().sum() == BIG
    assert (third == 3).all()
    assert memory_of(queue) > 8_000_000
    del third
    assert memory_of(queue) < 4_000_000
    queue.put(np.ones(BIG))
    assert queue.get().sum() == BIG


def put_three_and_die(queue: Any, go: Any) -> None:
    for number in (1, 2, 3):
        queue.put(np.full(1_000_000, number))
    go.get()
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_producer_without_items_leaves_no_memory() -> None:
    queue, go = Queue(), Queue()
    process = in_child(multiprocessing.get_context("fork"), put_three_and_die, queue, go)
    for number in (1, 2, 3):
        assert queue.get()[0] == number
    go.put("die")
    process.join()
    process.close()
    assert memory_of(queue) > 8_000_000
    for _ in range(4):
        queue.put(np.ones(BIG))
        assert queue.get().sum() == BIG
    assert memory_of(queue) < 4_000_000


def test_block_of_a_dead_receiver_is_reused() -> None:
    queue = Queue()
    context = multiprocessing.get_context("fork")
    sizes = []
    for _ in range(12):
        queue.put(np.ones(1_000_000))
        process = in_child(context, get_and_die, queue)
        process.join()
        process.close()
        sizes.append(memory_of(queue))
    assert queue.empty()
    with pytest.raises(standard.Empty):
        queue.get_nowait()
    assert sizes[-1] <= sizes[3]


def get_and_die(queue: Any) -> None:
    _kept = queue.get()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_signal_is_handled_while_waiting() -> None:
    queue = Queue()
    previous = signal.signal(signal.SIGALRM, lambda *_: queue.put("from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert queue.get() == "from the handler"
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_handler_that_raises_ends_the_wait() -> None:
    queue = Queue(1)
    queue.put(1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            queue.put(2)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert queue.get() == 1
    assert queue.empty()


# --- Work that is done ---------------------------------------------------------------------------


def test_task_done_beyond_the_puts_is_refused() -> None:
    queue = JoinableQueue()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    queue.join()
    queue.put_many([1, 2])
    queue.get_many(2)
    queue.task_done()
    assert queue._unfinished() == 1
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def work(queue: Any) -> None:
    while queue.get() is not None:
        queue.task_done()
    queue.task_done()


def test_join_waits_for_other_processes(context: Any) -> None:
    queue = JoinableQueue()
    workers = [in_child(context, work, queue) for _ in range(2)]
    for turn in range(200):
        queue.put(turn)
    queue.join()
    assert queue._unfinished() == 0
    queue.put(None)
    queue.put(None)
    queue.join()
    ended(*workers)


# --- Handles -------------------------------------------------------------------------------------


def test_a_lock_through_a_queue_whose_sender_drops_it() -> None:
    queue = Queue()
    lock = Lock()
    lock.acquire()
    queue.put(lock)
    del lock
    gc.collect()
    found = queue.get()
    assert found.locked()
    found.release()


def pass_on(queue: Any) -> None:
    inner = queue.get()
    inner.put(("inside", inner.maxsize if hasattr(inner, "maxsize") else inner._maxsize))


def test_queue_is_sent_through_a_queue(context: Any) -> None:
    outer, inner = Queue(), JoinableQueue(9)
    process = in_child(context, pass_on, outer)
    outer.put(inner)
    assert inner.get() == ("inside", 9)
    ended(process)


def test_connections_and_sockets_arrive_open() -> None:
    queue = Queue()
    here, there = multiprocessing.Pipe()
    left, right = socket.socketpair()
    queue.put((there, right))
    found, other = queue.get()
    here.send("by pipe")
    left.sendall(b"by socket")
    assert found.recv() == "by pipe"
    assert other.recv(9) == b"by socket"
    for each in (here, there, left, right, found, other):
        each.close()
    stop_sharing()


def stop_sharing() -> None:
    """The standard library hands descriptors over by a thread of its own; end it."""
    from multiprocessing import resource_sharer

    resource_sharer.stop()


def use_in_task(queue: Any, number: int) -> int:
    queue.put(number * 10)
    return number


def test_queue_is_an_argument_of_pool_tasks(context: Any) -> None:
    queue = Queue()
    method = context.get_start_method()
    with garrison.get_context(method).Pool(2) as pool:
        assert pool.starmap(use_in_task, [(queue, n) for n in range(6)], chunksize=1) == [*range(6)]
    assert sorted(queue.get_many(10)) == [n * 10 for n in range(6)]


def test_fork_does_not_share_private_state_of_a_queue() -> None:
    queue = Queue()
    queue.put(np.ones(100_000))  # this process has a region now
    process = in_child(multiprocessing.get_context("fork"), put_array, queue, 7)
    ended(process)
    queue.put(np.full(100_000, 2))
    assert [int(queue.get()[0]) for _ in range(3)] == [1, 7, 2]


def put_array(queue: Any, number: int) -> None:
    queue.put(np.full(100_000, number))
