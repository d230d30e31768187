"""What `Queue`, `JoinableQueue` and `SimpleQueue` do, in one process and between several."""

from __future__ import annotations

import gc
import pickle
import queue as standard
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

from garrison import _os
from garrison.errors import ItemsUnreadable, ItemUnpicklable, SharedMemoryFull
from garrison.sync import JoinableQueue, Queue, SimpleQueue

from .queue_tools import memory_of

BIG = 1 << 16


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
def test_values_are_returned_as_put(value: object) -> None:
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


def test_change_after_put_does_not_change_the_item() -> None:
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


def test_memory_of_big_items_is_reused() -> None:
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


def test_drained_queue_frees_its_memory() -> None:
    queue = Queue()
    for _ in range(4000):
        queue.put(b"x" * 10_000)
    assert memory_of(queue) > 40_000_000
    for _ in range(4000):
        assert len(queue.get()) == 10_000
    assert memory_of(queue) < 4_000_000
    assert queue.empty()


def test_memory_stays_small_while_items_flow() -> None:
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
def test_bad_maxsize_is_refused(maxsize: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="maxsize"):
        Queue(maxsize)


@pytest.mark.parametrize("maxsize", [0, -1, False])
def test_queue_without_maxsize_is_unlimited(maxsize: int) -> None:
    queue = Queue(maxsize)
    queue.put_many(range(1000))
    assert not queue.full()
    assert queue._maxsize == 2**31 - 1


@pytest.mark.parametrize("timeout", ["1", object(), float("nan")])
def test_bad_timeouts_are_refused(timeout: Any) -> None:
    queue = Queue()
    queue.put(1)
    with pytest.raises((TypeError, ValueError)):
        queue.put(2, timeout=timeout)
    with pytest.raises((TypeError, ValueError)):
        queue.get(timeout=timeout)
    assert queue.qsize() == 1


@pytest.mark.parametrize("kind", [Queue, JoinableQueue])
def test_closed_queue_refuses_calls(kind: Any) -> None:
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


def test_simple_queue_has_its_methods() -> None:
    queue = SimpleQueue()
    assert queue.empty()
    queue.put("x")
    assert not queue.empty()
    assert queue.get() == "x"
    queue.close()
    assert queue._reader.closed
    assert queue._writer.closed


def test_repr_shows_state() -> None:
    queue = Queue(5)
    queue.put(1)
    assert repr(queue) == "<Queue with 1 of 5 items>"
    assert repr(SimpleQueue()) == "<SimpleQueue with 0 items>"
    assert Queue[int].__args__ == (int,)  # type: ignore[attr-defined] # as in the standard library
    assert weakref.ref(queue)() is queue


def test_subclass_may_override_methods() -> None:
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


def test_full_memory_is_an_error_of_put(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_unpicklable_item_is_an_error_of_put(item: object) -> None:
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


def test_exception_of_a_reduction_is_raised_by_put() -> None:
    queue = Queue()
    with pytest.raises(ZeroDivisionError):
        queue.put(RaisesWhenPickled(ZeroDivisionError))
    assert queue.empty()


def test_on_queue_feeder_error_is_called() -> None:
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


def test_item_that_cannot_be_unpickled_is_taken_and_raised_by_get() -> None:
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


def test_pickling_code_may_use_its_own_queue() -> None:
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


def test_put_many_and_get_many() -> None:
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


def test_put_many_takes_more_than_a_segment_holds() -> None:
    queue = Queue()
    queue.put_many(range(100_000))
    found = []
    while not queue.empty():
        found += queue.get_many(7_777)
    assert found == list(range(100_000))


def test_put_many_is_all_or_nothing() -> None:
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


def test_put_many_waits_until_there_is_room_for_all() -> None:
    queue = Queue(4)
    queue.put_many(range(3))
    thread = threading.Thread(target=queue.put_many, args=([10, 11, 12],))
    thread.start()
    found = [queue.get() for _ in range(6)]
    thread.join()
    assert found == [0, 1, 2, 10, 11, 12]
