"""What `Queue`, `JoinableQueue` and `SimpleQueue` do, in one process and between several."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import queue as standard
import signal
import socket
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

import garrison
from garrison import _os
from garrison.errors import ItemsUnreadable, ItemUnpicklable, SharedMemoryFull
from garrison.sync import JoinableQueue, Lock, Queue, SimpleQueue

from .queue_tools import METHODS, ended, in_child, memory_of

BIG = 1 << 16


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.get_context(request.param)


# --- One process ---------------------------------------------------------------------------------


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x == other.x

    __hash__ = None  # type: ignore[assignment] # it can be changed


class Text(str):
    __slots__ = ()


VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    10**30,
    1.5,
    float("inf"),
    "",
    "plain",
    "h\u00e9\U0001f600",
    "\ud800",
    b"",
    b"\0abc\0",
    bytearray(b"x"),
    "x" * (BIG - 1),
    "\u20ac" * BIG,
    b"y" * (BIG + 1),
    b"z" * 3_000_000,
    (1, "two", [3.0, {4: None}]),
    Point(7),
    Text("a subclass"),
    list(range(50_000)),
    {"set"},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_a_value_comes_out_as_it_went_in(value: object) -> None:
    queue = Queue()
    queue.put(value)
    found = queue.get()
    assert found == value
    assert type(found) is type(value)


def test_first_in_first_out() -> None:
    queue = Queue()
    for value in VALUES:
        queue.put(value)
    assert queue.qsize() == len(VALUES)
    assert [queue.get() for _ in VALUES] == VALUES
    assert queue.empty()


def test_what_is_changed_after_put_is_not_changed_in_the_queue() -> None:
    queue = Queue()
    small, array = [1], np.zeros(BIG)
    queue.put(small)
    queue.put(array)
    small.append(2)
    array[:] = 5
    assert queue.get() == [1]
    assert queue.get().sum() == 0


@pytest.mark.parametrize("writable", [True, False])
def test_big_arrays_arrive_as_views_of_their_own(writable: bool) -> None:
    queue, array = Queue(), np.arange(1_000_000)
    array.flags.writeable = writable
    queue.put(array)
    queue.put({"a": array, "b": array[::2]})
    first, second = queue.get(), queue.get()
    first[0] = 99  # as with the standard library, what arrives is one's own
    assert (second["a"] == np.arange(1_000_000)).all()
    assert (second["b"] == np.arange(0, 1_000_000, 2)).all()


def test_memory_of_big_items_is_used_again() -> None:
    queue, array = Queue(), np.zeros(500_000)
    in_use = []
    for turn in range(40):
        array[0] = turn
        queue.put(array)
        found = queue.get()
        assert found[0] == turn
        del found
        in_use.append(memory_of(queue))
    assert in_use[-1] <= in_use[4]


def test_a_view_outlives_its_queue() -> None:
    queue = Queue()
    queue.put(np.ones(100_000))
    array = queue.get()
    del queue
    gc.collect()
    assert array.sum() == 100_000


def test_a_flood_gives_its_memory_back() -> None:
    queue = Queue()
    for _ in range(4000):
        queue.put(b"x" * 10_000)
    assert memory_of(queue) > 40_000_000
    for _ in range(4000):
        assert len(queue.get()) == 10_000
    assert memory_of(queue) < 4_000_000
    assert queue.empty()


def test_an_endless_flow_stays_small() -> None:
    queue = Queue()
    for turn in range(100_000):
        queue.put(turn)
        queue.put(f"{turn}" * 20)
        assert queue.get() == turn
        assert queue.get() == f"{turn}" * 20
    assert memory_of(queue) < 2_000_000


@pytest.mark.parametrize("kind", [Queue, JoinableQueue])
def test_full_at_exactly_maxsize(kind: Any) -> None:
    queue = kind(3)
    for turn in range(3):
        assert not queue.full()
        queue.put(turn, False)
        assert queue.qsize() == turn + 1
    assert queue.full()
    with pytest.raises(standard.Full):
        queue.put_nowait(3)
    with pytest.raises(standard.Full):
        queue.put(3, timeout=0.01)
    with pytest.raises(standard.Full):
        queue.put(3, timeout=-1)
    assert [queue.get_nowait() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(standard.Empty):
        queue.get_nowait()


def test_empty_after_the_timeout_and_not_before() -> None:
    queue = Queue()
    start = time.monotonic()
    with pytest.raises(standard.Empty):
        queue.get(timeout=0.05)
    assert time.monotonic() - start >= 0.05
    with pytest.raises(standard.Empty):
        queue.get(True, -5)
    with pytest.raises(standard.Empty):
        queue.get(0)  # type: ignore[arg-type] # as the standard library takes it


@pytest.mark.parametrize(
    ("maxsize", "error"),
    [("3", TypeError), (2.0, TypeError), (None, TypeError), (2**31, OverflowError)],
)
def test_bad_maxsize(maxsize: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="maxsize"):
        Queue(maxsize)


@pytest.mark.parametrize("maxsize", [0, -1, False])
def test_no_limit(maxsize: int) -> None:
    queue = Queue(maxsize)
    queue.put_many(range(1000))
    assert not queue.full()
    assert queue._maxsize == 2**31 - 1


@pytest.mark.parametrize("timeout", ["1", object(), float("nan")])
def test_bad_timeouts(timeout: Any) -> None:
    queue = Queue()
    queue.put(1)
    with pytest.raises((TypeError, ValueError)):
        queue.put(2, timeout=timeout)
    with pytest.raises((TypeError, ValueError)):
        queue.get(timeout=timeout)
    assert queue.qsize() == 1


@pytest.mark.parametrize("kind", [Queue, JoinableQueue])
def test_closed(kind: Any) -> None:
    queue = kind()
    queue.put(1)
    with pytest.raises(AssertionError, match="not closed"):
        queue.join_thread()
    queue.close()
    queue.close()
    queue.join_thread()
    queue.cancel_join_thread()
    for call in (lambda: queue.put(1), queue.get, queue.get_nowait, lambda: queue.get_many(1)):
        with pytest.raises(ValueError, match=r"Queue <.*Queue with 1 items> is closed"):
            call()
    assert queue.qsize() == 1


def test_closing_wakes_a_thread_that_waits() -> None:
    queue, raised = Queue(), []

    def wait() -> None:
        try:
            queue.get()
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    queue.close()
    thread.join()
    assert len(raised) == 1


def test_simple_queue() -> None:
    queue = SimpleQueue()
    assert queue.empty()
    queue.put("x")
    assert not queue.empty()
    assert queue.get() == "x"
    queue.close()
    assert queue._reader.closed
    assert queue._writer.closed


def test_what_it_shows() -> None:
    queue = Queue(5)
    queue.put(1)
    assert repr(queue) == "<Queue with 1 of 5 items>"
    assert repr(SimpleQueue()) == "<SimpleQueue with 0 items>"
    assert Queue[int]  # type: ignore[misc] # as in the standard library
    assert weakref.ref(queue)() is queue


def test_a_subclass_may_have_its_own_way() -> None:
    class Doubling(Queue):
        def __init__(self, extra: str) -> None:
            super().__init__(maxsize=7)
            self.extra = extra

        def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put(obj * 2, block, timeout)

    queue = Doubling("more")
    queue.put(4)
    assert queue.get() == 8
    assert queue._maxsize == 7

    class Forgetful(Queue):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Forgetful().put(1)


def test_a_thousand_queues_one_after_the_other() -> None:
    for turn in range(1000):
        queue = Queue(turn % 3)
        queue.put(turn)
        assert queue.get() == turn


def put_times(queue: Any, item: object, times: int) -> None:
    for _ in range(times):
        queue.put(item)


def test_memory_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, item = Queue(), b"x" * 50_000
    queue.put_many([item] * 1200)  # close to what a queue may take without asking
    monkeypatch.setattr(_os, "available_memory", lambda: 1 << 20)
    with pytest.raises(SharedMemoryFull, match="have items taken faster"):
        put_times(queue, item, 5000)
    put = queue.qsize()
    assert 1200 < put < 1500
    with pytest.raises(SharedMemoryFull):
        queue.put(np.zeros(10_000_000))
    assert queue.qsize() == put
    assert queue.get() == item
    monkeypatch.undo()
    queue.put_many([item] * 100)
    assert [len(each) for each in queue.get_many(5000)] == [50_000] * (put + 99)


# --- What cannot be pickled ----------------------------------------------------------------------


class RaisesWhenPickled:
    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def rebuild_not() -> None:
    msg = "not here"
    raise LookupError(msg)


class RaisesWhenRebuilt:
    def __reduce__(self) -> Any:
        return rebuild_not, ()


@pytest.mark.parametrize("item", [lambda: 1, threading.Lock(), RaisesWhenPickled(AttributeError)])
def test_what_cannot_be_pickled_raises_at_put_and_nothing_changes(item: object) -> None:
    queue = Queue(3)
    queue.put(1)
    with pytest.raises(ItemUnpicklable, match="cannot be put into a queue") as caught:
        queue.put(item)
    assert isinstance(caught.value, pickle.PicklingError)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, AttributeError)
    with pytest.raises(ItemUnpicklable):
        queue.put_many([2, item, 3])
    assert queue.qsize() == 1
    queue.put(2)
    assert queue.get_many(5) == [1, 2]


def test_what_else_a_reduction_raises_is_raised_at_put() -> None:
    queue = Queue()
    with pytest.raises(ZeroDivisionError):
        queue.put(RaisesWhenPickled(ZeroDivisionError))
    assert queue.empty()


def test_the_hook_of_the_standard_library() -> None:
    told = []

    class Safe(Queue):
        @staticmethod
        def _on_queue_feeder_error(error: BaseException, item: object) -> None:
            told.append((error, item))

    queue, item = Safe(), RaisesWhenPickled(AttributeError)
    queue.put(item)
    ((error, refused),) = told
    assert type(error) is AttributeError
    assert refused is item
    told.clear()
    del error
    assert queue.empty()


def test_what_cannot_be_rebuilt_is_taken_and_raises_in_get() -> None:
    queue = Queue()
    queue.put(RaisesWhenRebuilt())
    queue.put(2)
    with pytest.raises(LookupError, match="not here"):
        queue.get()
    assert queue.get() == 2
    queue.put_many([1, RaisesWhenRebuilt(), 3])
    with pytest.raises(ItemsUnreadable, match="1 of 3 items") as caught:
        queue.get_many(10)
    assert caught.value.items == [1, 3]
    assert isinstance(caught.value.errors[0], LookupError)
    assert queue.empty()


def test_code_of_the_user_may_use_the_queue_it_is_pickled_for() -> None:
    queue = Queue()
    queue.put(Nested(queue))
    assert queue.get() == "outer"
    assert queue.get() == "inner"


class Nested:
    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __reduce__(self) -> Any:
        self.queue.put("outer")
        return str, ("inner",)


# --- Several at once -----------------------------------------------------------------------------


def test_many_at_once() -> None:
    queue = Queue()
    queue.put_many(VALUES)
    queue.put_many([])
    assert queue.qsize() == len(VALUES)
    assert queue.get_many(3) == VALUES[:3]
    assert queue.get_many(1000) == VALUES[3:]
    with pytest.raises(standard.Empty):
        queue.get_many(1, block=False)
    with pytest.raises(standard.Empty):
        queue.get_many(1, timeout=0.01)


def test_many_more_than_a_segment_holds() -> None:
    queue = Queue()
    queue.put_many(range(100_000))
    found = []
    while not queue.empty():
        found += queue.get_many(7_777)
    assert found == list(range(100_000))


def test_many_are_put_all_or_none() -> None:
    queue = Queue(5)
    queue.put_many([1, 2, 3])
    with pytest.raises(standard.Full):
        queue.put_many([4, 5, 6], block=False)
    with pytest.raises(standard.Full):
        queue.put_many([4, 5, 6], timeout=0.01)
    assert queue.qsize() == 3
    with pytest.raises(ValueError, match="6 items at once never fit into a queue of 5"):
        queue.put_many(range(6))
    with pytest.raises(ValueError, match="max_items"):
        queue.get_many(0)
    with pytest.raises(TypeError):
        queue.put_many(5)  # type: ignore[arg-type]


def test_many_wait_until_there_is_room_for_all() -> None:
    queue = Queue(4)
    queue.put_many(range(3))
    thread = threading.Thread(target=queue.put_many, args=([10, 11, 12],))
    thread.start()
    found = [queue.get() for _ in range(6)]
    thread.join()
    assert found == [0, 1, 2, 10, 11, 12]


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


def test_threads_on_both_sides(context: Any) -> None:
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


def test_a_child_leaves_although_nobody_takes_what_it_has_put(context: Any) -> None:
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


def test_an_array_from_another_process(context: Any) -> None:
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


def test_what_a_dead_producer_has_put_is_there() -> None:
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


def test_what_a_killed_producer_kept_for_its_next_item_goes_back() -> None:
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


def test_a_killed_producer_of_whom_nothing_is_left_leaves_no_memory() -> None:
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


def test_a_block_whose_receiver_dies_with_it_is_used_again() -> None:
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


def test_done_no_more_often_than_put() -> None:
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


def test_a_queue_through_a_queue(context: Any) -> None:
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


def test_as_an_argument_of_pool_tasks(context: Any) -> None:
    queue = Queue()
    method = context.get_start_method()
    with garrison.get_context(method).Pool(2) as pool:
        assert pool.starmap(use_in_task, [(queue, n) for n in range(6)], chunksize=1) == [*range(6)]
    assert sorted(queue.get_many(10)) == [n * 10 for n in range(6)]


def test_a_fork_shares_nothing_private() -> None:
    queue = Queue()
    queue.put(np.ones(100_000))  # this process has a region now
    process = in_child(multiprocessing.get_context("fork"), put_array, queue, 7)
    ended(process)
    queue.put(np.full(100_000, 2))
    assert [int(queue.get()[0]) for _ in range(3)] == [1, 7, 2]


def put_array(queue: Any, number: int) -> None:
    queue.put(np.full(100_000, number))
