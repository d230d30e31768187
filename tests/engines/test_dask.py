"""Pools over Dask: workers that die in the middle, that join, a scheduler that goes away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from engines.alone import alone

distributed = pytest.importorskip("distributed", reason="Dask is not installed")

from garrison import EngineLost, EngineUnavailable, Pool, WorkerDied  # noqa: E402
from garrison.engines import Dask, find_engine  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

# A thread that Dask keeps until the interpreter ends.
distributed.utils._offload_executor.submit(int).result()

TASKS = 4000
KILLS = 4
LEAST_BETWEEN = 500
"""Results between two kills: more than all nodes have, so that no task loses two attempts."""


def square(number: int) -> int:
    return number * number


def slow_square(number: int) -> int:
    time.sleep(0.001)
    return number * number


def where(_: int) -> tuple[int, int]:
    return os.getpid(), os.getppid()


def wait_for_ever(path: str) -> None:
    Path(path).touch()
    threading.Event().wait()


@contextmanager
def local_cluster(workers: int, threads: int = 1) -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=threads, dashboard_address=None
    ) as cluster:
        yield cluster


def pids(cluster: Any) -> dict[str, int]:
    """The process of each Dask worker."""
    with distributed.Client(cluster, set_as_default=False) as client:
        return dict(client.run(os.getpid))


# --- Chosen as documented -------------------------------------------------------------------------


@alone
def test_a_pool_by_the_name_of_the_engine() -> None:
    with Pool(2, engine="dask") as pool:
        assert pool.map(square, range(100)) == [number * number for number in range(100)]
        assert all(os.getpid() not in each for each in pool.map(where, range(4)))


@alone
def test_a_pool_by_an_address_a_client_and_a_cluster() -> None:
    with local_cluster(2) as cluster, distributed.Client(cluster) as client:
        for engine in (cluster.scheduler_address, client, cluster, Dask(cluster)):
            with Pool(engine=engine) as pool:
                assert pool.map(square, range(10)) == [number * number for number in range(10)]
        assert client.submit(pow, 2, 5).result() == 32


@alone
def test_two_pools_share_a_cluster() -> None:
    with (
        local_cluster(2) as cluster,
        Pool(engine=cluster) as one,
        Pool(engine=cluster) as another,
    ):
        both = [pool.map_async(slow_square, range(200)) for pool in (one, another)]
        assert [each.get() for each in both] == [[number * number for number in range(200)]] * 2


@alone
def test_a_pool_over_tls(tmp_path: Any) -> None:
    pytest.importorskip("cryptography", reason="TLS of Dask's needs it here")
    security = distributed.Security.temporary()
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, security=security
    ) as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        with Pool(engine=Dask(cluster.scheduler_address, security=security)) as pool:
            assert pool.apply(square, (7,)) == 49


def test_an_engine_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("garrison.engines.dask._engine.find_spec", lambda _: None)
    with pytest.raises(EngineUnavailable, match=r'pip install "garrison\[dask\]"'):
        Dask()


def test_an_address_without_a_scheduler_is_said_when_the_pool_is_made() -> None:
    with pytest.raises(EngineUnavailable, match=r"tcp://127\.0\.0\.1:9"):
        Pool(engine=Dask("tcp://127.0.0.1:9", connect_timeout=0.5))


def test_every_scheme_of_dask_is_an_address_of_the_engine() -> None:
    assert {find_engine(each).name for each in ("dask", "tcp://h:1", "tls://h:1")} == {"dask"}


# --- Losses ---------------------------------------------------------------------------------------


@alone
@pytest.mark.watchdog(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_workers_killed_under_load_lose_no_result_and_double_none(seed: int) -> None:
    chance = random.Random(seed)
    points = [LEAST_BETWEEN * (turn + 1) + chance.randrange(200) for turn in range(KILLS)]
    with local_cluster(4) as cluster, Pool(engine=cluster, retries=1) as pool:
        found: list[int] = []
        for result in pool.imap_unordered(slow_square, range(TASKS)):
            found.append(result)
            if len(found) in points:
                os.kill(chance.choice(sorted(pids(cluster).values())), signal.SIGKILL)
    expected = [number * number for number in range(TASKS)]
    lost, doubled = set(expected) - set(found), len(found) - len(set(found))
    counts = f"seed {seed}: {KILLS} workers killed, {len(lost)} lost, {doubled} doubled"
    assert sorted(found) == expected, counts


@alone
@pytest.mark.watchdog(60)
def test_a_task_whose_worker_is_killed_says_where_it_was(tmp_path: Any) -> None:
    with local_cluster(1) as cluster, Pool(engine=cluster) as pool:
        (address,) = pids(cluster)
        result = pool.apply_async(wait_for_ever, (str(tmp_path / "begun"),))
        while not (tmp_path / "begun").exists():
            result.wait(0.01)
        os.kill(pids(cluster)[address], signal.SIGKILL)
        with pytest.raises(WorkerDied, match=address):
            result.get(30)
        assert pool.apply(square, (5,)) == 25  # the nanny has started another


@alone
@pytest.mark.watchdog(60)
def test_a_node_whose_pool_is_killed_gets_another_on_the_same_worker(tmp_path: Any) -> None:
    with local_cluster(1) as cluster, Pool(engine=cluster) as pool:
        (pid,) = pids(cluster).values()
        result = pool.apply_async(wait_for_ever, (str(tmp_path / "begun"),))
        while not (tmp_path / "begun").exists():
            result.wait(0.01)
        (node_pool,) = psutil.Process(pid).children()
        node_pool.kill()
        with pytest.raises(WorkerDied, match="exit code -9"):
            result.get(30)
        assert pool.apply(square, (5,)) == 25
        assert list(pids(cluster).values()) == [pid]


@alone
@pytest.mark.watchdog(60)
def test_workers_that_join_take_part() -> None:
    with local_cluster(1) as cluster, Pool(engine=cluster) as pool:
        seen: set[int] = set()
        for _, parent in pool.imap_unordered(where, endless(lambda: len(seen) == 3)):
            seen.add(parent)
            if len(seen) == 1:
                cluster.scale(3)
        assert len(seen) == 3


def endless(over: Any) -> Iterator[int]:
    number = 0
    while not over():
        yield number
        number += 1
        if number % 100 == 0:
            time.sleep(0.001)


SCHEDULER = """
import distributed
with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
    print(cluster.scheduler_address, flush=True)
    input()
"""


@alone
@pytest.mark.watchdog(60)
def test_a_scheduler_that_goes_away_ends_the_tasks_and_nothing_hangs(tmp_path: Any) -> None:
    program = tmp_path / "scheduler.py"
    program.write_text(f"if __name__ == '__main__':{SCHEDULER.replace(chr(10), chr(10) + '    ')}")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(program)], **pipes) as process:
        address = process.stdout.readline().strip()  # type: ignore[union-attr]
        with Pool(engine=address) as pool:
            result = pool.apply_async(wait_for_ever, (str(tmp_path / "begun"),))
            while not (tmp_path / "begun").exists():
                result.wait(0.01)
            process.kill()
            with pytest.raises(EngineLost, match=address):
                result.get(30)
            with pytest.raises(EngineLost):
                pool.apply(square, (3,))
