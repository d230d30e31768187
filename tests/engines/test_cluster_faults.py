"""Odd arguments, damaged messages, interrupts and repeated losses, on a cluster's pool."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison.engines.cluster import _blobs, agent
from garrison.engines.cluster._driver import NodeDriver
from garrison.engines.cluster._messages import RESULTS, RETURNED, VALUE, Batch
from garrison.errors import PoolClosed, SharedMemoryFull, WorkerDied
from waiting import wait_until

from . import local_cluster
from .local_cluster import LocalCluster, LocalEngine, LocalNode
from .tasks import Marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.watchdog(60)


@pytest.fixture
def engine() -> LocalEngine:
    return LocalEngine(nodes=2, workers=1)


@pytest.fixture
def pool(engine: LocalEngine) -> Iterator[Any]:
    with garrison.Pool(engine=engine) as made:
        yield made


# --- Functions ------------------------------------------------------------------------------------


def after_a_while(n: int) -> int:
    time.sleep(0.005)
    return n


def test_a_function_that_many_others_displace_runs_all_its_tasks() -> None:
    with garrison.Pool(engine=LocalEngine(nodes=1, workers=1)) as pool:
        first = [pool.apply_async(after_a_while, (n,)) for n in range(60)]
        wait_until(first[2].ready)
        others = [pool.apply_async(partial(max, n), (0,)) for n in range(600)]
        assert [result.get(30) for result in first] == [*range(60)]
        assert [result.get(30) for result in others] == [*range(600)]


# --- Arguments --------------------------------------------------------------------------------


def test_items_of_a_chunk_are_as_they_were_when_they_were_read(pool: Any) -> None:
    np = pytest.importorskip("numpy")

    def same_memory() -> Iterator[Any]:
        array = np.zeros(10_000)
        for n in range(7):
            array[:] = n
            yield array

    firsts = pool.imap(lambda array: array[0], same_memory(), chunksize=3)
    assert list(firsts) == [*range(7)]


def test_items_of_a_chunk_may_have_shared_objects_beside_large_buffers(pool: Any) -> None:
    np = pytest.importorskip("numpy")

    def add(item: Any) -> Any:
        table, array = item
        return table.get()[0] + array[0]

    with garrison.share(np.arange(5, 10)) as table:
        items = ((table, np.full(10_000, n)) for n in range(7))
        assert list(pool.imap(add, items, chunksize=3)) == [*range(5, 12)]


class CallsPool:
    """Its pickle is what a pool returns."""

    def __init__(self, call: Callable[[], int]) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return int, (self.call(),)


def test_an_argument_beside_shared_objects_may_use_the_pool_when_it_is_pickled(pool: Any) -> None:
    np = pytest.importorskip("numpy")

    def read(first: Any, inner: int, second: Any) -> list[int]:
        return [int(first.get()[0]), inner, int(second.get()[0])]

    first, second, third = (garrison.share(np.array([n])) for n in (1, 2, 3))
    with first, second, third:
        inner = CallsPool(lambda: pool.apply(lambda table: int(table.get()[0]), (second,)))
        assert pool.apply(read, (first, inner, third)) == [1, 2, 3]


class FailsAtLoad:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_an_item_that_no_worker_can_load_fails_alone(pool: Any) -> None:
    results = pool.imap(lambda item: item, [1, 2, FailsAtLoad(), 4, 5], chunksize=5)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="no number"):
        next(results)
    assert list(results) == [4, 5]


# --- Shared objects -------------------------------------------------------------------------------


def test_an_idle_node_is_told_to_drop_shared_objects(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    np = pytest.importorskip("numpy")
    dropped: list[int] = []
    give = LocalNode.give

    def note(node: LocalNode, message: bytes, blobs: Any) -> Any:
        dropped.extend(Batch(*pickle.loads(message)).drop)
        return give(node, message, blobs)

    monkeypatch.setattr(LocalNode, "give", note)
    with garrison.share(np.arange(10)) as table:
        assert pool.apply(lambda shared: int(shared.get()[3]), (table,)) == 3
    del table
    wait_until(lambda: dropped)


def test_a_shared_object_comes_again_to_a_node_that_had_no_memory_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    np = pytest.importorskip("numpy")

    def full(_: object) -> None:
        raise SharedMemoryFull("no room")

    def is_opened() -> bool:
        with contextlib.suppress(LookupError):
            return bool(pool.apply(lambda shared: shared.get()[0], (table,)) == 7)
        return False

    with (
        garrison.Pool(engine=LocalEngine(nodes=1, workers=1)) as pool,
        garrison.share(np.array([7])) as table,
    ):
        with monkeypatch.context() as patched:
            patched.setattr(agent, "copied_block", full)
            with pytest.raises(LookupError, match="no memory for it"):
                pool.apply(lambda shared: shared.get()[0], (table,))
        wait_until(is_opened)


def test_workers_forget_shared_objects() -> None:
    np = pytest.importorskip("numpy")
    with garrison.Pool(engine=LocalEngine(nodes=1, workers=1)) as pool:
        for n in range(20):
            with garrison.share(np.array([n])) as table:
                assert pool.apply(lambda shared: int(shared.get()[0]), (table,)) == n
        assert pool.apply(lambda: len(_blobs._opened)) <= 1


# --- Losses ---------------------------------------------------------------------------------------


def test_no_task_begins_more_often_than_its_retries_allow(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "begun")

    def die_in_all_ways() -> None:
        if marks.add() < 3:
            os._exit(1)
        time.sleep(60)

    engine = LocalEngine(nodes=1, workers=1, replace=True)
    with garrison.Pool(engine=engine) as pool:
        result = pool.options(retries=2).apply_async(die_in_all_ways)
        marks.wait_for(3)
        os.kill(next(iter(engine.cluster.nodes.values())).pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            result.get(30)
        assert pool.apply(abs, (-1,)) == 1
        assert pool.statistics().retried == 2
    assert marks.count() == 3


def test_each_item_of_a_chunk_has_its_own_retries(pool: Any, tmp_path: Path) -> None:
    def die_once(item: int) -> int:
        if Marks(tmp_path / str(item)).add() == 1 and item % 2:
            os._exit(1)
        return item

    assert pool.options(retries=1).map(die_once, range(6), chunksize=6) == [*range(6)]


# --- Messages -----------------------------------------------------------------------------------


def damage_first_reply(monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], Any]) -> None:
    """Have the first reply that any node sends replaced by others."""
    first = itertools.count()

    class Damaged(LocalNode):
        def collect(self) -> Any:
            return self._threads.submit(self._replies)

        def _replies(self) -> list[bytes]:
            found: list[bytes] = []
            for reply in self.agent.collect(1.0):
                found += damage(reply) if not next(first) else [reply]
            return found

    monkeypatch.setattr(local_cluster, "LocalNode", Damaged)


UNREADABLE: dict[str, Callable[[bytes], Any]] = {
    "truncated": lambda reply: [reply[:-4]],
    "empty": lambda _: [b""],
    "of an unknown kind": lambda _: [pickle.dumps((99, None))],
    "of another form": lambda _: [pickle.dumps((RESULTS, None))],
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_message_that_cannot_be_read_costs_its_node(
    engine: LocalEngine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_first_reply(monkeypatch, UNREADABLE[kind])
    with garrison.Pool(engine=engine) as pool:
        results = [pool.options(retries=1).apply_async(abs, (-n,)) for n in range(10)]
        assert [result.get(30) for result in results] == [*range(10)]
        assert pool.statistics().workers == 1


SURPLUS: dict[str, Callable[[bytes], Any]] = {
    "twice": lambda reply: [reply, reply],
    "unknown": lambda reply: [pickle.dumps((RESULTS, ([(10**9, VALUE, 3)], 0))), reply],
    "given back": lambda reply: [reply, pickle.dumps((RETURNED, [*range(1, 20)]))],
}


@pytest.mark.parametrize("kind", SURPLUS)
def test_a_result_that_nobody_waits_for_is_ignored(
    engine: LocalEngine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_first_reply(monkeypatch, SURPLUS[kind])
    with garrison.Pool(engine=engine) as pool:
        assert pool.map(abs, range(-9, 0), chunksize=1) == [*range(9, 0, -1)]
        assert pool.statistics().workers == 2


# --- Interrupts, and forked children --------------------------------------------------------------


def test_an_interrupted_end_is_completed_by_the_next_call(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = garrison.Pool(engine=engine)
    with monkeypatch.context() as patched:
        patched.setattr(LocalCluster, "stop", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.terminate()
    pool.terminate()
    pool.join()
    assert engine.cluster.stopped


def test_a_task_whose_submission_was_interrupted_does_not_keep_the_pool(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = garrison.Pool(engine=engine)
    with monkeypatch.context() as patched:
        patched.setattr(NodeDriver, "wake", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.apply(abs, (-1,))
    pool.close()
    pool.join()
    assert engine.cluster.stopped


def _interrupted(_: object) -> None:
    raise KeyboardInterrupt


def test_a_forked_child_is_told_that_it_cannot_wait(pool: Any) -> None:
    result = pool.apply_async(time.sleep, (60,))
    pid = os.fork()
    if not pid:
        try:
            result.get(30)
        except PoolClosed:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
