"""`Value` and `Array`: under a lock that survives its owner, or lock-free."""

from __future__ import annotations

import array
import ctypes
import functools
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison._pickling import dumps
from garrison.errors import AbandonedLock
from garrison.memory import RawArray, RawValue
from garrison.sharedctypes import (
    Synchronized,
    SynchronizedArray,
    SynchronizedBase,
    SynchronizedString,
    typecode_to_type,
)
from garrison.sync import Array, Lock, RLock, Value, synchronized
from memory import jobs
from sync.forked import Forked, armed, died
from waiting import wait_until

np = pytest.importorskip("numpy")

METHODS = ("fork", "spawn", "forkserver")
RANGES = {
    **{
        code: (-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1)
        for code, size in zip("bhiq", (1, 2, 4, 8), strict=True)
    },
    **{code: (0, 2 ** (8 * size) - 1) for code, size in zip("BHIQ", (1, 2, 4, 8), strict=True)},
    "l": (-(2**63), 2**63 - 1),
    "L": (0, 2**64 - 1),
}


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return garrison.get_context(str(request.param))


# --- What can be read and written ---------------------------------------------------------------


@pytest.mark.parametrize("code", RANGES)
def test_integers_hold_their_range_and_wrap_around_as_those_of_ctypes(code: str) -> None:
    least, most = RANGES[code]
    value, numbers = Value(code), Array(code, 3)
    for number in (least, most, 0, 1, True):
        value.value = numbers[1] = number
        assert (value.value, numbers[1], value.load(), numbers.load(1)) == (number,) * 4
        assert Value(code, number).value == number
    type_ = typecode_to_type[code]
    for number in (least - 1, most + 1, 1 << 70, -(1 << 70), 0xFFFF_FFFF):
        wrapped = type_(number).value
        for write in (functools.partial(setattr, value, "value"), value.store, value.exchange):
            value.value = 5
            write(number)
            assert value.value == wrapped
        numbers[0], numbers[1:] = number, [number, 0]
        assert numbers[:] == [wrapped, wrapped, 0]
        assert Value(code, number).value == wrapped
        assert Array(code, [number])[0] == wrapped


@pytest.mark.parametrize("bad", [1.5, "1", b"1", None, [1]])
def test_non_integers_are_refused(bad: Any) -> None:
    value, numbers = Value("i", 5), Array("i", [1, 2])
    for write in (
        lambda: setattr(value, "value", bad),
        lambda: value.add(bad),
        lambda: numbers.__setitem__(0, bad),
        lambda: numbers.__setitem__(slice(None), [0, bad]),
        lambda: Value("i", bad),
    ):
        with pytest.raises(TypeError):
            write()
    assert (value.value, numbers[:]) == (5, [1, 2])


def test_float_values_are_stored_and_checked() -> None:
    for code in "fd":
        value = Value(code, 2)
        for number in (0.5, -3, float("inf"), np.float32(1.5)):
            value.value = number
            assert value.value == number
        value.value = float("nan")
        assert value.value != value.value
        with pytest.raises(TypeError):
            value.value = "1"
    assert Value("f", 1e300).value == ctypes.c_float(1e300).value == float("inf")
    with pytest.raises(OverflowError):
        Value("d", 10**400)


def test_numpy_integers_are_integers() -> None:
    value = Value("i", np.int64(5))
    value.value += np.int16(2)
    assert (value.value, value.add(np.uint8(1)), type(value.value)) == (7, 7, int)


def test_characters_bools_and_strings_are_stored() -> None:
    assert Value("c", b"x").value == b"x"
    assert Value("u", "ü").value == "ü"
    flag = Value(ctypes.c_bool, 5)
    assert flag.value is True
    flag.value = []  # type: ignore[assignment] # as ctypes takes it
    assert (flag.value, flag.exchange(True), flag.load()) == (False, False, True)
    word = Array("c", 6)
    word.value = b"tea"
    assert isinstance(word, SynchronizedString)
    assert (word.value, word.raw, word[0], word[:2]) == (b"tea", b"tea\0\0\0", b"t", b"te")
    word.raw = b"coffee"
    assert (word.value, list(word)[:2]) == (b"coffee", [b"c", b"o"])
    with pytest.raises(ValueError, match="too long"):
        word.value = b"too long"
    text: Any = Array("u", "tea")  # its slices are strings
    text[1] = "é"
    assert (text[:], len(text)) == ("téa", 3)


def test_fields_of_structures_are_shared() -> None:
    point = Value(jobs.Point, 1, 2.5)
    point.x += 2
    assert (point.x, point.y, point.name) == (3, 2.5, b"")
    assert type(point).__name__ == "SynchronizedPoint"
    assert isinstance(point, SynchronizedBase)
    points = Array(jobs.Point, [(1, 2.0), (3, 4.0)])
    points[1].x = 7
    assert [each.x for each in points] == [1, 7]


def test_other_ctypes_are_stored() -> None:
    class Celsius(ctypes.c_double):
        pass

    assert Value(Celsius, 1.5).value == 1.5
    assert isinstance(Array(Celsius, 2)[0], Celsius)
    with pytest.raises(TypeError, match="byte order"):
        Value(ctypes.c_int.__ctype_be__, 5)
    table = Array(ctypes.c_int * 2, 3)
    table[1][0] = 5
    assert np.asarray(table).tolist() == [[0, 0], [5, 0], [0, 0]]
    assert Value(ctypes.c_void_p).value is None
    with pytest.raises(TypeError):
        Value("i", 1, 2)


# --- Arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["i", "d", "B", "c"])
def test_indices_and_slices_are_those_of_ctypes(code: str) -> None:
    initial: Any = b"0123456789" if code == "c" else range(10)
    ours, theirs = Array(code, initial), (typecode_to_type[code] * 10)(*initial)
    for index in (0, 9, -1, -10, np.int32(3), True):
        assert ours[index] == theirs[index]
    for start in (None, 0, 3, -2, 20, -20):
        for stop in (None, 0, 7, -1, 20, -20):
            for step in (None, 1, 2, -1, -3):
                assert ours[start:stop:step] == theirs[start:stop:step]
    for index in (10, -11, 1 << 70):
        with pytest.raises(IndexError):
            ours[index]
        with pytest.raises(IndexError):
            ours[index] = ours[0]
    wrong: Any
    for wrong in ("0", 1.0, None):
        with pytest.raises(TypeError):
            ours[wrong]
    assert (len(ours), list(ours)) == (10, list(theirs))


def test_slices_from_arrays_of_the_same_numbers_and_of_others() -> None:
    numbers = Array("i", 6)
    numbers[:] = np.arange(6, dtype="i4")
    numbers[2:4] = np.array([7, 0, 8], dtype="i4")[::2]
    numbers[4:] = np.array([1, 2], dtype="u1")
    assert numbers[:] == [0, 1, 7, 8, 1, 2]
    numbers[1:] = np.asarray(numbers)[:-1]  # the same memory
    assert numbers[:] == [0, 0, 1, 7, 8, 1]
    raw = Array("B", 3)
    raw[:] = b"abc"
    assert raw[:] == [97, 98, 99]
    for wrong in (np.zeros(2, "i4"), np.zeros((6, 1), "i4"), np.zeros(6)):
        with pytest.raises((ValueError, TypeError)):
            numbers[:] = wrong
    assert numbers[:] == [0, 0, 1, 7, 8, 1]


class Liar(list[int]):
    def __len__(self) -> int:
        return 2


def test_slices_are_written_whole_or_not_at_all() -> None:
    numbers = Array("i", 6)
    numbers[1:4] = array.array("i", [1, 2, 3])
    numbers[4:] = (4, 5)
    numbers[::-5] = np.array([9, 8])
    assert numbers[:] == [8, 1, 2, 3, 4, 9]
    values: Any
    for values in ([1], range(3), [1, "x"]):
        with pytest.raises((ValueError, TypeError)):
            numbers[2:4] = values
    with pytest.raises(TypeError):
        numbers[2:4] = (n for n in range(2))
    with pytest.raises(ValueError, match="1 elements for 2 places"):
        numbers[2:4] = Liar([1])
    assert numbers[:] == [8, 1, 2, 3, 4, 9]


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_arrays_have_their_sizes(size: int) -> None:
    numbers = Array("d", size)
    assert (len(numbers), numbers[:], list(numbers)) == (size, [0.0] * size, [0.0] * size)
    assert np.asarray(numbers).shape == (size,)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Array("i", -1), ValueError),
        (lambda: Array("i", 2.5), TypeError),  # type: ignore[call-overload]
        (lambda: Array("z", 1), TypeError),
        (lambda: Array("q", 1 << 58), MemoryError),
        (lambda: Value("zz"), TypeError),
        (lambda: Value("i", lock="no"), AttributeError),
        (lambda: Array("i", 1, lock=5), AttributeError),
        (lambda: synchronized(Value("i")), AssertionError),
        (lambda: synchronized(5), TypeError),
        (lambda: Value(jobs.Point, 1).add, AttributeError),
        (lambda: Value("c").add(1), TypeError),
        (lambda: Value(ctypes.c_bool).add(1), TypeError),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call()


# --- Views --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*RANGES, "f", "d"])
def test_numpy_and_memoryview_see_the_memory_itself(code: str) -> None:
    numbers = Array(code, range(5))
    view, plain = np.asarray(numbers), memoryview(numbers)
    assert view.dtype == np.dtype(code)
    assert (plain.itemsize, plain.shape, plain.readonly) == (view.itemsize, (5,), False)
    view[1] = 9
    plain[2] = plain[1]
    assert numbers[:] == [0, 9, 9, 3, 4]
    value = Value(code, 3)
    np.asarray(value)[()] = 4
    assert (value.value, np.asarray(value).shape) == (4, ())


def test_views_outlive_the_object() -> None:
    views = []
    for n in range(20):
        numbers = Array("q", [n] * 3000)
        views.append(np.asarray(numbers))
        del numbers
        gc.collect()
        Array("q", 3000)
    assert [int(view.sum()) for view in views] == [3000 * n for n in range(20)]


# --- Locks --------------------------------------------------------------------------------------


def test_the_lock_is_the_one_that_was_given() -> None:
    for lock in (Lock(), RLock(), threading.RLock(), multiprocessing.Lock()):
        value, numbers = Value("i", 5, lock=lock), Array("i", 3, lock=lock)
        assert value.get_lock() is numbers.get_lock() is lock
        value.value += 1
        numbers[0] = value.value
        assert (value.value, numbers[:]) == (6, [6, 0, 0])
    for choice in (True, None):
        assert isinstance(Value("i", lock=choice).get_lock(), RLock)
    assert type(Value("i", 3, lock=False)) is type(RawValue("i"))
    assert not hasattr(Array("i", 3, lock=False), "get_lock")


def test_access_waits_for_the_holder_of_the_lock(tmp_path: Path) -> None:
    value, numbers = Value("i", 1), Array("i", [1])
    uses: list[tuple[Any, Callable[[], Any]]] = [
        (value, lambda: value.value),
        (value, lambda: setattr(value, "value", 5)),
        (numbers, lambda: numbers[0]),
        (numbers, lambda: numbers[:]),
        (numbers, lambda: numbers.__setitem__(slice(None), [5])),
        (numbers, lambda: list(numbers)),
    ]
    for holder, use in uses:
        with holder.get_lock(), Forked(use) as child:
            wait_until(functools.partial(waits, child.pid))
            assert not child.is_over()
            holder.release()
            child.join()
            holder.acquire()
        assert child.status == 0


def waits(pid: int) -> bool:
    return "futex" in Path(f"/proc/{pid}/wchan").read_text() or syscall(pid) in FUTEXES


FUTEXES = ("202", "449", "98")


def syscall(pid: int) -> str:
    return Path(f"/proc/{pid}/syscall").read_text().split()[0]


def test_access_within_the_lock_and_by_threads() -> None:
    value = Value("i")

    def add() -> None:
        for _ in range(2000):
            with value:
                value.value += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with value.get_lock(), value:
        value.acquire()
        assert value.value == 8000
        value.release()
    with pytest.raises(AssertionError):
        value.release()


def test_dead_owner_is_reported_by_a_warning() -> None:
    value = Value("i", 1)

    def die() -> None:
        value.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    with Forked(die) as child:
        child.join()
    with pytest.warns(AbandonedLock):
        assert value.value == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value.value += 1
    assert value.value == 2


@pytest.mark.parametrize("point", ["lock.taken", "value.written", "lock.released"])
def test_value_survives_a_death_in_an_access(point: str, tmp_path: Path) -> None:
    if not garrison._core.CRASH_POINTS:
        pytest.skip("a build with the feature crash-points")
    numbers = Array("i", [1, 1, 1])
    with armed(point, tmp_path / "one", lambda: numbers.__setitem__(slice(None), [2] * 3)) as one:
        assert died(one, tmp_path / "one")
    # Again in the one that takes the lock over.
    with armed(point, tmp_path / "two", lambda: numbers[:]) as two:
        assert died(two, tmp_path / "two")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AbandonedLock)
        assert numbers[:] == ([1] * 3 if point == "lock.taken" else [2] * 3)
    numbers[0] = 5
    assert numbers[0] == 5


# --- Atomic operations --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*RANGES, "f", "d"])
def test_atomic_operations_change_one_value(code: str) -> None:
    value, numbers = Value(code, 5), Array(code, [0, 5])
    targets: Any = ((value, ()), (numbers, (1,)))
    for target, place in targets:
        assert target.add(*place, 3) == 5
        assert target.exchange(*place, 9) == 8
        assert not target.compare_exchange(*place, 8, 1)
        assert target.compare_exchange(*place, 9, 1)
        assert target.store(*place, 4) is None
        assert target.load(*place) == 4
    assert (value.value, numbers[:]) == (4, [0, 4])


def test_sums_wrap_around_and_floats_do_not() -> None:
    value = Value("b", 127)
    assert (value.add(1), value.value) == (127, -128)
    assert (value.add(-1), value.value) == (-128, 127)
    number = Value("d", 0.5)
    assert (number.add(0.25), number.add(-1), number.value) == (0.5, 0.75, -0.25)


def test_atomic_operations_do_not_wait_for_the_lock() -> None:
    value = Value("i", 1)
    with value.get_lock(), Forked(value.add, 1) as child:
        assert child.answer() == "1"
        assert value.value == 2


@pytest.mark.parametrize("code", ["i", "q", "d", "h"])
def test_no_addition_is_lost(code: str) -> None:
    value = Value(code)
    times = 8_000

    def add() -> None:
        threads = [threading.Thread(target=jobs.add_often, args=(value, times)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with Forked(add) as one, Forked(add) as two:
        assert (one.join(), two.join()) == (0, 0)
    assert (
        value.value == 4 * times
        if code != "h"
        else value.value == (4 * times + 2**15) % 2**16 - 2**15
    )


# --- To other processes -------------------------------------------------------------------------


def test_types_of_wrappers_depend_on_the_ctype() -> None:
    assert isinstance(Value("i"), Synchronized)
    assert isinstance(Array("i", 1), SynchronizedArray)
    assert isinstance(Array("c", 1), SynchronizedArray)
    assert issubclass(Synchronized, SynchronizedBase)
    assert repr(Value("i", 7)) == "<Synchronized wrapper for c_int(7)>"


@pytest.mark.parametrize("lock", [True, "own", "plain"])
def test_pickled_value_is_the_same_value_and_lock(lock: Any) -> None:
    chosen = {"own": Lock(on_abandon="raise"), "plain": RLock(detect_deadlocks=True)}.get(
        lock, True
    )
    value = Value("i", 5, lock=chosen)
    other = pickle.loads(dumps(value))
    other.value = 6
    assert value.value == 6
    assert type(other.get_lock()) is type(value.get_lock())
    assert other.get_lock()._location[1:] == value.get_lock()._location[1:]
    with other.get_lock():
        assert value.get_lock().locked()


def test_processes_and_tasks_use_a_value(context: Any) -> None:
    value, numbers, word = Value("i"), Array("d", 3), Array("c", 5)
    point = Value(jobs.Point, 1)
    with context.Pool(2) as pool:
        pool.starmap(jobs.add_locked, [(value, 500)] * 4, 1)
        pool.starmap(jobs.put, [(numbers, n, n / 2) for n in range(3)])
    process = context.Process(target=jobs.add_locked, args=(value, 500))
    processes = [
        process,
        context.Process(target=jobs.put_value, args=(word, b"hello")),
        context.Process(target=jobs.move, args=(point,)),
    ]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
        assert each.exitcode == 0
    assert (value.value, numbers[:], word.value) == (2500, [0.0, 0.5, 1.0], b"hello")
    assert (point.x, point.name) == (2, b"move")


def test_array_without_a_lock_is_sent(context: Any) -> None:
    numbers = Array("i", 3, lock=False)
    assert type(numbers) is type(RawArray("i", 3))
    process = context.Process(target=jobs.put, args=(numbers, 1, 4))
    process.start()
    process.join()
    assert numbers[:] == [0, 4, 0]
