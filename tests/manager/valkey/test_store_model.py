"""Random operations on a backend, against Python's own dict, list, set and deque.

The model is that of the core's store: the two implement one contract.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest

from garrison.manager.valkey._backend import ValkeyBackend, open_store
from garrison.manager.valkey._connection import Link as Connections
from garrison.manager.valkey._url import parse_url
from store.test_model import Model
from store.tools import Hooks
from valkey_server import ValkeyServer

from .store_audit import Audit

SEEDS = range(int(os.environ.get("GARRISON_MODEL_SEEDS", "4")))
STEPS = 800


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_agree_with_plain_objects(server: ValkeyServer, seed: int) -> None:
    with contextlib.closing(Connections(parse_url(server.url()))) as link:
        backend: Any = ValkeyBackend(link, Hooks(open_store(link)))
        model = Model(backend, seed)
        for step in range(STEPS):
            if model.random.random() < 0.05:
                model.transaction(keep=model.random.random() < 0.5)
            else:
                model.step()
            if step % 20 == 0:
                model.compare()
            if step % 100 == 0:
                assert Audit(server).check() == []
                backend.collect_garbage()
        model.compare()
        for c in (*model.numbers, model.deque):
            backend.release_ref(c)
        backend.collect_garbage()
        left = Audit(server)
        assert (left.check(), left.heads) == ([], {})
