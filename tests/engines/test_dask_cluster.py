"""The adapter of Dask alone, with an agent that sends back what it is given."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from engines.alone import alone

distributed = pytest.importorskip("distributed", reason="Dask is not installed")

from garrison import EngineLost, EngineMismatch, EngineUnavailable  # noqa: E402
from garrison.engines import Dask  # noqa: E402
from garrison.engines.dask import _connection  # noqa: E402
from garrison.engines.dask._cluster import DaskCluster  # noqa: E402
from waiting import becomes_true  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A thread that Dask keeps until the interpreter ends.
distributed.utils._offload_executor.submit(int).result()

ECHO = str(Path(__file__).with_name("dask_echo_agent.py"))
"""A preload of Dask workers: a module by its path."""


class Driver:
    """Notes what a cluster tells it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.nodes: dict[str, Any] = {}
        self.gone: dict[str, str] = {}
        self.error: BaseException | None = None

    def joined(self, node: Any) -> None:
        with self.changed:
            self.nodes[node.name] = node
            self.changed.notify_all()

    def left(self, name: str, reason: str) -> None:
        with self.changed:
            self.gone[name] = reason
            self.nodes.pop(name, None)
            self.changed.notify_all()

    def idle(self, name: str) -> None:
        with self.changed:
            if len(self.nodes) > 1:
                self.nodes.pop(name).release()

    def lost(self, error: BaseException) -> None:
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def wait(self, done: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(done, 20), (self.nodes, self.gone, self.error)


@contextmanager
def local_cluster(workers: int, **options: Any) -> Iterator[Any]:
    """Start Dask workers, each a process, with agents that echo."""
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, preload=[ECHO], **options
    ) as cluster:
        yield cluster


@contextmanager
def started(engine: Dask, processes: int | None = None) -> Iterator[tuple[DaskCluster, Driver]]:
    cluster, driver = DaskCluster(engine.target, processes), Driver()
    try:
        cluster.start(b"setup", driver)
        yield cluster, driver
    finally:
        cluster.stop()


def echo(node: Any, message: bytes) -> list[bytes]:
    """Give a message; return what the next `collect` brings."""
    waiting = node.collect()
    assert node.give(message, []).result(10) == []
    found: list[bytes] = waiting.result(10)
    return found


def pid_of(cluster: Any, address: str) -> int:
    with distributed.Client(cluster, set_as_default=False) as client:
        return int(client.run(os.getpid, workers=[address])[address])


@alone
def test_each_worker_gets_an_agent_with_as_many_processes_as_it_has_threads() -> None:
    with local_cluster(2) as dask, started(Dask(dask)) as (_, driver):
        driver.wait(lambda: len(driver.nodes) == 2)
        assert {node.workers for node in driver.nodes.values()} == {1}
        for node in driver.nodes.values():
            assert echo(node, b"hello") == [b"hello"]


@alone
def test_no_more_agents_than_the_pool_has_processes() -> None:
    with local_cluster(3) as dask, started(Dask(dask), 2) as (_, driver):
        driver.wait(lambda: len(driver.nodes) == 2)
        first = next(iter(driver.nodes))
        os.kill(pid_of(dask, first), signal.SIGKILL)
        driver.wait(lambda: first in driver.gone and len(driver.nodes) == 2)


@alone
def test_a_give_does_not_wait_behind_a_collect() -> None:
    with local_cluster(1) as dask, started(Dask(dask)) as (_, driver):
        (node,) = driver.nodes.values()
        waiting = node.collect()
        assert node.give(b"quiet", []).result(4) == []
        assert not waiting.done()


@alone
def test_messages_arrive_in_their_order() -> None:
    with local_cluster(1) as dask, started(Dask(dask)) as (cluster, driver):
        (node,) = driver.nodes.values()
        large = cluster.put(bytes(5_000_000))
        sent = [b"%d" % number for number in range(50)]
        given = [node.give(message, [(0, large)] if message == b"7" else []) for message in sent]
        for each in given:
            each.result(10)
        found: list[bytes] = []
        while len(found) < len(sent):
            found += node.collect().result(10)
        assert found == sent


@alone
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_every_node_gets_the_data_that_were_stored(size: int) -> None:
    with local_cluster(3) as dask, started(Dask(dask)) as (cluster, driver):
        driver.wait(lambda: len(driver.nodes) == 3)
        stored = cluster.put(bytes(size))
        for node in driver.nodes.values():
            node.give(b"sizes", [(3, stored)]).result(10)
            assert node.collect().result(10) == [b"3:%d" % size]
        cluster.drop(stored)


@alone
def test_data_outlive_the_worker_that_had_them_first() -> None:
    with local_cluster(2) as dask, started(Dask(dask)) as (cluster, driver):
        driver.wait(lambda: len(driver.nodes) == 2)
        first, second = driver.nodes.values()
        stored = cluster.put(bytes(3_000_000))
        first.give(b"sizes", [(1, stored)]).result(10)
        os.kill(pid_of(dask, first.name), signal.SIGKILL)
        driver.wait(lambda: first.name in driver.gone)
        second.give(b"sizes", [(1, stored)]).result(10)
        assert second.collect().result(10) == [b"1:3000000"]


@alone
def test_a_killed_worker_has_left_and_its_successor_joins() -> None:
    with local_cluster(2) as dask, started(Dask(dask)) as (_, driver):
        driver.wait(lambda: len(driver.nodes) == 2)
        victim = next(iter(driver.nodes.values()))
        waiting = victim.collect()
        os.kill(pid_of(dask, victim.name), signal.SIGKILL)
        with pytest.raises(OSError):  # noqa: PT011 - any of them
            waiting.result(10)
        driver.wait(lambda: victim.name in driver.gone)
        driver.wait(lambda: len(driver.nodes) == 2)
        for node in driver.nodes.values():
            assert echo(node, b"again") == [b"again"]


@alone
def test_a_worker_that_is_closed_has_left() -> None:
    with local_cluster(2) as dask, started(Dask(dask)) as (_, driver):
        driver.wait(lambda: len(driver.nodes) == 2)
        dask.scale(1)
        driver.wait(lambda: len(driver.gone) == 1)
        assert len(driver.nodes) == 1


@alone
def test_a_worker_that_joins_gets_an_agent() -> None:
    with local_cluster(1) as dask, started(Dask(dask)) as (_, driver):
        dask.scale(3)
        driver.wait(lambda: len(driver.nodes) == 3)


@alone
def test_a_worker_that_is_released_gets_another_agent() -> None:
    with local_cluster(2) as dask, started(Dask(dask)) as (_, driver):
        driver.wait(lambda: len(driver.nodes) == 2)
        node = next(iter(driver.nodes.values()))
        node.release()
        with pytest.raises(OSError, match="given back"):
            node.collect().result(10)
        assert driver.gone == {}
        driver.wait(lambda: driver.nodes[node.name] is not node)
        assert echo(driver.nodes[node.name], b"again") == [b"again"]


@alone
@pytest.mark.parametrize("ending", ["killed", "closed"])
def test_the_loss_of_the_scheduler_is_told(ending: str) -> None:
    with (
        scheduler_process() as (process, address),
        started(Dask(address, connect_timeout=15)) as (_, driver),
    ):
        (node,) = driver.nodes.values()
        waiting = node.collect()
        process.send_signal(signal.SIGKILL if ending == "killed" else signal.SIGTERM)
        driver.wait(lambda: driver.error)
        assert isinstance(driver.error, EngineLost)
        assert address in str(driver.error)
        with contextlib.suppress(OSError):  # or nothing, if the agent has ended before that
            assert waiting.result(10) == []


@alone
def test_a_worker_is_reached_through_the_scheduler_where_there_is_no_other_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reach = _connection.Route.call

    async def refused(route: Any, operation: str, **message: Any) -> Any:
        if route.direct:
            raise ConnectionRefusedError(route.worker)
        return await reach(route, operation, **message)

    monkeypatch.setattr(_connection.Route, "call", refused)
    with local_cluster(2) as dask, started(Dask(dask)) as (cluster, driver):
        driver.wait(lambda: len(driver.nodes) == 2)
        large = bytes(3_000_000)
        for node in driver.nodes.values():
            assert echo(node, large) == [large]
            node.give(b"sizes", [(3, cluster.put(large))]).result(10)
            assert node.collect().result(10) == [b"3:3000000"]


@alone
def test_an_address_without_a_scheduler_is_named() -> None:
    cluster = DaskCluster(Dask("tcp://127.0.0.1:9", connect_timeout=1).target, None)
    with closing(Closing(cluster)), pytest.raises(EngineUnavailable, match=r"tcp://127\.0\.0\.1:9"):
        cluster.start(b"setup", Driver())


@alone
def test_a_cluster_without_workers_is_not_waited_for_for_ever() -> None:
    with local_cluster(0) as dask:
        cluster = DaskCluster(Dask(dask, start_timeout=0.5).target, None)
        with closing(Closing(cluster)), pytest.raises(EngineUnavailable, match="no worker"):
            cluster.start(b"setup", Driver())


@alone
@pytest.mark.parametrize(("package", "version"), [("python", "3.9.1"), ("garrison", "0.0.7")])
def test_other_versions_on_a_node_are_named_before_the_first_task(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str
) -> None:
    here = distributed.versions.get_versions

    def another(packages: list[str]) -> Any:
        found = here(packages=packages)
        return {**found, "packages": {**found["packages"], package: version}}

    monkeypatch.setattr(_connection, "get_versions", another)
    with local_cluster(1) as dask:
        cluster = DaskCluster(Dask(dask).target, None)
        short = version.removesuffix(".1")
        with closing(Closing(cluster)), pytest.raises(EngineMismatch, match=short) as mismatch:
            cluster.start(b"setup", Driver())
    assert str(mismatch.value).count("Python") == 2


@alone
def test_a_client_of_the_program_goes_on() -> None:
    with local_cluster(1) as dask, distributed.Client(dask) as client:
        with started(Dask(client)) as (_, driver):
            assert len(driver.nodes) == 1
        assert client.submit(pow, 2, 5).result(10) == 32


@alone
def test_agents_end_with_a_driver_that_is_killed() -> None:
    with local_cluster(1) as dask, distributed.Client(dask) as client:
        pid = os.fork()
        if pid == 0:
            _be_killed_with_a_pool(dask.scheduler_address)
        os.waitpid(pid, 0)
        assert becomes_true(lambda: not agents(client), 10)


@alone
def test_a_cluster_that_adapts_grows_for_a_pool_and_keeps_its_workers() -> None:
    with local_cluster(0) as dask:
        dask.adapt(minimum=0, maximum=2, interval="100ms", wait_count=2)
        with started(Dask(dask)) as (cluster, driver):
            driver.wait(lambda: len(driver.nodes) == 2)
            cluster.demand(0)
            names = set(driver.nodes)
            assert echo(driver.nodes[names.pop()], b"kept") == [b"kept"]
        with distributed.Client(dask) as client:
            assert becomes_true(lambda: not client.nthreads(), 15)


@alone
@pytest.mark.watchdog(60)
def test_a_cluster_that_adapts_gets_idle_workers_back_and_starts_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("garrison.engines.dask._cluster._IDLE_S", 0.1)
    with local_cluster(0) as dask, distributed.Client(dask, set_as_default=False) as client:
        dask.adapt(minimum=0, maximum=2, interval="100ms", wait_count=2)
        with started(Dask(dask)) as (cluster, driver):
            driver.wait(lambda: len(driver.nodes) == 2)
            cluster.demand(0)
            assert becomes_true(lambda: len(client.nthreads()) == 1, 20)
            assert len(driver.nodes) == 1
            cluster.demand(100)
            driver.wait(lambda: len(driver.nodes) == 2)


@alone
def test_the_cluster_in_this_process_opens_no_port() -> None:
    before = listening()
    from garrison.engines.dask import _worker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_worker, "Agent", _echo_agent())
        with started(Dask(), 2) as (cluster, driver):
            (node,) = driver.nodes.values()
            assert node.workers == 2
            assert listening() == before
            large = bytes(3_000_000)
            assert echo(node, large) == [large]
            node.give(b"sizes", [(3, cluster.put(large))]).result(10)
            assert node.collect().result(10) == [b"3:3000000"]


# --- Parts of the above ---------------------------------------------------------------------------


class Closing:
    """A cluster as `contextlib.closing` takes it."""

    def __init__(self, cluster: DaskCluster) -> None:
        self.close = cluster.stop


def agents(client: Any) -> int:
    """How many agents the client's workers have."""
    return sum(client.run(count_agents).values())


def count_agents(dask_worker: Any) -> int:
    host = dask_worker.plugins.get("garrison")
    return len(host._released) if host is not None else 0


def _echo_agent() -> Any:
    from engines import dask_echo_agent

    return dask_echo_agent.EchoAgent


@contextmanager
def scheduler_process() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a scheduler and a worker, each by Dask's own command."""
    address = "tcp://127.0.0.1:8786"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    scheduler = subprocess.Popen([*command, "--host", "127.0.0.1"], **quiet)  # type: ignore[call-overload]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard"]
    worker = subprocess.Popen(  # type: ignore[call-overload]
        [*command, "--no-nanny", "--nthreads", "1", "--preload", ECHO], **quiet
    )
    try:
        yield scheduler, address
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def _be_killed_with_a_pool(address: str) -> NoReturn:
    cluster, driver = DaskCluster(Dask(address).target, None), Driver()
    cluster.start(b"setup", driver)
    driver.wait(lambda: driver.nodes)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def listening() -> set[str]:
    """Return the ports on which this process's network listens."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {line[1] for line in lines if line[3] == "0A"}
