"""`share`: frozen once, mapped by all."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from garrison import _os
from garrison._pickling import dumps
from garrison.errors import SharedMemoryFull, SharedMemoryGone
from garrison.memory import RawValue, Shared, ndarray, share
from memory import jobs

np = pytest.importorskip("numpy")
for _name in ("pandas", "pyarrow"):
    # Its threads are not those of the first test to use it.
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)


def test_arrays_are_views_that_cannot_be_written_to() -> None:
    original = np.arange(1000.0)
    shared = share({"a": original, "b": [original[::2], "text"], "empty": np.zeros(0)})
    original[:] = 0
    seen = shared.get()
    assert seen["a"].tolist() == list(range(1000))
    assert seen["b"][0].tolist() == list(range(0, 1000, 2))
    assert (seen["b"][1], seen["empty"].size) == ("text", 0)
    for array in (seen["a"], seen["b"][0]):
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_each_get_looks_at_the_same_memory() -> None:
    shared = share(np.zeros(100_000))
    one, two = shared.get(), pickle.loads(dumps(shared)).get()
    assert np.shares_memory(one, two)
    assert one is not two


@pytest.mark.parametrize("data", [b"", b"x", b"abc" * 10_000, bytearray(b"abc"), memoryview(b"ab")])
def test_bytes_arrive_as_a_readonly_view(data: Any) -> None:
    view = share(data).get()
    assert isinstance(view, memoryview)
    assert (bytes(view), view.readonly) == (bytes(data), True)


def test_nested_bytes_are_copied_and_nested_memoryviews_are_views() -> None:
    seen = share({"b": b"x" * 100_000, "v": memoryview(b"y" * 100_000)}).get()
    assert type(seen["b"]) is bytes
    assert type(seen["v"]) is memoryview
    assert seen["v"] == b"y" * 100_000


@pytest.mark.parametrize(
    "view",
    [
        memoryview(np.arange(6).reshape(2, 3)),
        memoryview(np.arange(6).reshape(2, 3).T),
        memoryview(np.arange(10.0))[::2],
        memoryview(np.zeros((2, 0))),
        memoryview(np.array(5)),
    ],
)
def test_memory_views_keep_their_shape(view: memoryview) -> None:
    seen = share([view]).get()[0]
    assert seen.tobytes() == view.tobytes()
    if view.nbytes:
        assert (seen.format, seen.shape) == (view.format, view.shape)


def test_frames_are_views() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": np.arange(100_000), "x": np.ones(100_000)})
    shared = share(frame)
    one, two = shared.get(), shared.get()
    assert one.equals(frame)
    assert np.shares_memory(one["x"].to_numpy(), two["x"].to_numpy())


def test_tables_are_views() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"n": np.arange(100_000), "s": ["text"] * 100_000})
    shared = share([table])
    before = pyarrow.total_allocated_bytes()
    (one,), (two,) = shared.get(), shared.get()
    assert one.equals(table)
    assert pyarrow.total_allocated_bytes() == before
    columns = [each["n"].chunk(0).buffers()[1].address for each in (one, two)]
    assert columns[0] == columns[1]


def test_handles_inside_lead_to_living_memory_and_arrays_are_frozen() -> None:
    value, table = RawValue("i", 1), ndarray(10)
    shared = share({"live": value, "table": table})
    value.value, table[0] = 5, 5
    for _ in range(3):  # any number of times
        seen = pickle.loads(dumps(shared)).get()
        assert seen["live"].value == 5
        assert seen["table"][0] == 0
        assert type(seen["table"]) is np.ndarray
    inner = share(np.ones(10))
    assert share([inner]).get()[0].get().sum() == 10


def test_unpicklable_object_is_refused_and_leaves_nothing() -> None:
    for bad in (lambda: 0, [memoryview(b"x" * 100_000), lambda: 0]):
        with pytest.raises((pickle.PicklingError, AttributeError)) as caught:
            share(bad)
        cycle = [caught.value]
        cycle.append(cycle)  # type: ignore[arg-type]
        del cycle, caught
        gc.collect()


def test_a_full_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_os, "available_memory", lambda: 1000)
    with pytest.raises(SharedMemoryFull, match="1,000 bytes of memory that are left"):
        share(np.zeros(20_000_000))


def test_views_outlive_close() -> None:
    with share(np.ones(100_000)) as shared:
        view = shared.get()
        assert repr(shared) == f"<Shared {shared.nbytes:,} bytes>"
    assert shared.closed
    shared.close()
    assert repr(shared) == "<Shared, closed>"
    for use in (shared.get, lambda: shared.nbytes, lambda: dumps(shared)):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert view.sum() == 100_000


def test_handle_in_transfer_keeps_the_memory_until_close() -> None:
    shared = share(np.ones(100_000))
    pickled = dumps(shared)
    del shared
    gc.collect()
    arrived: Shared[Any] = pickle.loads(pickled)
    assert arrived.get().sum() == 100_000
    late = dumps(arrived)
    arrived.close()
    with pytest.raises(SharedMemoryGone):
        pickle.loads(late)


def test_processes_and_tasks_read_shared_objects(context: Any) -> None:
    shared = share(np.ones(100_000))
    with context.Pool(2) as pool:
        assert pool.map(jobs.total, [shared] * 20) == [100_000.0] * 20
        back = pool.apply(jobs.forward, (shared,))
    assert np.shares_memory(back.get(), shared.get())
    process = context.Process(target=jobs.total, args=(shared,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_an_unrelated_process_that_is_given_the_handle_reads_it() -> None:
    shared = share(np.ones(1000))
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).get().sum())"
    ran = subprocess.run(
        [sys.executable, "-c", code], input=dumps(shared), capture_output=True, check=True
    )
    assert ran.stdout == b"1000.0\n"


def test_share_makes_one_copy_in_all(context: Any) -> None:
    size = 40_000_000
    shared = share(np.ones(size // 8))
    with context.Pool(2) as pool:
        pool.map(jobs.total, [shared] * 4)
        before = sum(map(own_memory, [os.getpid(), *(each.pid for each in pool._pool)]))
        assert pool.map(jobs.total, [shared] * 20) == [size / 8] * 20
        after = sum(map(own_memory, [os.getpid(), *(each.pid for each in pool._pool)]))
    assert after - before < 0.05 * size


def own_memory(pid: int) -> int:
    """Bytes of memory that only this process has."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    lines = [line.split() for line in text.splitlines()]
    return sum(int(line[1]) for line in lines if line[0].startswith("Private_")) * 1024
