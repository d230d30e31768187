"""The two levels of a cluster's pool, over agents that this process has."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import garrison
from garrison.engines.cluster._messages import about, check_versions
from garrison.errors import (
    ArgumentUnpicklable,
    EngineLost,
    EngineMismatch,
    PoolBroken,
    PoolTerminated,
    TaskTimeout,
    WorkerDied,
)
from waiting import wait_until

from .local_cluster import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.watchdog(60)


class Point:
    """A class of the program."""

    def __init__(self, x: int) -> None:
        self.x = x


@pytest.fixture
def engine() -> LocalEngine:
    return LocalEngine(nodes=2, workers=1)


@pytest.fixture
def pool(engine: LocalEngine) -> Iterator[Any]:
    with garrison.Pool(engine=engine) as made:
        yield made


def pids_of(engine: LocalEngine) -> dict[int, str]:
    return {node.pid: node.name for node in engine.cluster.nodes.values()}


def is_gone(pid: str) -> bool:
    return not Path(f"/proc/{pid}").exists()


def parent_of_pool() -> int:
    """Return the process of the node's pool: a worker's parent's parent."""
    return int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])


def parent_of_pool_after(seconds: float) -> int:
    time.sleep(seconds)
    return parent_of_pool()


def mark_and(path: Path, item: int) -> int:
    with path.open("a") as file:
        file.write(f"{item}\n")
    return item


# --- Calls and results ----------------------------------------------------------------------------


def test_both_nodes_work(pool: Any, engine: LocalEngine) -> None:
    found = set(pool.map(parent_of_pool_after, [0.05] * 8, chunksize=1))
    assert found == set(pids_of(engine))


def test_values_of_classes_of_the_program_come_back_as_those_classes(pool: Any) -> None:
    class Local:
        pass

    assert type(pool.apply(Point, (3,))) is Point
    assert type(pool.apply(Local)) is Local
    assert [point.x for point in pool.imap(lambda point: point, map(Point, range(5)))] == [
        *range(5)
    ]


def test_an_exception_says_where_it_was_raised(pool: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.apply(lambda: 1 // 0)
    assert "On node node-" in str(caught.value.__cause__)
    assert "1 // 0" in str(caught.value.__cause__) or "lambda" in str(caught.value.__cause__)


def test_an_exceptions_own_cause_stays(pool: Any) -> None:
    def fail() -> None:
        try:
            STATE.index("first")
        except ValueError as error:
            raise LookupError("second") from error

    with pytest.raises(LookupError, match="second") as caught:
        pool.apply(fail)
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_cannot_be_sent_is_named(pool: Any) -> None:
    with pytest.raises(ArgumentUnpicklable, match="the arguments"):
        pool.apply(print, (threading.Lock(),))
    assert pool.apply(abs, (-1,)) == 1


def test_an_open_file_is_refused_before_it_is_sent(pool: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ArgumentUnpicklable, match="open file of this machine"):
            pool.apply(len, ([theirs],))
        connection, other = garrison.Pipe()
        with connection, other, pytest.raises(ArgumentUnpicklable, match="open it there"):
            pool.map(lambda _: other.fileno(), range(3))
    assert pool.apply(abs, (-1,)) == 1


def test_large_buffers_go_both_ways_and_are_writable(pool: Any) -> None:
    np = pytest.importorskip("numpy")

    def double(array: Any) -> Any:
        array *= 2
        return array

    result = pool.apply(double, (np.ones(100_000),))
    result += 1
    assert result.sum() == 300_000
    chunked = pool.imap(double, iter([np.ones(10_000)] * 5), chunksize=2)
    assert [array.sum() for array in chunked] == [20_000] * 5


def test_arguments_are_copied_when_they_are_submitted(pool: Any) -> None:
    data = bytearray(100_000)
    result = pool.apply_async(sum, (data,))
    data[:] = b"\1" * len(data)
    assert result.get() == 0


# --- Initializers -------------------------------------------------------------------------------


STATE: list[Any] = []


def begin(value: int) -> None:
    STATE.append(value)


def test_an_initializer_runs_in_each_worker() -> None:
    with garrison.Pool(engine=LocalEngine(2, 2), initializer=begin, initargs=(7,)) as pool:
        assert pool.map(lambda _: STATE[-1], range(20), chunksize=1) == [7] * 20
    assert STATE == []


def test_a_failing_initializer_breaks_the_pool() -> None:
    def fail() -> None:
        raise RuntimeError("no licence")

    with garrison.Pool(engine=LocalEngine(1), initializer=fail) as pool:
        with pytest.raises(PoolBroken, match="no licence") as caught:
            pool.apply(abs, (-1,))
        assert "node-0" in str(caught.value)


def test_a_worker_is_replaced_after_so_many_tasks() -> None:
    with garrison.Pool(engine=LocalEngine(1), maxtasksperchild=2) as pool:
        pids = pool.map(lambda _: os.getpid(), range(6), chunksize=1)
    assert sorted(Counter(pids).values()) == [2, 2, 2]


@pytest.mark.parametrize(
    ("devices", "workers", "shares"),
    [("0,1,2,3", 2, {"0,1", "2,3"}), ("7,GPU-x", 2, {"7", "GPU-x"}), ("0", 2, {"0"})],
)
def test_each_worker_has_its_share_of_a_nodes_gpus(
    monkeypatch: pytest.MonkeyPatch, devices: str, workers: int, shares: set[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)

    def seen(seconds: float) -> str:
        time.sleep(seconds)
        return os.environ["CUDA_VISIBLE_DEVICES"]

    with garrison.Pool(engine=LocalEngine(1, workers), retries=9) as pool:
        assert set(pool.map(seen, [0.05] * 8, chunksize=1)) == shares
        with pytest.raises(WorkerDied):
            pool.options(retries=0).apply(os._exit, (1,))
        assert set(pool.map(seen, [0.05] * 8, chunksize=1)) == shares


# --- Losses ---------------------------------------------------------------------------------------


def test_a_lost_worker_costs_its_task_only(pool: Any) -> None:
    with pytest.raises(WorkerDied) as caught:
        pool.apply(os._exit, (3,))
    assert caught.value.exitcode == 3
    assert caught.value.node in {"node-0", "node-1"}
    assert "of node node-" in str(caught.value)
    assert pool.map(abs, range(-10, 0)) == [*range(10, 0, -1)]
    assert pool.statistics().deaths == 1


def test_a_lost_worker_is_tried_again(pool: Any, tmp_path: Path) -> None:
    def die_once(_: Any) -> str:
        try:
            (tmp_path / "died").touch(exist_ok=False)
        except FileExistsError:
            return "second"
        os._exit(1)

    assert pool.options(retries=1).apply(die_once, (0,)) == "second"
    assert pool.statistics().retried == 1


def test_one_item_of_a_chunk_kills_its_worker(pool: Any) -> None:
    def work(item: int) -> int:
        if item == 4:
            os._exit(1)
        return item

    results = pool.imap(work, list(range(9)), chunksize=3)
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            break
        except WorkerDied:
            found.append(None)
    assert found == [0, 1, 2, 3, None, 5, 6, 7, 8]


def test_a_late_task_is_ended(pool: Any) -> None:
    with pytest.raises(TaskTimeout) as caught:
        pool.options(timeout=0.1).apply(time.sleep, (60,))
    assert caught.value.timeout == 0.1
    assert pool.apply(abs, (-1,)) == 1


def test_the_loss_of_a_node_costs_its_tasks_one_attempt(
    pool: Any, engine: LocalEngine, tmp_path: Path
) -> None:
    path = tmp_path / "begun"

    def work(item: int) -> int:
        mark_and(path, item)
        time.sleep(0.01)
        return item

    results = pool.options(retries=1).map_async(work, range(200), chunksize=1)
    wait_until(lambda: path.exists() and len(path.read_text().split()) >= 20)
    os.kill(next(iter(pids_of(engine))), signal.SIGKILL)
    assert results.get(50) == [*range(200)]
    begun = Counter(path.read_text().split())
    assert set(map(int, begun)) == set(range(200))
    assert max(begun.values()) <= 2
    assert pool.statistics().completed == 200
    assert pool.statistics().deaths == 1
    assert 1 <= pool.statistics().retried <= 20


def test_without_attempts_a_nodes_tasks_fail_and_no_others(pool: Any, engine: LocalEngine) -> None:
    running = [pool.apply_async(time.sleep, (60,)) for _ in range(2)]
    wait_until(lambda: pool.statistics().busy == 2)
    others = [pool.options(retries=1).apply_async(abs, (-n,)) for n in range(50)]
    pid, name = next(iter(pids_of(engine).items()))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: any(result.ready() for result in running))
    (lost,) = [result for result in running if result.ready()]
    with pytest.raises(WorkerDied, match=f"lost with node {name}.*exit code -9"):
        lost.get()
    engine.cluster.add(1)
    assert [result.get(30) for result in others] == [*range(50)]


def test_a_node_that_joins_gets_tasks(pool: Any, engine: LocalEngine) -> None:
    results = pool.imap_unordered(parent_of_pool_after, [0.01] * 300, chunksize=1)
    next(results)
    new = engine.cluster.add(1)
    assert new.pid in set(results)


def test_an_idle_node_gets_what_waits_on_another() -> None:
    engine = LocalEngine(nodes=2, workers=1)
    with garrison.Pool(engine=engine) as pool:
        pool.map(abs, range(2000), chunksize=1)  # each node may have many tasks at once now
        took = time.monotonic()
        pool.map(time.sleep, [0.2] * 10, chunksize=1)
        took = time.monotonic() - took
    # Each node half of them; all of them one after the other take 2 seconds.
    assert took < 1.8


def test_a_lost_cluster_fails_what_waits(pool: Any, engine: LocalEngine) -> None:
    result = pool.apply_async(time.sleep, (60,))
    threading.Timer(0.05, engine.cluster._driver.lost, [ConnectionError("no head")]).start()
    with pytest.raises(EngineLost, match="no head"):
        result.get(30)
    with pytest.raises(EngineLost, match="no head"):
        pool.apply(abs, (-1,))


# --- Shared objects -------------------------------------------------------------------------------


def test_a_shared_object_goes_to_each_node_once(pool: Any, engine: LocalEngine) -> None:
    np = pytest.importorskip("numpy")

    def use(pool: Any, table: Any) -> None:
        sums = pool.starmap(lambda table, n: int(table.get()[n]), [(table, n) for n in range(50)])
        assert sums == [*range(50)]
        assert pool.map(lambda n: int(table.get()[n]), range(50)) == [*range(50)]
        assert not pool.apply(lambda shared: shared.get().flags.writeable, (table,))

    with garrison.share(np.arange(100_000)) as table:
        use(pool, table)
    assert engine.cluster.stored == 1
    assert pool.apply(abs, (-1,)) == 1
    assert engine.cluster.dropped == 1


# --- The end --------------------------------------------------------------------------------------


def test_closing_ends_what_was_submitted(engine: LocalEngine) -> None:
    pool = garrison.Pool(engine=engine)
    results = [pool.apply_async(time.sleep, (0.01,)) for _ in range(20)]
    pool.close()
    pool.join()
    assert all(result.successful() for result in results)
    assert engine.cluster.stopped


def test_terminating_ends_the_workers(engine: LocalEngine, tmp_path: Path) -> None:
    def work(_: int) -> None:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60)

    pool = garrison.Pool(engine=engine)
    result = pool.map_async(work, range(2), chunksize=1)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    pool.terminate()
    pool.join()
    with pytest.raises(PoolTerminated):
        result.get(10)
    for path in tmp_path.iterdir():
        wait_until(partial(is_gone, path.name))


def test_the_cluster_is_told_how_much_there_is_to_do(pool: Any, engine: LocalEngine) -> None:
    pool.map(time.sleep, [0.002] * 100, chunksize=1)
    wait_until(lambda: engine.cluster.demands and not engine.cluster.demands[-1])
    assert max(engine.cluster.demands) > 0


# --- Versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "found"), [("garrison", "garrison 9.9"), ("implementation", "python 2.7")]
)
def test_other_versions_are_refused_and_both_named(changed: str, found: str) -> None:
    here = about()
    there = (
        {**here, changed: "9.9", "python": "2.7"}
        if changed == "garrison"
        else {**here, "implementation": "cpython-27", "python": "2.7"}
    )
    with pytest.raises(EngineMismatch) as caught:
        check_versions(here, there, "far")
    assert found in str(caught.value)
    assert here[changed if changed == "garrison" else "python"] in str(caught.value)
    assert "far" in str(caught.value)
