"""Agents on the workers of a Dask cluster, as workers come and go.

::

    start ─▶ connect, subscribe to the scheduler's events, ask for the workers
    worker there, or "add-worker" ─▶ reach, compare versions, submit an agent ─▶ it says "started"
                                                                              ─▶ driver.joined
    "remove-worker", or a call that fails ─▶ driver.left; a spare worker takes its place
    the scheduler is gone ─▶ driver.lost

All but `start`, `stop` and the calls of a node runs in the client's loop, so nothing is locked.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import secrets
import threading
import weakref
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from multiprocessing import util
from typing import NamedTuple

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.dask._connection import Connection
from garrison.engines.dask._growth import Growth
from garrison.engines.dask._node import Blob, DaskNode
from garrison.engines.dask._worker import run_agent
from garrison.errors import EngineLost, EngineMismatch, EngineUnavailable, GarrisonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.engines.cluster._contract import Driver
    from garrison.engines.dask._connection import Route
    from garrison.engines.dask._engine import Target

__all__ = ["DaskCluster"]

_END_S = 10.0
"""Seconds that agents have to end."""
_IDLE_S = 30.0
"""Seconds without any task after which a cluster that adapts gets its workers back."""


_started: weakref.WeakSet[DaskCluster] = weakref.WeakSet()


def _stop_all() -> None:
    for cluster in list(_started):
        cluster.stop_at_exit()


# What is registered last runs first: this module has imported Dask, so Dask's follows.
atexit.register(_stop_all)


class _Agent(NamedTuple):
    """An agent that was submitted: its Dask future, its workers, and how to call it."""

    future: Any
    workers: int
    route: Route


class DaskCluster:
    """Starts agents on the workers of a Dask cluster.

    Parameters
    ----------
    find : callable
        Called as ``find(processes)``, it returns the `Target`.
    processes : int or None
        The most workers of the pool; None for as many as the cluster's threads.
    """

    def __init__(self, find: Callable[[int | None], Target], processes: int | None) -> None:
        self._find = find
        self._target: Target | None = None
        self._most = processes
        self._topic = f"garrison-{secrets.token_hex(8)}"
        self._numbers = itertools.count()
        self._connection: Connection | None = None
        self._setup = b""
        self._driver: Driver | None = None
        self._agents: dict[str, _Agent] = {}
        """Those that start, and those that run, by worker."""
        self._nodes: dict[str, DaskNode] = {}
        self._spare: dict[str, int] = {}
        """Workers that are not needed, with their threads."""
        self._failed: GarrisonError | None = None
        self._begun = threading.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._growth: Growth | None = None
        self._rest_later: asyncio.TimerHandle | None = None
        self._rests = False
        self._stopping = False
        self._pid = os.getpid()

    def __repr__(self) -> str:
        address = "not started" if self._target is None else self._target.address
        return f"<DaskCluster {address}: {len(self._nodes)} nodes>"

    # --- The contract -------------------------------------------------------------------------

    def start(self, setup: bytes, driver: Driver) -> None:
        """Connect, and start an agent on each worker; return once there is one."""
        self._setup, self._driver = setup, driver
        _started.add(self)
        target = self._target = self._find(self._most)
        self._connection = Connection(target.address, target.security, target.connect_timeout)
        if target.adaptive:
            self._growth = Growth(self._connection, self._most)
        self._connection.run(self._begin()).result()
        if not self._begun.wait(target.start_timeout):
            raise EngineUnavailable(
                f"the Dask cluster at {target.address} has no worker after "
                f"{target.start_timeout:g} s; start some with `dask worker {target.address}`"
            )
        if self._failed is not None:
            raise self._failed

    @staticmethod
    def put(data: Any) -> Blob:
        """Keep data for `DaskNode.give`; the first node that needs them sends for them."""
        return Blob(data)

    def drop(self, stored: Blob) -> None:
        """Forget data."""
        if self._connection is not None and not self._stopping:
            self._connection.call_soon(stored.drop)

    def demand(self, tasks: int) -> None:
        """Tell a cluster that adapts how many workers the pool could use."""
        if self._growth is not None and self._connection is not None and not self._stopping:
            self._connection.call_soon(self._demanded, tasks)

    def stop_at_exit(self) -> None:
        """Stop before Dask ends its own clusters and clients, which would complain."""
        if self._connection is not None and os.getpid() == self._pid:
            if self._driver is not None and not self._stopping:
                self._driver.lost(EngineLost("the program ends"))
            self.stop()

    def stop(self) -> None:
        """End all agents, and disconnect."""
        connection = self._connection
        self._stopping = True
        if connection is not None:
            with suppress(FutureTimeoutError, ConnectionError):
                connection.run(self._finish(connection.client)).result(_END_S + 1)
            connection.close()
            # Last: after an interrupt the next call does the rest.
            self._connection = None
        if self._target is not None and self._target.close is not None:
            self._target.close()

    # --- The client's loop: workers come ------------------------------------------------------

    async def _begin(self) -> None:
        connection = self._connected
        connection.client.subscribe_topic("all", self._on_event)
        connection.client.subscribe_topic(self._topic, self._on_started)
        if self._growth is not None:
            self._growth.want(self._most)
        for worker, threads in (await connection.threads()).items():
            self._add(worker, threads)

    @property
    def _connected(self) -> Connection:
        if self._connection is None:
            raise ConnectionError("the connection to the Dask scheduler is closed")
        return self._connection

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_event(self, event: tuple[float, Any]) -> None:
        _, message = event
        if self._stopping or not isinstance(message, dict):
            return
        if message.get("action") == "add-worker":
            self._spawn(self._add_joined(message["worker"]))
        elif message.get("action") == "remove-worker":
            closed = "was closed" if message.get("expected") else "died, or lost its connection"
            self._spare.pop(message["worker"], None)
            self._lose(message["worker"], f"its Dask worker {closed}")

    async def _add_joined(self, worker: str) -> None:
        """Add a worker, if the scheduler knows it."""
        with suppress(OSError):
            for name, threads in (await self._connected.threads(worker)).items():
                self._add(name, threads)

    def _add(self, worker: str, threads: int) -> None:
        """Start an agent on a worker, unless there are enough."""
        if self._stopping or worker in self._agents or worker in self._spare:
            return
        self._spare[worker] = threads
        self._fill()

    def _fill(self) -> None:
        """Start agents on spare workers, as many as are wanted."""
        while self._spare and not self._rests and (room := self._room()) != 0:
            worker = next(iter(self._spare))
            threads = self._spare.pop(worker)
            workers = threads if room is None else min(threads, room)
            self._agents[worker] = _Agent(None, workers, None)  # type: ignore[arg-type]
            self._spawn(self._start_agent(worker, workers))

    def _room(self) -> int | None:
        if self._most is None:
            return None
        return self._most - sum(agent.workers for agent in self._agents.values())

    async def _start_agent(self, worker: str, workers: int) -> None:
        number = next(self._numbers)
        key = f"{self._topic}-{number}"
        # Another one takes its place if the worker goes, and comes again.
        mine = self._agents[worker]
        try:
            route = await self._connected.reach(worker)
            if self._agents.get(worker) is not mine:
                return
            arguments = (run_agent, key, self._setup, workers, number, self._topic)
            future = self._connected.submit(*arguments, key=key, worker=worker)
            mine = self._agents[worker] = _Agent(future, workers, route)
            await future.result()
        except Exception as error:
            if self._stopping or self._agents.get(worker) is not mine:
                return
            if mine.future is not None and mine.future.cancelled():
                self._lost()  # with the connection: nobody else cancels it
            else:
                await self._on_agent_failed(worker, error)

    def _on_started(self, event: tuple[float, Any]) -> None:
        """An agent says that it has started."""
        _, message = event
        for worker, agent in self._agents.items():
            if agent.future is not None and agent.future.key == message["agent"]:
                connection, key = self._connected, message["agent"]
                ends = (self._on_call_failed, self._release)
                node = DaskNode(connection, agent.route, key, agent.workers, *ends)
                self._nodes[worker] = node
                if self._driver is not None:
                    self._driver.joined(node)
                self._begun.set()
                return

    # --- The client's loop: a cluster that adapts ---------------------------------------------

    def _demanded(self, tasks: int) -> None:
        if self._growth is not None:
            self._growth.want(tasks)
        if self._rest_later is not None:
            self._rest_later.cancel()
            self._rest_later = None
        self._rests = False
        if tasks:
            self._fill()
        else:
            loop = asyncio.get_running_loop()
            self._rest_later = loop.call_later(_IDLE_S, self._rest)

    def _rest(self) -> None:
        """Give workers back, but for the last one: Dask may close them."""
        self._rests = True
        if self._driver is not None and not self._stopping:
            for name in list(self._nodes):
                self._driver.idle(name)

    # --- The client's loop: workers go --------------------------------------------------------

    async def _on_agent_failed(self, worker: str, error: Exception) -> None:
        """An agent did not start, or ended: with its worker, or with the scheduler."""
        self._lose(worker, f"its agent ended: {error}")
        util.info("no agent on the Dask worker %s: %s", worker, error)
        if not await self._check_scheduler() or self._begun.is_set() or self._agents:
            return
        if isinstance(error, EngineMismatch):
            self._failed = error
        else:
            self._failed = EngineUnavailable(
                f"no agent starts on the Dask worker {worker}: {error}"
            )
        self._failed.__cause__ = error
        self._begun.set()

    async def _on_call_failed(self, worker: str, reason: str) -> None:
        """Tell of the scheduler's loss first: its workers are lost with it."""
        if worker in self._nodes and await self._check_scheduler():
            self._lose(worker, reason)
            # Its agent may have ended alone: then the worker is there, and gets another one.
            self._spawn(self._add_joined(worker))

    def _lose(self, worker: str, reason: str) -> None:
        agent = self._agents.pop(worker, None)
        if agent is None:
            return
        if agent.future is not None:
            # Else Dask waits for the worker to come back.
            agent.future.release()
        node = self._nodes.pop(worker, None)
        if node is not None:
            node.mark_gone(reason)
            if self._driver is not None and not self._stopping:
                self._driver.left(worker, reason)
        self._fill()

    async def _check_scheduler(self) -> bool:
        """Tell the driver if the scheduler is gone; return whether it is there."""
        if self._stopping or await self._connected.answers():
            return True
        self._lost()
        return False

    def _lost(self) -> None:
        if self._stopping or self._driver is None:
            return
        self._stopping = True
        error = EngineLost(f"the Dask scheduler at {self._connected.address} went away")
        self._failed = self._failed or error
        self._driver.lost(error)
        for node in self._nodes.values():
            node.mark_gone("the Dask scheduler went away")
        self._begun.set()

    # --- The end --------------------------------------------------------------------------------

    def _release(self, node: DaskNode) -> None:
        connection = self._connection
        if connection is not None:
            connection.run(self._give_back(node.name, node))

    async def _give_back(self, worker: str, node: DaskNode) -> None:
        if self._nodes.get(worker) is not node:
            return
        del self._nodes[worker]
        agent = self._agents.pop(worker)
        node.mark_gone("it was given back")
        await self._end(agent)
        await self._add_joined(worker)

    async def _finish(self, client: Any) -> None:
        if self._growth is not None:
            self._growth.want(0)
        if self._rest_later is not None:
            self._rest_later.cancel()
        for topic in ("all", self._topic):
            client.unsubscribe_topic(topic)
        for node in self._nodes.values():
            node.mark_gone("the pool was terminated")
        agents = [agent for agent in self._agents.values() if agent.future is not None]
        ends = [asyncio.ensure_future(self._end(agent)) for agent in agents]
        if ends:
            await asyncio.wait(ends, timeout=_END_S)
        for task in (*self._tasks, *ends):
            task.cancel()

    @staticmethod
    async def _end(agent: _Agent) -> None:
        """End an agent, and wait until it has."""
        with suppress(Exception):
            await agent.route.call_agent(agent.future.key, "end")
            await agent.future.result()
        agent.future.release()
