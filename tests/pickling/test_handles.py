"""Locks, queues and shared values are sent as handles.

Plain pickles and copies are as in the standard library: refused, or plain data.
"""

from __future__ import annotations

import copy
import ctypes
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest

import garrison
from garrison._pickling import dumps
from garrison.sync import Barrier, Condition, Event, Lock, Queue, RLock, Semaphore, Value

HANDLES: dict[str, Callable[[], Any]] = {
    "Lock": garrison.Lock,
    "RLock": garrison.RLock,
    "Semaphore": garrison.Semaphore,
    "BoundedSemaphore": garrison.BoundedSemaphore,
    "Condition": garrison.Condition,
    "Event": garrison.Event,
    "Barrier": lambda: garrison.Barrier(2),
    "Queue": garrison.Queue,
    "JoinableQueue": garrison.JoinableQueue,
    "SimpleQueue": garrison.SimpleQueue,
    "Synchronized": lambda: garrison.Value("i"),
    "SynchronizedArray": lambda: garrison.Array("i", 3),
    "SynchronizedString": lambda: garrison.Array("c", 3),
    "SynchronizedPoint": lambda: garrison.Value(Point),
    "Shared": lambda: garrison.share([1]),
}


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int),)


@pytest.mark.parametrize("kind", HANDLES)
def test_only_a_transfer_makes_a_handle(kind: str) -> None:
    made = HANDLES[kind]()
    for dump in (dumps, ForkingPickler.dumps):
        received = pickle.loads(dump([made, made]))
        assert type(received[0]) is type(made)
        assert received[0] is received[1]
    # Newer pickles add a note of where it was.
    refused = f"^{kind} objects should only be shared between processes through inheritance(\n|$)"
    for refuse in (pickle.dumps, copy.copy, copy.deepcopy, lambda each: pickle.dumps({1: [each]})):
        with pytest.raises(RuntimeError, match=refused):
            refuse(made)


class MyLock(Lock):
    pass


class MyQueue(Queue):
    """As one reads it in programs for the standard library."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def __getstate__(self) -> Any:
        return super().__getstate__(), self.label

    def __setstate__(self, state: Any) -> None:
        inner, self.label = state
        super().__setstate__(inner)


class MySemaphore(Semaphore):
    def __reduce__(self) -> Any:
        make, arguments = super().__reduce__()
        return make, arguments


SUBCLASSES: dict[str, Callable[[], Any]] = {
    "lock": MyLock,
    "queue": lambda: MyQueue("of mine"),
    "semaphore": MySemaphore,
    "event": type("MyEvent", (Event,), {"__module__": __name__}),
    "condition": type("MyCondition", (Condition,), {"__module__": __name__}),
}
MyEvent, MyCondition = SUBCLASSES["event"], SUBCLASSES["condition"]


def label(thing: Any) -> Any:
    return getattr(thing, "label", None)


@pytest.mark.parametrize("kind", SUBCLASSES)
def test_a_subclass_travels_as_its_base(kind: str) -> None:
    made = SUBCLASSES[kind]()
    with garrison.get_context("fork").Pool(1) as pool:
        assert pool.apply(label, (made,)) == label(made)
    for refuse in (pickle.dumps, copy.copy):
        with pytest.raises(RuntimeError, match="through inheritance"):
            refuse(made)


def test_other_pickles_of_plain_memory_are_copies() -> None:
    value, table = garrison.RawValue("i", 5), garrison.RawValue(Point, 7)
    received = [pickle.loads(pickle.dumps(each)) for each in (value, table)]
    value.value, table.x = 6, 8
    assert (received[0].value, received[1].x) == (5, 7)
    assert [type(each) for each in received] == [ctypes.c_int, Point]
    # The class of an array has no name: the standard library fails as well.
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(garrison.RawArray("i", 3))


def test_other_pickles_of_a_shared_numpy_array_are_copies() -> None:
    np = pytest.importorskip("numpy")
    array = garrison.ndarray(3)
    kept = pickle.loads(pickle.dumps(array))
    array[:] = 1
    assert type(kept) is np.ndarray
    assert kept.tolist() == [0, 0, 0]
    pickle.loads(dumps(array))[0] = 5
    assert array[0] == 5


def holds(*parts: Any) -> list[str]:
    return [type(part).__name__ for part in parts]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_handles_reach_tasks_and_initializers(method: str) -> None:
    parts = (Lock(), RLock(), Barrier(1), Queue(), Value("i"), garrison.share([1]))
    names = [type(part).__name__ for part in parts]
    with garrison.get_context(method).Pool(1, holds, parts) as pool:
        assert pool.apply(holds, parts) == names
        assert pool.map(type, [parts[0], parts[3]]) == [Lock, Queue]
