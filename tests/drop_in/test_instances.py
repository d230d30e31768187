"""Objects are instances of the standard classes; inapplicable inherited methods are refused."""

from __future__ import annotations

import ctypes
import multiprocessing.pool
import multiprocessing.queues
import multiprocessing.shared_memory
import multiprocessing.sharedctypes
import multiprocessing.synchronize
import threading
from collections.abc import Callable
from typing import Any

import pytest

import garrison
import garrison.dummy
import garrison.pool
import garrison.shared_memory
import garrison.sharedctypes

std = multiprocessing
METHODS = ("fork", "spawn", "forkserver")

SYNC: list[tuple[Callable[[], Any], Any]] = [
    (garrison.Lock, std.synchronize.Lock),
    (garrison.RLock, std.synchronize.RLock),
    (garrison.Semaphore, std.synchronize.Semaphore),
    (garrison.BoundedSemaphore, std.synchronize.BoundedSemaphore),
    (garrison.Condition, std.synchronize.Condition),
    (garrison.Event, std.synchronize.Event),
    (lambda: garrison.Barrier(2), std.synchronize.Barrier),
    (garrison.Queue, std.queues.Queue),
    (garrison.JoinableQueue, std.queues.JoinableQueue),
    (garrison.SimpleQueue, std.queues.SimpleQueue),
]
NAMES = [kind.__name__ for _, kind in SYNC]


@pytest.mark.parametrize(("make", "kind"), SYNC, ids=NAMES)
def test_an_object_is_an_instance_of_the_standard_class(
    make: Callable[[], Any], kind: type
) -> None:
    made = make()
    assert isinstance(made, kind)
    assert type(made).__name__ == kind.__name__
    assert type(made).__module__.startswith("garrison")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_an_object_of_a_context_is_of_the_same_class(method: str, name: str) -> None:
    arguments = (2,) if name == "Barrier" else ()
    made = getattr(garrison.get_context(method), name)(*arguments)
    assert type(made) is getattr(garrison, name)


def inherited(kind: type) -> list[str]:
    """The names that a class of garrison's has from a standard class, special methods aside."""
    found = []
    for name in dir(kind):
        home = next(each for each in kind.__mro__ if name in vars(each))
        if home.__module__.startswith(("multiprocessing", "threading")) and name[:2] != "__":
            found.append(name)
    return found


@pytest.mark.parametrize(("make", "kind"), SYNC, ids=NAMES)
def test_inapplicable_inherited_methods_are_refused(make: Callable[[], Any], kind: type) -> None:
    made = make()
    # These do nothing to an instance, or need a method that is ours.
    assert set(inherited(type(made))) <= {"_rand", "_make_name", "_cleanup", "get_value"}
    for name in set(dir(kind)) - set(dir(object)):
        try:
            getattr(made, name)
        except AttributeError as error:
            assert "garrison's" in str(error)  # noqa: PT017 - most of them are there
            assert name.startswith("_")


def test_lock_has_the_private_attributes_of_a_standard_one() -> None:
    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore"):
        ours = getattr(garrison, name)()
        theirs = getattr(multiprocessing.get_context("fork"), name)()
        for each in ("kind", "maxvalue", "name"):
            assert getattr(ours._semlock, each) == getattr(theirs._semlock, each)
        methods = ["_get_value", "_is_zero"]
        methods += ["_is_mine", "_count"] if name.endswith("Lock") else []
        for _ in range(3):
            for each in methods:
                assert getattr(ours._semlock, each)() == getattr(theirs._semlock, each)()
            assert repr(ours) == repr(theirs)
            assert ours.acquire(False) == theirs.acquire(False)


@pytest.mark.parametrize("name", ["RLock", "Lock"])
def test_a_standard_condition_takes_a_lock_of_ours(name: str) -> None:
    condition = multiprocessing.get_context("fork").Condition(getattr(garrison, name)())
    check_condition(condition)


@pytest.mark.parametrize("name", ["RLock", "Lock"])
def test_our_condition_takes_a_standard_lock(name: str) -> None:
    lock = getattr(multiprocessing.get_context("fork"), name)()
    condition = garrison.Condition(lock)
    check_condition(condition)
    assert condition._lock is lock
    assert repr(condition) == f"<Condition({lock!r}, 0)>"


def check_condition(condition: Any) -> None:
    with condition:
        assert not condition.wait(0.001)
    done: list[Any] = []

    def wait() -> None:
        with condition:
            done.append(condition.wait_for(lambda: done, 10))

    thread = threading.Thread(target=wait)
    thread.start()
    with condition:
        done.append(1)
        condition.notify_all()
    thread.join()
    assert len(done) == 2
    with pytest.raises(AssertionError):
        condition.notify()
    with pytest.raises(AssertionError):
        condition.wait(0)


def use_all(objects: list[Any]) -> None:
    lock, rlock, semaphore, event, queue, condition = objects
    with lock, rlock, semaphore, condition:
        condition.notify()
        event.set()
        queue.put("done")


@pytest.mark.parametrize("method", METHODS)
def test_processes_of_the_standard_library_take_objects_of_ours(method: str) -> None:
    theirs: Any = multiprocessing.get_context(method)
    lock, rlock, semaphore = garrison.Lock(), garrison.RLock(), garrison.Semaphore()
    event, queue, condition = garrison.Event(), garrison.Queue(), garrison.Condition()
    objects = [lock, rlock, semaphore, event, queue, condition]
    process = theirs.Process(target=use_all, args=(objects,))
    process.start()
    assert queue.get() == "done"
    assert event.wait(10)
    process.join()
    assert process.exitcode == 0
    process.close()


def test_queue_has_the_private_attributes_of_a_standard_one() -> None:
    ours: Any = garrison.JoinableQueue(3)
    theirs: Any = multiprocessing.get_context("fork").JoinableQueue(3)
    for queue in (ours, theirs):
        queue.put(1)
        assert queue._sem._semlock._get_value() == 2
        assert queue._unfinished_tasks._semlock._get_value() == 1
        assert queue._unfinished_tasks.get_value() == 1
        assert queue._maxsize == 3
        assert queue._reader.poll(10)
        with queue._rlock, queue._wlock:
            assert not queue._closed
        assert queue._poll()
        assert queue.get() == 1
        queue.close()
    theirs.join_thread()
    assert len(ours._buffer) == 0
    assert ours._thread is None


def test_closed_simple_queue_is_empty() -> None:
    queue = garrison.SimpleQueue()
    queue.close()
    queue.close()
    with pytest.raises(OSError, match="handle is closed"):
        queue.empty()


def test_held_read_lock_keeps_items_in_the_queue() -> None:
    queue = garrison.Queue()
    queue.put(1)
    got: list[Any] = []
    with queue._rlock:
        thread = threading.Thread(target=lambda: got.append(queue.get()))
        thread.start()
        thread.join(0.05)
        assert got == []
    thread.join()
    assert got == [1]


def test_a_class_made_from_ours_is_a_standard_one_too() -> None:
    class Mine(garrison.Queue):
        def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put([obj], block, timeout)

    queue = Mine()
    queue.put(1)
    assert queue.get() == [1]
    assert isinstance(queue, multiprocessing.queues.Queue)


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


VALUES: list[tuple[Callable[[], Any], str]] = [
    (lambda: garrison.Value("i", 1), "Synchronized"),
    (lambda: garrison.Array("i", 3), "SynchronizedArray"),
    (lambda: garrison.Array("c", b"abc"), "SynchronizedString"),
    (lambda: garrison.Value(Point, 1, 2.5), "SynchronizedBase"),
]


@pytest.mark.parametrize(("make", "name"), VALUES)
def test_a_value_is_an_instance_of_the_standard_class(make: Callable[[], Any], name: str) -> None:
    made = make()
    ours: Any = garrison.sharedctypes
    for module in (std.sharedctypes, ours):
        assert isinstance(made, getattr(module, name))
        assert isinstance(made, module.SynchronizedBase)
    with made.get_lock():
        assert isinstance(made.get_obj(), ctypes.Structure | ctypes.Array | ctypes.c_int)
    with pytest.raises(AssertionError, match="already synchronized"):
        ours.synchronized(made)


def test_wrappers_of_structures_are_named_as_the_standard_ones() -> None:
    point: Any = garrison.Value(Point, 1, 2.5)
    assert type(point).__name__ == "SynchronizedPoint"
    assert (point.x, point.y) == (1, 2.5)


def test_properties_of_the_standard_library_work_on_ours() -> None:
    sharedctypes: Any = garrison.sharedctypes

    class Wrapper(sharedctypes.SynchronizedBase):  # type: ignore[misc] # its base is Any here
        x = sharedctypes.make_property("x")

    wrapper = Wrapper(garrison.RawValue(Point, 3, 4.0), garrison.Lock())
    wrapper.x += 1
    assert wrapper.x == wrapper.get_obj().x == 4


def test_named_memory_is_of_the_standard_classes() -> None:
    row = garrison.shared_memory.ShareableList([1, "a"])
    try:
        assert isinstance(row, std.shared_memory.ShareableList)
        assert isinstance(row.shm, std.shared_memory.SharedMemory)
        assert not set(inherited(type(row)) + inherited(type(row.shm)))
        with pytest.raises(AttributeError, match="garrison's"):
            row._back_transforms_mapping  # type: ignore[attr-defined] # noqa: B018
    finally:
        row.shm.close()
        row.shm.unlink()
