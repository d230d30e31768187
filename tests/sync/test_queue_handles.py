"""A handle that could not be put is not under way."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
from collections.abc import Callable
from typing import Any

import pytest

import garrison
from garrison import _core
from garrison._pickling import dumps
from garrison.sync import Queue

np = pytest.importorskip("numpy")
LARGE = 100_000


def full(channel: Any, item: Any) -> None:
    channel.put_nowait(item)


def full_of_many(channel: Any, item: Any) -> None:
    channel.put_many([item], block=False)


def unpicklable(channel: Any, item: Any) -> None:
    channel.put([item, lambda: 0])


def beside_what_is_read_only(channel: Any, item: Any) -> None:
    frozen = np.zeros(LARGE)
    frozen.flags.writeable = False
    channel.get()
    channel.put([item, frozen])
    channel.get()
    channel.put(0)


@pytest.mark.parametrize("use", [full, full_of_many, unpicklable, beside_what_is_read_only])
def test_failed_put_of_a_handle_keeps_nothing(use: Callable[[Any, Any], None]) -> None:
    channel = Queue(1)
    channel.put(0)
    kept = len(_core.open_descriptors())
    for _ in range(5):
        item = garrison.RawArray("b", LARGE)
        with contextlib.suppress(queue.Full, TypeError):
            use(channel, item)
        del item
    garrison.RawArray("b", LARGE)  # with the next one, what has arrived is looked through
    Queue(1).put(garrison.Event())
    assert len(_core.open_descriptors()) <= kept + 1


def test_handle_that_is_unpickled_twice_counts_once() -> None:
    import pickle

    first, second = garrison.RawArray("b", LARGE), Queue()
    data = dumps(first)
    pickle.loads(data)
    pickle.loads(data)
    second.put(first)
    del first
    assert len(second.get()) == LARGE


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_executor_with_a_context_of_ours(method: str) -> None:
    context = garrison.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        assert executor.submit(abs, -5).result(20) == 5
