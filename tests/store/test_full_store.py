"""A store that is full, under it or in itself: a clear error, and nothing is lost."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from garrison import _core
from garrison.errors import StoreFull
from sync.forked import Forked

from .tools import DICT, LIST, MEBIBYTE, open_store

Store = _core.Store
PIECE = "x" * 1000


def fill(store: Store, d: int, most: int = 1_000_000) -> int:
    """Write until the store is full; how many items it has taken."""
    for number in range(most):
        try:
            store.dict_set(d, number, PIECE)
        except StoreFull:
            return number
    pytest.fail("never full")


def check_fills_and_recovers(store: Store, least: int) -> None:
    d = store.create(DICT)
    taken = fill(store, d)
    assert taken > least
    assert store.length(d) == taken
    assert list(store.scan(d)) == list(range(taken))
    assert set(store.scan(d, "values")) == {PIECE}
    for number in range(taken // 2):  # neighbours: what is freed are pages
        store.dict_delete(d, number)
    for number in range(taken // 4):
        store.dict_set(d, number, PIECE)
    assert store.length(d) == taken - taken // 2 + taken // 4
    store.clear(d)
    again = fill(store, d)
    assert again > taken * 0.7
    store.release_ref(d)
    while store.collect_garbage():
        pass
    assert fill(store, store.create(DICT)) > taken * 0.7


@pytest.mark.parametrize("in_memory", [True, False])
def test_store_at_its_size_limit_raises_store_full(in_memory: bool, tmp_path: Path) -> None:
    with open_store(MEBIBYTE * 4, None if in_memory else tmp_path) as store:
        check_fills_and_recovers(store, 1800)
        assert store.statistics()["bytes_used"] <= MEBIBYTE * 4


def test_a_value_that_is_too_large_for_the_store() -> None:
    with open_store(MEBIBYTE) as store:
        a = store.create(LIST)
        with pytest.raises(StoreFull, match="reached its size"):
            store.list_append(a, b"x" * MEBIBYTE * 2)
        assert store.length(a) == 0
        store.list_append(a, b"x" * 300_000)
        assert store.list_get(a, 0) == b"x" * 300_000


def test_a_transaction_that_finds_no_room_is_rolled_back() -> None:
    with open_store(MEBIBYTE * 2) as store:
        d = store.create(DICT)
        store.dict_set(d, "before", 1)
        store.begin()
        fill(store, d)
        with pytest.raises(RuntimeError, match="abort it"):
            store.dict_set(d, "after", 1)
        store.abort()
        assert store.snapshot(d) == {"before": 1}
        store.dict_set(d, "after", 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", bytes(tmp_path), b"tmpfs", 0, b"size=8m,mode=700"):
        pytest.skip("only root can mount a small file system")
    yield tmp_path
    assert libc.umount2(bytes(tmp_path), 2) == 0


@pytest.mark.parametrize("in_memory", [True, False])
def test_write_without_memory_raises_and_changes_nothing(small_disk: Path, in_memory: bool) -> None:
    with open_store(MEBIBYTE * 64, small_disk, in_memory=in_memory) as store:
        check_fills_and_recovers(store, 3500)
        if in_memory:
            assert store.statistics()["bytes_reserved"] < 8 * MEBIBYTE
            with pytest.raises(StoreFull, match="no memory for more"):
                fill_with_large(store)


def fill_with_large(store: Store) -> None:
    a = store.create(LIST)
    for _ in range(100):
        store.list_append(a, b"x" * 500_000)


def test_store_without_memory_is_not_made(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="space"):
        filler.write_bytes(bytes(MEBIBYTE * 9))
    with pytest.raises(StoreFull), open_store(MEBIBYTE * 64, small_disk, in_memory=True):
        pass
    filler.unlink()
    with open_store(MEBIBYTE * 64, small_disk, in_memory=True) as store:
        store.create(DICT)


def in_child(task: Callable[[], Any]) -> None:
    with Forked(task) as child:
        assert child.join() == 0


def test_limit_on_file_sizes_is_an_error(tmp_path: Path) -> None:
    def limited() -> None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, hard))
        with open_store(MEBIBYTE * 64) as store:  # what is limited is a length, not memory
            store.list_extend(store.create(LIST), [PIECE] * 5000)
        with open_store(MEBIBYTE * 64, tmp_path) as store:
            c, _ = store.named("d", DICT)
            taken = fill(store, c)
            assert store.length(c) == taken > 100
            store.clear(c)
            store.dict_set(c, "again", 1)

    in_child(limited)
    with open_store(MEBIBYTE * 64, tmp_path) as store:
        assert store.snapshot(store.named("d", DICT)[0]) == {"again": 1}


def test_reserved_memory_follows_used_memory() -> None:
    with open_store(1 << 34) as store:
        first = store.statistics()
        assert first["size"] == 1 << 34
        assert first["bytes_reserved"] <= 4 * MEBIBYTE
        store.list_extend(store.create(LIST), [b"x" * MEBIBYTE] * 20)
        grown = store.statistics()
        assert 20 * MEBIBYTE < grown["bytes_used"] <= grown["bytes_reserved"] < 64 * MEBIBYTE


def test_store_grows_through_every_size() -> None:
    with open_store(1 << 34) as store:
        a = store.create(LIST)
        for _ in range(200):
            store.list_extend(a, [b"x" * 3000] * 200)
        assert store.length(a) == 40_000
        for size in range(1, 60):
            store.list_append(a, b"x" * (size * 100_000))
        assert store.statistics()["bytes_used"] > 300 * MEBIBYTE
