"""Processes that write to one store are killed at random moments."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from garrison import _core
from store.tools import DICT, LIST, open_store
from sync.forked import Forked

KILLS = 40


@pytest.mark.watchdog(120.0)
@pytest.mark.parametrize("in_memory", [True, False])
def test_containers_written_together_agree_after_each_kill(in_memory: bool, tmp_path: Path) -> None:
    chance = random.Random(5)

    def work(store: _core.Store, d: int, a: int) -> None:
        while True:
            store.begin()
            n = store.length(a)
            store.dict_set(d, n % 50, [n, {"n": n}])
            store.list_append(a, n)
            store.dict_set(d, "n", n + 1)
            store.commit()
            store.collect_garbage(20)

    with open_store(folder=None if in_memory else tmp_path) as store:
        d, a = store.create(DICT), store.create(LIST)
        for _ in range(KILLS):
            with Forked(work, store, d, a) as one, Forked(work, store, d, a):
                time.sleep(chance.random() * 0.03)
                one.kill()
                time.sleep(chance.random() * 0.01)
            n = store.length(a)
            assert store.dict_get_or(d, "n", 0) == n
            assert store.list_slice(a, 0, n) == list(range(n))
            assert store.audit() == []
        assert store.length(a) > KILLS
