"""Ray's nodes on one machine, for tests that are alone: started, killed, and gone afterwards."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from engines.alone import INSIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog import Watchdog

ALL_OF_SUITE = "GARRISON_TEST_RAY"
"""In the environment of the suite's tests over Ray."""
SECONDS = 30.0
STORE_BYTES = 100_000_000

if os.environ.get(INSIDE):
    # Ray keeps threads and descriptors until its process ends, which is soon: the outer test finds
    # what is left after that.

    @pytest.fixture(scope="module", autouse=True)
    def _module_leaves_nothing() -> None:
        """Nothing to look at."""

    @pytest.fixture(autouse=True)
    def _test_leaves_nothing(request: pytest.FixtureRequest, _watchdog: Watchdog) -> Iterator[None]:
        mark = request.node.get_closest_marker("watchdog")
        _watchdog.expect(request.node.nodeid, mark.args[0] if mark else SECONDS)
        yield
        _watchdog.stand_down()


@contextlib.contextmanager
def ray_home() -> Iterator[None]:
    """Keep what Ray writes in a folder that is removed."""
    # Sockets are in it: their paths are short.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    before = dict(os.environ)
    os.environ.update(
        RAY_TMPDIR=folder, HOME=folder, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0"
    )
    os.environ.pop("RAY_ADDRESS", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


class Nodes:
    """A cluster of a head and other nodes."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.address: str = cluster.address

    def add(self, cpus: int = 1) -> Any:
        """Start a node."""
        return self.cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)

    @staticmethod
    def raylet(node: Any) -> int:
        """The process of a node's raylet: workers find it in RAY_RAYLET_PID."""
        return int(node.all_processes["raylet"][0].process.pid)

    @staticmethod
    def kill(node: Any) -> None:
        """Kill a node as a power cut does."""
        for processes in node.all_processes.values():
            for each in processes:
                _kill_tree(each.process.pid)
                each.process.wait()


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                each.kill()


@contextlib.contextmanager
def ray_nodes(count: int, cpus: int = 1, **head: Any) -> Iterator[Nodes]:
    """Start nodes, the first of which is the head; end them, and all that they run."""
    with ray_home():
        cluster = importlib.import_module("ray.cluster_utils").Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={
                "num_cpus": cpus,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                **head,
            },
        )
        nodes = Nodes(cluster)
        try:
            for _ in range(count - 1):
                nodes.add(cpus)
            yield nodes
        finally:
            for node in [*cluster.worker_nodes, cluster.head_node]:
                nodes.kill(node)


@contextlib.contextmanager
def client_server(nodes: Nodes, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a Ray Client server on the head."""
    command = [sys.executable, "-m", "ray.util.client.server", "--address", nodes.address]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--mode", "proxy"],
        # It forks while gRPC has threads, whose part after a fork aborts the child now and then.
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        _kill_tree(process.pid)
        process.wait()
