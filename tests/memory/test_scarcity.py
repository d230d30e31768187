"""Shared memory that would exceed what a control group leaves: refused, before the kernel kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from garrison import Manager, Pool, Queue, RawArray, SharedMemoryFull
from garrison.errors import StoreFull
from garrison.shared_memory import SharedMemory

MEGABYTE = 1 << 20
LIMIT = 300 * MEGABYTE
MORE_THAN_PERMITTED = 80 * MEGABYTE
"""A process that was permitted memory a moment ago, in another test, looks again for so much."""

Leave = Callable[[int], None]


@pytest.fixture
def leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leave:
    """Have a control group with a limit of 300 MB, and say how many bytes of it are left."""
    group = tmp_path / "sys/fs/cgroup/outer"
    for folder in (tmp_path / "proc/self", group / "inner"):
        folder.mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: {LIMIT}\nMemAvailable: {LIMIT}\n")
    (group.parent / "cgroup.controllers").write_text("memory\n")
    (group / "memory.max").write_text(f"{LIMIT}\n")

    def leave(size: int) -> None:
        (group / "memory.current").write_text(f"{LIMIT - size}\n")
        monkeypatch.setenv("GARRISON_TEST_ROOT", str(tmp_path))

    return leave


def fill(put: Callable[[bytes], object], size: int) -> tuple[int, SharedMemoryFull]:
    """Put items until the first error: how many fitted, and the error."""
    for count in range(200 * MEGABYTE // size):
        try:
            put(bytes(size))
        except SharedMemoryFull as error:
            return count, error
    pytest.fail("no item was refused")


def test_block_that_would_exceed_the_limit_is_refused(leave: Leave) -> None:
    leave(30 * MEGABYTE)
    with pytest.raises(SharedMemoryFull, match=r"memory\.max") as caught:
        RawArray("B", MORE_THAN_PERMITTED)
    text = str(caught.value)
    assert f"{30 * MEGABYTE} of {LIMIT} are left" in text
    assert "raise the limit" in text
    leave(200 * MEGABYTE)
    assert len(RawArray("B", 2 * MEGABYTE)) == 2 * MEGABYTE


def test_named_memory_that_would_exceed_the_limit_is_refused(leave: Leave) -> None:
    leave(30 * MEGABYTE)
    with pytest.raises(SharedMemoryFull, match=r"memory\.max"):
        SharedMemory(create=True, size=MORE_THAN_PERMITTED)


@pytest.mark.parametrize("size", [1000, 50_000, 200_000, 2 * MEGABYTE])
def test_full_group_is_an_error_of_put_and_items_stay(leave: Leave, size: int) -> None:
    queue = Queue()
    leave(15 * MEGABYTE)
    count, error = fill(queue.put, size)
    assert "are left" in str(error)
    assert queue.qsize() == count
    leave(200 * MEGABYTE)
    queue.put(b"more")
    assert [len(queue.get()) for _ in range(count + 1)] == [size] * count + [4]


def test_full_group_is_store_full_and_entries_stay(leave: Leave) -> None:
    with Manager() as manager:
        shared = manager.list()
        leave(15 * MEGABYTE)
        count, error = fill(shared.append, 100_000)
        assert isinstance(error, StoreFull)
        assert "memory.max" in str(error)
        assert [len(item) for item in shared] == [100_000] * count
        shared.clear()
        shared.append("there is room again")
        assert list(shared) == ["there is room again"]
        del shared, error


def test_results_beyond_the_limit_fail_alone(context: Any, leave: Leave) -> None:
    leave(200 * MEGABYTE)
    with context.Pool(2) as pool:
        assert pool.map(bytes, [3, 4]) == [bytes(3), bytes(4)]
        leave(25 * MEGABYTE)
        results = [pool.apply_async(bytes, (2 * MEGABYTE,)) for _ in range(50)]
        for result in results:
            result.wait()
        assert pool.apply(len, ("there",)) == 5
        refused = [result for result in results if not result.successful()]
        with pytest.raises(SharedMemoryFull, match=r"take results earlier"):
            refused[0].get()
        good = [result for result in results if result.successful()]
        assert {len(result.get()) for result in good} <= {2 * MEGABYTE}


def test_arguments_beyond_the_limit_are_refused(leave: Leave) -> None:
    with Pool(1) as pool:
        leave(30 * MEGABYTE)
        with pytest.raises(SharedMemoryFull, match=r"memory\.max"):
            pool.map(len, [bytes(2 * MEGABYTE)] * 40, chunksize=1)
        leave(200 * MEGABYTE)
        assert pool.apply(len, (bytes(2 * MEGABYTE),)) == 2 * MEGABYTE


def test_memory_of_results_goes_back_as_they_are_read(leave: Leave) -> None:
    """While memory is scarce: an idle worker would not look for what it has back."""
    with Pool(1) as pool:
        results = [pool.apply_async(bytes, (2 * MEGABYTE,)) for _ in range(20)]
        for result in results:
            result.wait()
        full = shared_kilobytes(pool)
        leave(30 * MEGABYTE)
        for result in results:
            assert len(result.get()) == 2 * MEGABYTE
        assert full - shared_kilobytes(pool) > 30 * 1024
        leave(200 * MEGABYTE)
        for fill_byte in (b"a", b"b"):
            again = [pool.apply_async(fill_byte.__mul__, (2_000_000 + n,)) for n in range(20)]
            for n, result in enumerate(again):
                assert result.get() == fill_byte * (2_000_000 + n)


def shared_kilobytes(pool: Any) -> int:
    """The memory of a pool's file."""
    fd = pool._backend.table.fd
    return Path(f"/proc/self/fd/{fd}").stat().st_blocks // 2
