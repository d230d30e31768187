"""A cluster in this process: agents without a cluster between, for tests of the two levels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

from garrison.engines import Engine, PoolSettings
from garrison.engines.cluster._backend import ClusterBackend
from garrison.engines.cluster.agent import Agent

COLLECT_S = 2.0


class LocalNode:
    """An agent, called in threads."""

    def __init__(
        self,
        setup: bytes,
        workers: int,
        name: str,
        released: Callable[[LocalNode], None] | None = None,
    ) -> None:
        self.name, self.workers = name, workers
        self._released = released
        self.agent = Agent(setup, workers, name)
        self._threads = ThreadPoolExecutor(4)

    def give(self, message: bytes, blobs: list[tuple[int, Any]]) -> Future[list[bytes]]:
        return self._threads.submit(self.agent.give, message, blobs)

    def collect(self) -> Future[list[bytes]]:
        return self._threads.submit(self.agent.collect, COLLECT_S)

    def release(self) -> None:
        self.agent.end()
        self._threads.shutdown(wait=False)
        if self._released is not None:
            self._released(self)

    @property
    def pid(self) -> int:
        """The process of its pool."""
        return self.agent._process.pid


class LocalCluster:
    """So many nodes, of so many workers each; a lost one is replaced if the test wants that."""

    def __init__(self, nodes: int = 2, workers: int = 1, *, replace: bool = False) -> None:
        self._shape = nodes, workers
        self._replace = replace
        self._numbers = count()
        self.nodes: dict[str, LocalNode] = {}
        self.dropped = 0
        self.stored = 0
        self.demands: list[int] = []
        self.stopped = False

    def start(self, setup: bytes, driver: Any) -> None:
        self._setup, self._driver = setup, driver
        nodes, workers = self._shape
        for _ in range(nodes):
            self.add(workers)

    def add(self, workers: int) -> LocalNode:
        """Let a node join."""
        replace = self._replace_node if self._replace else None
        node = LocalNode(self._setup, workers, f"node-{next(self._numbers)}", replace)
        self.nodes[node.name] = node
        if self.stopped:  # meanwhile, which may have been too early to see this node
            node.release()
        self._driver.joined(node)
        return node

    def _replace_node(self, node: LocalNode) -> None:
        self.nodes.pop(node.name, None)
        if not self.stopped:
            threading.Thread(target=self.add, args=(node.workers,)).start()

    def put(self, data: Any) -> bytes:
        self.stored += 1
        return bytes(data)

    def drop(self, stored: bytes) -> None:
        self.dropped += 1

    def demand(self, tasks: int) -> None:
        self.demands.append(tasks)

    def stop(self) -> None:
        self.stopped = True
        for node in list(self.nodes.values()):
            node.release()


class LocalEngine(Engine):
    """Pools over a `LocalCluster`."""

    name = "local cluster"

    def __init__(self, nodes: int = 2, workers: int = 1, *, replace: bool = False) -> None:
        self.cluster = LocalCluster(nodes, workers, replace=replace)

    def backend(self, settings: PoolSettings) -> ClusterBackend:
        return ClusterBackend(self.cluster, settings)
