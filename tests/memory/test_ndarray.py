"""`ndarray`: a numpy array that all processes write to."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from typing import Any

import pytest

from garrison import Pool
from garrison._pickling import dumps
from garrison.errors import SharedMemoryFull
from garrison.memory import ndarray
from memory import jobs

np = pytest.importorskip("numpy")


@pytest.mark.parametrize("shape", [0, 7, (), (3,), (2, 3), (2, 0, 5), np.int64(4), [2, 2]])
@pytest.mark.parametrize("dtype", [float, "i1", ">u4", "c16", "U5", [("a", "i4"), ("b", "f8")]])
def test_new_array_equals_numpy_zeros(shape: Any, dtype: Any) -> None:
    array, expected = ndarray(shape, dtype), np.zeros(shape, dtype)
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    assert (array == expected).all()
    again = pickle.loads(dumps(array))
    assert (again.shape, again.dtype, again.strides) == (array.shape, array.dtype, array.strides)


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        (-1, float, ValueError),
        ((2, -3), float, ValueError),
        (2.5, float, TypeError),
        (3, object, TypeError),
        (3, [("a", object)], TypeError),
        (3, "no such type", TypeError),
        (1 << 60, float, SharedMemoryFull),
    ],
)
def test_bad_input_is_refused(shape: Any, dtype: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ndarray(shape, dtype)


def test_without_numpy_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match="install numpy"):
        ndarray(3)


def test_slices_travel_as_views_of_the_same_memory() -> None:
    table = ndarray((4, 6), "i4")
    part = pickle.loads(dumps(table[1:, ::2]))
    part[0, 0] = 9
    pickle.loads(dumps(table.T[::-1]))[5, 3] = 8
    assert (table[1, 0], table[3, 0]) == (9, 8)
    large = dumps(ndarray(100_000))
    assert len(large) < 600
    assert pickle.loads(large).nbytes == 800_000


def test_what_numpy_computes_is_an_ordinary_array() -> None:
    table = ndarray((2, 3))
    assert type(table + 1) is np.ndarray
    assert type(table.sum(axis=0)) is np.ndarray
    assert type(pickle.loads(dumps(table.copy()))) is np.ndarray
    assert isinstance(table.sum(), float)
    mine = copy.deepcopy(table)
    mine[0, 0] = 1
    table += 2
    assert pickle.loads(dumps(table))[0, 0] == 2


def test_views_outlive_the_array() -> None:
    views = []
    for n in range(20):
        array = ndarray(5000)
        array[:] = n
        views.append(array[10:20])
        del array
        gc.collect()
        ndarray(5000)
    assert [float(view.sum()) for view in views] == [10.0 * n for n in range(20)]


def test_processes_and_tasks_write_to_it(context: Any) -> None:
    table = ndarray((3, 4))
    process = context.Process(target=jobs.put, args=(table, (0, 0), 5))
    process.start()
    process.join()
    with context.Pool(2) as pool:
        pool.starmap(jobs.put, [(table[1], slice(None), 6), (table[:, 3], 2, 7)])
        assert pool.apply(jobs.forward, (table,)).tolist() == table.tolist()
    assert table.tolist() == [[5, 0, 0, 0], [6, 6, 6, 6], [0, 0, 0, 7]]


def test_large_sent_array_is_freed_with_its_last_user() -> None:
    with Pool(1) as pool:
        for _ in range(3):
            # Written twice, since the function travels by value.
            assert pool.apply(lambda array: array.nbytes, (ndarray(100_000),)) == 800_000
    gc.collect()  # what is left is found by the fixture
