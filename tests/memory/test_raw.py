"""`RawValue` and `RawArray`: real ctypes objects, which travel as handles."""

from __future__ import annotations

import copy
import ctypes
import gc
import multiprocessing.sharedctypes
import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison._pickling import dumps
from garrison.errors import SharedMemoryFull
from garrison.memory import RawArray, RawValue, ndarray, raw
from garrison.memory import copy as shared_copy
from memory import jobs
from sync.forked import Forked, armed, died

np = pytest.importorskip("numpy")

CODES = {code: ctypes.sizeof(type_) for code, type_ in raw.typecode_to_type.items()}


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_its_ctypes_type_and_zero(code: str) -> None:
    value = RawValue(code)
    type_ = raw.typecode_to_type[code]
    assert isinstance(value, type_)
    assert bytes(value) == bytes(CODES[code])
    assert repr(value) == repr(type_())
    assert len(RawArray(code, 3)) == 3


def test_values_are_initialised_as_ctypes_does_it() -> None:
    assert RawValue("b", 300).value == 44
    assert RawValue("d", 2).value == 2.0
    assert RawArray("i", [1, 2, 3])[:] == [1, 2, 3]
    assert RawArray("c", b"tea").value == b"tea"
    point = RawValue(jobs.Point, 3, 4.5)
    assert (point.x, point.y, point.name) == (3, 4.5, b"")
    with pytest.raises(TypeError):
        RawValue("i", 1.5)
    with pytest.raises(TypeError):
        RawArray("i", ["a"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RawValue("z"), TypeError, "no type code 'z'"),
        (lambda: RawValue(5), TypeError, "not 5"),  # type: ignore[call-overload]
        (lambda: RawValue(int), TypeError, "ctypes type is needed"),
        (lambda: RawArray("i", -1), ValueError, "must not be negative: -1"),
        (lambda: RawArray("i", 1 << 62), OverflowError, "too large"),
        (lambda: RawArray("i", 1 << 80), OverflowError, "too large"),
        (lambda: RawArray("q", 1 << 50), SharedMemoryFull, "do not fit"),
        (lambda: RawArray("i", 2.5), TypeError, "len"),  # type: ignore[call-overload]
        (lambda: RawValue(ctypes.py_object), TypeError, "py_object"),
        (lambda: RawArray(ctypes.py_object * 2, 2), TypeError, "py_object"),
        (lambda: shared_copy(5), TypeError, "not 5"),
    ],
)
def test_bad_input_is_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_pickle_is_a_handle() -> None:
    numbers = RawArray("i", range(1000))
    pickled = dumps(numbers)
    assert len(pickled) < 500
    other = pickle.loads(pickled)
    other[5] = -1
    assert numbers[5] == -1


def test_arrays_of_arrays_and_structures_travel() -> None:
    table = RawArray(ctypes.c_int * 3, 2)
    pickle.loads(dumps(table))[1][2] = 5
    assert table[1][2] == 5
    points = RawArray(jobs.Point, 2)
    pickle.loads(dumps(points))[1].x = 9
    assert points[1].x == 9


def test_other_ctypes_objects_are_pickled_as_before() -> None:
    def look() -> Any:
        ours = RawValue("i", 1)
        theirs = multiprocessing.sharedctypes.RawValue("i", 2)
        with pytest.raises(RuntimeError, match="inheritance"):
            ForkingPickler.dumps(theirs)
        pickle.loads(ForkingPickler.dumps(ours)).value = 4
        ordinary = pickle.loads(pickle.dumps(ctypes.c_int(3)))
        return ours.value, type(theirs), type(ordinary), ordinary.value

    with Forked(look) as child:  # the standard library keeps its memory to the end
        assert child.answer() == repr((4, ctypes.c_int, ctypes.c_int, 3))


def test_copies_of_copy_are_private_and_those_of_shared_copy_are_shared() -> None:
    value = RawValue("i", 5)
    for mine in (copy.copy(value), copy.deepcopy(value)):
        assert type(mine) is ctypes.c_int
        mine.value += 1
    assert value.value == 5
    other = shared_copy(value)
    pickle.loads(dumps(other)).value = 8
    assert (value.value, other.value) == (5, 8)
    assert shared_copy(jobs.Point(1, 2.0)).y == 2.0


def test_raw_value_is_an_argument_of_a_process(context: Any) -> None:
    numbers, point = RawArray("i", 3), RawValue(jobs.Point, 1)
    for job, args in ((jobs.put, (numbers, 1, 7)), (jobs.move, (point,))):
        process = context.Process(target=job, args=args)
        process.start()
        process.join()
        assert process.exitcode == 0
    assert numbers[:] == [0, 7, 0]
    assert (point.x, point.name) == (2, b"move")


def test_raw_value_is_sent_to_tasks(context: Any) -> None:
    numbers = RawArray("i", 4)
    with context.Pool(2) as pool:
        pool.starmap(jobs.put, [(numbers, n, n * n) for n in range(4)])
        assert pool.apply(jobs.read, (numbers, 3)) == 9
    assert numbers[:] == [0, 1, 4, 9]


def test_raw_value_is_sent_through_a_queue(context: Any) -> None:
    queue = context.Queue()
    process = context.Process(target=jobs.drain, args=(queue,))
    process.start()
    holders = [RawArray("i", 1), RawArray("d", 5000), ndarray(5)]
    for holder in (*holders, None):
        queue.put(holder)
    process.join()
    queue.close()
    queue.join_thread()
    assert [holder[0] for holder in holders] == [7, 7, 7]


def test_memoryview_keeps_the_memory(tmp_path: Path) -> None:
    views = []
    for n in range(20):
        numbers = RawArray("q", [n] * 5000)
        views.append((np.asarray(numbers), memoryview(numbers)))
        del numbers
        gc.collect()
        RawArray("q", 5000)
    assert [int(array[4999]) for array, _ in views] == list(range(20))
    assert [bytes(view)[0] for _, view in views] == list(range(20))


@pytest.mark.parametrize("point", ["chunk.created", "chunk.reserved", "chunk.allocated"])
@pytest.mark.parametrize("size", [8, 100_000])
def test_death_in_an_allocation_harms_no_other_process(
    point: str, size: int, tmp_path: Path
) -> None:
    if not garrison._core.CRASH_POINTS:
        pytest.skip("a build with the feature crash-points")
    before = RawArray("B", b"x" * size)

    def allocate() -> list[int]:
        before[0] += 1
        return [len(RawArray("B", size)) for _ in range(70)]  # more than a page

    with armed(point, tmp_path / "token", allocate) as child:
        reached = died(child, tmp_path / "token")
    # Of large objects each has a chunk, to which nothing is added.
    assert reached == (size == 8 or point != "chunk.allocated")
    assert before[0] == ord("x") + 1
    with Forked(allocate) as child:
        assert child.answer() == repr([size] * 70)


def test_the_type_of_an_array_is_named_after_the_public_module() -> None:
    assert repr(RawArray("h", 771)).startswith("<garrison.sharedctypes.c_short_Array_771 object")
    own = ctypes.c_short * 773
    assert own.__module__ == type(RawArray("h", 773)).__module__ == __name__
