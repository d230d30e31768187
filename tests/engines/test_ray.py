"""Pools over Ray: nodes on this machine, each with processes of its own."""

from __future__ import annotations

import collections
import contextlib
import importlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engines.alone import INSIDE, alone
from engines.ray_nodes import client_server, ray_home, ray_nodes

ray = pytest.importorskip("ray", reason="Ray is not installed")

from garrison import (  # noqa: E402
    EngineLost,
    EngineMismatch,
    EngineUnavailable,
    Pool,
    SharedMemoryFull,
    share,
)
from garrison.engines import Ray  # noqa: E402
from garrison.engines.cluster import _backend  # noqa: E402
from garrison.engines.ray import _cluster, _connection  # noqa: E402
from garrison.engines.ray._failures import is_mismatch, store_failure  # noqa: E402
from waiting import wait_until  # noqa: E402

if TYPE_CHECKING:
    pass

if os.environ.get(INSIDE):
    from engines.ray_nodes import (  # noqa: F401
        _module_leaves_nothing,
        _test_leaves_nothing,
    )

PROGRAMS = Path(__file__).with_name("programs")


def pool_of(pool: Any) -> Any:
    return pool._backend


def nodes_of(pool: Any) -> dict[str, int]:
    return dict(pool_of(pool).nodes)


def where(item: int) -> tuple[int, int]:
    """Return the item, and the parent of the worker: one for each node."""
    return item, os.getppid()


def slowly(item: int) -> tuple[int, int]:
    time.sleep(0.003)
    return item, int(os.environ["RAY_RAYLET_PID"])


# --- Nodes that come and go -----------------------------------------------------------------------


@alone
@pytest.mark.watchdog(90)
def test_nodes_killed_under_load_lose_and_repeat_nothing() -> None:
    seed = int(os.environ.get("GARRISON_SEED", "0")) or random.randrange(1 << 32)
    sys.stdout.write(f"GARRISON_SEED={seed}\n")  # shown if it fails
    chance = random.Random(seed)
    count = 6000
    with ray_nodes(4) as nodes, Pool(4, engine=Ray(nodes.address), retries=1) as pool:
        wait_until(lambda: len(nodes_of(pool)) == 4)
        results = pool.imap_unordered(slowly, range(count))
        # Far enough from each other that no task loses two attempts.
        first = chance.randrange(200, 1500)
        kills = [first, first + chance.randrange(1500, 3000)]
        found = []
        started = time.monotonic()
        for number, result in enumerate(results):
            found.append(result)
            if number in kills:
                victims = [
                    node for node in nodes.cluster.worker_nodes if nodes.raylet(node) in seen(found)
                ]
                victim = chance.choice(victims)
                nodes.cluster.worker_nodes.discard(victim)
                nodes.kill(victim)
                threading.Thread(target=nodes.add).start()
        took = time.monotonic() - started
        sys.stdout.write(f"{count} tasks, two nodes killed, two joined: {took:.1f} s\n")
    counts = collections.Counter(item for item, _ in found)
    assert [item for item in range(count) if counts[item] != 1] == []
    assert len({node for _, node in found}) >= 5


def seen(found: list[tuple[int, int]]) -> set[int]:
    return {node for _, node in found}


@alone
@pytest.mark.watchdog(60)
def test_an_actor_that_dies_is_replaced_on_its_node() -> None:
    with ray_nodes(2) as nodes, Pool(2, engine=Ray(nodes.address), retries=1) as pool:
        wait_until(lambda: len(nodes_of(pool)) == 2)
        before = nodes_of(pool)
        results = pool.imap_unordered(slowly, range(1000))
        first, _ = next(results)
        victim = next(iter(pool_of(pool).cluster._nodes.values()))
        os.kill(ray.get(victim.actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
        assert sorted([first, *(item for item, _ in results)]) == list(range(1000))
        wait_until(lambda: len(nodes_of(pool)) == 2)
        (lost,) = before.keys() - nodes_of(pool)
        assert f"{lost} #2" in nodes_of(pool)


@alone
@pytest.mark.watchdog(60)
def test_a_lost_head_ends_the_pool_and_not_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster, "LOST_AFTER_S", 1.0)
    with ray_nodes(2) as nodes, Pool(2, engine=Ray(nodes.address)) as pool:
        result = pool.map_async(slowly, range(100_000))
        nodes.kill(nodes.cluster.head_node)
        with pytest.raises(EngineLost, match=nodes.address):
            result.get(30)
        with pytest.raises(EngineLost, match="went away"):
            pool.apply(where, (1,))
        pool.terminate()
        pool.join()


@alone
@pytest.mark.watchdog(60)
def test_without_its_own_node_the_program_goes_on() -> None:
    with ray_nodes(2) as nodes, Pool(2, engine=Ray(nodes.address)) as pool:
        result = pool.map_async(slowly, range(100_000))
        os.kill(nodes.raylet(nodes.cluster.head_node), signal.SIGKILL)
        with pytest.raises(EngineLost, match="node of it is gone"):
            result.get(30)
        # Here Ray would end the program.
        with pytest.raises(EngineLost, match="went away"):
            pool.apply(place_of, (share(bytearray(5_000_000)), 0))


# --- Where workers are ----------------------------------------------------------------------------


@alone
@pytest.mark.watchdog(60)
def test_resources_decide_where_workers_are() -> None:
    with ray_nodes(1, cpus=4) as nodes:
        with Pool(engine=Ray(nodes.address, workers_per_node=2)) as pool:
            assert list(nodes_of(pool).values()) == [2]
        with Pool(engine=Ray(nodes.address, num_cpus=3)) as pool:
            assert list(nodes_of(pool).values()) == [1]
        with pytest.raises(EngineUnavailable, match=r"no room.*licence.*add nodes"):
            Pool(engine=Ray(nodes.address, resources={"licence": 1}, timeout=0.5))
        ray.init(nodes.address, log_to_driver=False)
        group = ray.util.placement_group([{"CPU": 1}, {"CPU": 2}])
        with Pool(engine=Ray(placement_group=group)) as pool:
            wait_until(lambda: sorted(nodes_of(pool).values()) == [1, 2])
            assert [name.partition(", ")[2] for name in sorted(nodes_of(pool))] == [
                "bundle 0",
                "bundle 1",
            ]
        assert ray.is_initialized()


@alone
@pytest.mark.watchdog(60)
def test_idle_nodes_are_given_back_and_come_back_with_tasks() -> None:
    with ray_nodes(2, cpus=2) as nodes, Pool(engine=Ray(nodes.address, idle_timeout=0.1)) as pool:
        wait_until(lambda: len(nodes_of(pool)) == 2)
        assert pool.map(abs, [-1]) == [1]
        wait_until(lambda: len(nodes_of(pool)) == 1)
        wait_until(lambda: ray.available_resources().get("CPU") == 2)
        result = pool.map_async(slowly, range(3000), chunksize=1)
        wait_until(lambda: len(nodes_of(pool)) == 2)
        assert [item for item, _ in result.get(30)] == list(range(3000))


@alone
@pytest.mark.watchdog(60)
def test_the_autoscaler_is_told_what_is_wanted_and_that_nothing_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hints: list[list[dict[str, float]]] = []
    sdk = importlib.import_module("ray.autoscaler.sdk")
    monkeypatch.setattr(sdk, "request_resources", lambda *, bundles: hints.append(bundles))
    with ray_nodes(1) as nodes:
        with Pool(4, engine=Ray(nodes.address, resources={"node:127.0.0.1": 0.01})) as pool:
            pool.map(slowly, range(1000), chunksize=1)
            wait_until(lambda: hints and hints[-1] == [])
        assert hints[0] == [{"CPU": 1, "node:127.0.0.1": 0.01}] * 4
        with pytest.raises(EngineUnavailable, match="no room"):
            Pool(3, engine=Ray(nodes.address, num_gpus=1, timeout=0.1))
        assert hints[-2:] == [[{"CPU": 1, "GPU": 1}] * 3, []]


# --- Data -----------------------------------------------------------------------------------------


@alone
@pytest.mark.watchdog(60)
def test_large_data_goes_through_the_object_store() -> None:
    with ray_nodes(2) as nodes, Pool(2, engine=Ray(nodes.address)) as pool:
        data = share(bytearray(range(256)) * 80_000)
        wait_until(lambda: len(nodes_of(pool)) == 2)
        found = pool.starmap(place_of, [(data, place) for place in range(100)], chunksize=1)
        assert [byte for byte, _ in found] == list(range(100))
        large = b"reply" * 1_000_000
        assert pool.apply(bytes.__mul__, (b"reply", 1_000_000)) == large
        assert pool.apply(len, (large,)) == len(large)


def place_of(data: Any, place: int) -> tuple[int, int]:
    return memoryview(data.get())[place], os.getppid()


def test_a_full_object_store_says_what_to_do() -> None:
    error = store_failure(ray, 5_000_000, ray.exceptions.ObjectStoreFullError("full"))
    assert isinstance(error, SharedMemoryFull)
    assert "5,000,000 bytes" in str(error)
    assert "object_store_memory" in str(error)


# --- Connections ----------------------------------------------------------------------------------


@alone
@pytest.mark.watchdog(60)
# A thread of gRPC's own may still watch the channel that Ray Client closes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_of_a_cluster_has_the_same_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc", reason="Ray Client needs grpcio")
    monkeypatch.setattr(_cluster, "LOST_AFTER_S", 1.0)
    with ray_nodes(2) as nodes, client_server(nodes, 10001) as server:
        wait_until(lambda: _connection._listens("127.0.0.1", 10001) is None)
        with Pool(engine="ray://127.0.0.1:10001") as pool:
            wait_until(lambda: len(nodes_of(pool)) == 2)
            assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
            data = share(bytearray(range(256)) * 8_000)
            assert pool.apply(place_of, (data, 7))[0] == 7
            with Pool(1, engine="serial") as other:
                assert other.apply(abs, (-1,)) == 1
            result = pool.map_async(slowly, range(100_000))
            server.kill()
            with pytest.raises(EngineLost, match="10001"):
                result.get(30)


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_where_nothing_listens_the_error_names_the_address(address: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        named = address.format(bound.getsockname()[1])
        with pytest.raises(EngineUnavailable, match=f"no Ray at {named}: .*refused"):
            Pool(engine=Ray(named))


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b""])
def test_what_is_no_ray_is_refused(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "PROBE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        named = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=answer_with, args=(server, answer))
        thread.start()
        with pytest.raises(EngineUnavailable, match=f"no Ray at {named}"):
            Pool(engine=Ray(named))
        thread.join()


def answer_with(server: socket.socket, answer: bytes) -> None:
    """Answer one client, and wait until it goes."""
    client, _ = server.accept()
    with client, contextlib.suppress(ConnectionError):
        client.send(answer)
        while client.recv(1024):
            pass


@pytest.mark.parametrize("address", ["nonsense", "ray://", "ray://head", "head:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(EngineUnavailable, match="no address of Ray"):
        Pool(engine=Ray(address))


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineUnavailable, match=r'pip install "garrison\[ray\]"'):
        Pool(engine=Ray())


@alone
@pytest.mark.watchdog(60)
def test_versions_that_differ_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    about = _backend.about  # type: ignore[attr-defined]
    with ray_nodes(1) as nodes:
        monkeypatch.setattr(_backend, "about", lambda: {**about(), "garrison": "0.0.9"})
        with pytest.raises(EngineMismatch, match=r"has garrison .*this program garrison 0\.0\.9"):
            Pool(1, engine=Ray(nodes.address))
        assert not ray.is_initialized()


def test_rays_own_word_for_other_versions_is_known() -> None:
    check = importlib.import_module("ray._private.utils").check_version_info
    with pytest.raises(RuntimeError) as refused:
        check({"ray_version": "1.0.0", "python_version": "3.7.0"}, "this program")
    said = is_mismatch(refused.value)
    assert said is not None
    assert "1.0.0" in said
    assert ray.__version__ in said
    missing = is_mismatch(RuntimeError("ModuleNotFoundError: No module named 'garrison'"))
    assert missing == "garrison is not installed there"
    assert is_mismatch(RuntimeError("the store is full")) is None


@alone
@pytest.mark.watchdog(60)
def test_a_cluster_of_a_pools_own_is_quiet_and_leaves_no_trace() -> None:
    with ray_home():
        program = [sys.executable, str(PROGRAMS / "ray_quiet.py")]
        done = subprocess.run(program, capture_output=True, text=True, timeout=50, check=False)
        said = [line for line in done.stderr.splitlines() if "8.8.8.8" not in line]
        assert said == []
        assert done.stdout == "[0, 1, 4, 0, 1, 8]\n"
