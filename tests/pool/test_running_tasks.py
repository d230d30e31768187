"""Tasks that are watched together, and how `imap_unordered` finds the next result by them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import deque
from functools import partial
from typing import Any

import pytest

import garrison
from garrison.options import Options
from garrison.pool import Pool, ThreadPool
from garrison.pool._payload_kinds import PayloadKind
from waiting import wait_until


@pytest.fixture(params=["processes", "threads"])
def pools(request: pytest.FixtureRequest) -> Any:
    return Pool if request.param == "processes" else ThreadPool


def submit(backend: Any, function: Any, *args: Any) -> Any:
    registered = backend.register(function, Options())
    return backend.submit(registered, PayloadKind.ARGS, args, Options())


def wait_for(event: Any, number: int) -> int:
    event.wait()
    return number


def test_tasks_are_collected_once_in_the_order_of_their_ends(pools: Any) -> None:
    with pools(3) as pool:
        backend = pool._backend
        events = [garrison.Event() for _ in range(3)]
        begun = [submit(backend, wait_for, event, n) for n, event in enumerate(events)]
        running = backend.running_tasks()
        for number, task in enumerate(begun):
            running.add(task, number)
        ended: deque[int] = deque()
        assert not running.collect(ended)
        for number in (2, 0):
            events[number].set()
            assert backend.wait(begun[number], None)
        assert running.collect(ended)
        assert list(ended) == [2, 0]
        assert len(running) == 1
        assert not running.collect(ended)
        events[1].set()
        assert backend.wait_any(running, None, backend.interrupts)
        assert running.collect(ended)
        assert list(ended) == [2, 0, 1]


def test_running_tasks_in_a_cycle_are_freed() -> None:
    class Owner:
        running: Any

    with Pool(1) as pool:
        owner = Owner()
        task = submit(pool._backend, abs, -1)
        owner.running = pool._backend.running_tasks()
        owner.running.add(task, owner)
        gone = weakref.ref(owner)
        del owner
        gc.collect()
        assert gone() is None
        assert pool._backend.wait(task, None)


def test_collector_is_told_the_same_throughout_while_a_thread_waits() -> None:
    """What it is shown in one of its passes only, it takes for garbage."""
    with Pool(1) as pool:
        backend, event = pool._backend, garrison.Event()
        task = submit(backend, wait_for, event, 1)
        running = backend.running_tasks()
        running.add(task, object())
        assert len(gc.get_referents(running)) == 2
        thread = threading.Thread(target=backend.wait_any, args=(running, None, backend.interrupts))
        thread.start()
        wait_until(lambda: not gc.get_referents(running))
        shown = [gc.get_referents(running) for _ in range(1000)]
        event.set()
        thread.join()
        assert not any(shown)
        assert len(gc.get_referents(running)) == 2


def test_batch_that_an_interrupt_has_left_unwatched_is_found() -> None:
    """Ctrl-C may come after a batch is in the list, and before its task is watched."""
    with Pool(2) as pool:
        event = garrison.Event()
        results = pool.imap_unordered(partial(wait_for, event), range(6))
        reader = results.stream.reader
        reader.running = pool._backend.running_tasks()
        reader.is_placing = True
        event.set()
        assert sorted(results) == list(range(6))


def test_cells_are_small_again_at_the_end_of_an_input() -> None:
    with Pool(2) as pool:
        reader = pool.imap_unordered(abs, range(8)).stream.reader
        reader.size, reader.last_size, reader._slow = 64, 3, False
        sizes = []
        left = 1000
        while left:
            reader._source = iter(range(left))
            sizes.append(min(left, reader._next_size()))
            left -= sizes[-1]
        assert sizes[0] == 64
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-2] == 3


def test_cells_last_longer_while_the_consumer_never_waits() -> None:
    with Pool(2) as pool:
        stream = pool.imap_unordered(abs, range(8)).stream
        for _ in range(100):
            stream._adapt(100_000)
        assert stream.reader.size == 12
        assert stream.reader.last_size == 1
        for _ in range(4):
            stream._has_waited()
        stream._adapt(100_000)
        assert stream.reader.size == 1
