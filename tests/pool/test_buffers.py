"""Big arguments and results: one copy into shared memory, views of it, and nothing kept."""

from __future__ import annotations

import array
import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison import Pool

from . import tasks
from .tasks import Door, Tally

np = pytest.importorskip("numpy")

BIG = 200_000
MIB = 1 << 20


def frozen(values: Any) -> Any:
    values.flags.writeable = False
    return values


ARRAYS: dict[str, Callable[[], Any]] = {
    "C order": lambda: np.arange(BIG, dtype=float).reshape(500, 400),
    "Fortran order": lambda: np.asfortranarray(np.arange(BIG).reshape(500, 400)),
    "read-only": lambda: frozen(np.arange(BIG)),
    "structured": lambda: np.zeros(BIG, dtype=[("name", "U8"), ("x", ">f4")]),
    "not contiguous": lambda: np.arange(2 * BIG)[::2],
    "other byte order": lambda: np.arange(BIG, dtype=">i4"),
    "negative stride": lambda: np.arange(BIG)[::-1],
    "no elements": lambda: np.empty((0, 7)),
    "no dimension": lambda: np.array(3.5),
    "objects": lambda: np.array([{"n": n} for n in range(1000)]),
    "masked": lambda: np.ma.masked_less(np.arange(BIG), 7),
    "matrix of times": lambda: np.arange(BIG).astype("M8[s]").reshape(2, -1),
    "small": lambda: np.arange(3),
}


def same(one: Any, other: Any) -> bool:
    return (
        type(one) is type(other)
        and one.dtype == other.dtype
        and one.shape == other.shape
        and bool(np.array_equal(one, other))
    )


def is_writeable(values: Any) -> bool:
    return bool(values.flags.writeable)


@pytest.mark.parametrize("kind", ARRAYS)
def test_array_is_sent_and_returned(kind: str) -> None:
    values = ARRAYS[kind]()
    with Pool(1) as pool:
        back = pool.apply(tasks.identity, (values,))
        assert same(back, values)
        # What is read-only here is the task's own there, as with the standard library.
        assert pool.apply(is_writeable, (values,))
        assert back.flags.writeable
        if values.flags.contiguous:
            assert back.flags.f_contiguous == values.flags.f_contiguous
        assert [same(each, values) for each in pool.map(tasks.identity, [values] * 3)] == [True] * 3


def test_an_array_under_each_start_method(context: Any) -> None:
    values = np.arange(BIG)
    with context.Pool(2) as pool:
        assert all(same(each, values) for each in pool.map(tasks.identity, [values] * 4))
        assert all(same(each, values) for each in pool.imap(tasks.identity, [values] * 4))


OTHERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytes(range(256)) * 1000,
    "bytearray": lambda: bytearray(range(256)) * 1000,
    "array": lambda: array.array("d", range(BIG)),
    "text": lambda: "ä" * BIG,
    "empty": lambda: (b"", bytearray(), array.array("i")),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_big_values_are_sent_and_returned(kind: str) -> None:
    value = OTHERS[kind]()
    with Pool(1) as pool:
        back = pool.apply(tasks.identity, (value,))
    assert back == value
    assert type(back) is type(value)


def test_a_memoryview_is_refused_as_in_the_standard_library() -> None:
    with Pool(1) as pool:
        for length in (10, BIG):
            with pytest.raises(TypeError, match="cannot pickle"):
                pool.apply(tasks.identity, (memoryview(b"x" * length),))


def test_several_arrays_in_one_argument() -> None:
    one, two = np.arange(BIG), np.ones((300, 300))
    with Pool(1) as pool:
        nested = pool.apply(tasks.identity, ({"a": [one, two], "b": (one, b"x" * BIG)},))
        assert same(nested["a"][0], one)
        assert same(nested["a"][1], two)
        assert nested["a"][0] is nested["b"][0]
        assert pool.starmap(np.add, [(one, 1), (two, two)])[1][0][0] == 2


def test_an_argument_by_value_may_have_buffers() -> None:
    values = np.arange(BIG)
    with Pool(1) as pool:
        # A lambda beside the array: cloudpickle writes this one.
        found = pool.apply(lambda f, a: f(a), (lambda a: a + 1, values))
        assert same(found, values + 1)
        assert pool.apply(lambda: int(values.sum())) == int(values.sum())


def change_and_sum(values: Any) -> int:
    values[:] = 1
    return int(values.sum())


def test_a_worker_may_write_into_its_argument() -> None:
    values = np.zeros(BIG, dtype=int)
    with Pool(1) as pool:
        assert pool.apply(change_and_sum, (values,)) == BIG
        assert pool.map(change_and_sum, [values, values], chunksize=1) == [BIG, BIG]
    assert values.sum() == 0


def test_a_result_may_be_written_into() -> None:
    with Pool(1) as pool:
        one = pool.apply(np.zeros, (BIG,))
        two = pool.apply(np.zeros, (BIG,))
        one[:] = 7
        assert two.sum() == 0
        assert one.sum() == 7 * BIG


# --- How long a view lives --------------------------------------------------------------------


def test_a_result_outlives_further_tasks_and_the_pool() -> None:
    with Pool(1) as pool:
        kept = pool.apply(np.full, (BIG, 42))
        part = pool.apply(np.arange, (BIG,))[100:200]
        for n in range(100):
            assert pool.apply(np.full, (BIG, n))[0] == n
    del pool
    gc.collect()
    assert (kept == 42).all()
    assert (part == np.arange(100, 200)).all()


def test_a_result_outlives_its_worker(context: Any) -> None:
    with context.Pool(1, maxtasksperchild=1) as pool:
        kept = [pool.apply(np.full, (BIG, n)) for n in range(3)]
        with pytest.raises(garrison.WorkerDied):
            pool.apply(tasks.die)
        kept += [pool.apply(np.full, (BIG, n)) for n in range(3, 6)]
        assert all((values == n).all() for n, values in enumerate(kept))


def test_an_exception_with_an_array() -> None:
    values = np.arange(BIG)
    with Pool(1) as pool:
        with pytest.raises(LookupError) as caught:
            pool.apply(tasks.fail, (LookupError(values),))
        assert same(caught.value.args[0], values)


def in_a_fork(check: Callable[[], bool]) -> int:
    """Start a forked process that leaves with 0 if all is well."""
    pid = os.fork()
    if pid == 0:
        good = False
        with contextlib.suppress(BaseException):
            good = check()
        os._exit(0 if good else 1)
    return pid


def leaves_well(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_fork_and_its_parent_do_not_share_writes(tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        values = pool.apply(np.zeros, (BIG,))
        values[0] = 3

        def check() -> bool:
            door.wait()
            unchanged = values[0] == 3 and values.sum() == 3
            values[:] = 5
            return bool(unchanged)

        pid = in_a_fork(check)
        values[1] = 4
        door.push()
        assert leaves_well(pid)
        assert values.sum() == 7


def test_fork_keeps_a_result_that_its_parent_drops(tmp_path: Path) -> None:
    door = Door(tmp_path, "door")
    with Pool(1) as pool:
        held = [pool.apply(np.full, (BIG, 42))]

        def check() -> bool:
            door.wait()
            return bool((held[0] == 42).all())

        pid = in_a_fork(check)
        held.clear()
        for n in range(20):
            assert pool.apply(np.full, (BIG, n))[0] == n
        door.push()
        assert leaves_well(pid)


_kept: list[Any] = []


def keep(values: Any) -> None:
    _kept.append(values)


def kept_sums() -> list[int]:
    return [int(values.sum()) for values in _kept]


def forget() -> None:
    _kept.clear()


def allocated(pool: Pool) -> int:
    """Bytes of the parent's heap: arguments under way, and the pickles of functions."""
    number: int = pool._backend.parent.allocated
    return number


def test_an_argument_that_a_worker_keeps_stays_valid() -> None:
    with Pool(1) as pool:
        pool.apply(kept_sums)
        pool.apply(forget)
        pool.apply(keep, (np.zeros(1),))
        before = allocated(pool)
        for n in range(5):
            pool.apply(keep, (np.full(BIG, n),))
        for _ in range(20):
            pool.apply(tasks.identity, (np.full(BIG, 99),))
        assert pool.apply(kept_sums) == [0, *(n * BIG for n in range(5))]
        pool.apply(forget)
        pool.apply(keep, (np.zeros(1),))
        assert allocated(pool) - before < 8 * BIG


def test_memory_of_arguments_is_freed() -> None:
    with Pool(1) as pool:
        pool.map(tasks.identity, [1, 2])
        before = allocated(pool)
        results = pool.map(tasks.identity, [np.full(BIG, n) for n in range(10)], chunksize=1)
        assert [values[0] for values in results] == list(range(10))
        pending = [pool.apply_async(tasks.identity, (np.full(BIG, n),)) for n in range(10)]
        assert allocated(pool) > before
        assert [result.get()[0] for result in pending] == list(range(10))
        # By now the worker has let go of the task before.
        assert pool.apply(tasks.identity, (1,)) == 1
        assert allocated(pool) == before
        assert pool.statistics().in_flight == 0


def test_memory_of_arguments_of_a_lost_task_is_freed() -> None:
    with Pool(1) as pool:
        pool.apply(tasks.identity, (1,))
        with pytest.raises(garrison.WorkerDied):
            pool.apply(die_with, (np.ones(1),))
        before = allocated(pool)
        for _ in range(3):
            with pytest.raises(garrison.WorkerDied):
                pool.apply(die_with, (np.ones(BIG),))
        assert pool.apply(tasks.identity, (1,)) == 1
        assert allocated(pool) == before


def die_with(_values: Any) -> None:
    tasks.die()


def shared_memory(pid: int) -> int:
    """Bytes of shared memory that a process has touched and still holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.watchdog(60)
def test_memory_is_flat_over_many_rounds() -> None:
    values = np.ones(32 * MIB, dtype=np.uint8)
    with Pool(1) as pool:
        pids = (os.getpid(), *pool.statistics().worker_pids)
        for n in range(200):
            back = pool.apply(tasks.identity, (values,))
            assert back[-1] == 1
            del back
            if n == 9:
                before = [shared_memory(pid) for pid in pids]
        after = [shared_memory(pid) for pid in pids]
    assert max(now - then for now, then in zip(after, before, strict=True)) <= 33 * MIB
    assert max(after) <= 4 * 33 * MIB


# --- Attempts ---------------------------------------------------------------------------------


def spoil_then_die(tally: Tally, values: Any) -> int:
    total = int(values.sum())
    values[:] = -1
    if tally.add() < 3:
        tasks.die()
    return total


def spoil_then_raise(tally: Tally, values: Any) -> int:
    total = int(values.sum())
    values[:] = -1
    if tally.add() < 3:
        raise ConnectionError
    return total


def test_a_retry_gets_unmodified_arguments(tmp_path: Path) -> None:
    with Pool(1, retries=2) as pool:
        values = np.ones(BIG, dtype=int)
        assert pool.apply(spoil_then_die, (Tally(tmp_path), values)) == BIG


def test_a_retry_after_an_exception_gets_unmodified_arguments(tmp_path: Path) -> None:
    with Pool(1, retries=2, retry_on=ConnectionError) as pool:
        values = np.ones(BIG, dtype=int)
        assert pool.apply(spoil_then_raise, (Tally(tmp_path), values)) == BIG


def test_a_retry_after_an_exception_gets_an_unmodified_list(tmp_path: Path) -> None:
    def grow(tally: Tally, items: list[int]) -> int:
        items.append(0)
        if tally.add() < 3:
            raise ConnectionError
        return len(items)

    with Pool(1, retries=2, retry_on=ConnectionError) as pool:
        assert pool.apply(grow, (Tally(tmp_path), [])) == 1
