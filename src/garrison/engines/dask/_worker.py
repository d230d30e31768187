"""What runs on a Dask worker: agents as tasks, and a handler for the driver's calls."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from distributed import get_worker, secede
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol import Serialize, to_serialize

from garrison._typing import Any
from garrison.engines.cluster.agent import Agent

__all__ = ["OPERATION", "AgentHost", "keep_blob", "plain", "run_agent", "serialized"]

OPERATION = "garrison"
"""The name of the plugin, and of its handler among the worker's."""
COLLECT_S = 5.0
"""Seconds for which one call waits for results."""
_SMALL_BYTES = 1 << 16
_CALLS_AT_ONCE = 3
"""Calls of one agent at a time: two that give, one that collects."""


def run_agent(key: str, setup: bytes, workers: int, number: int, topic: str) -> None:
    """Be an agent until the key is released: by the driver, or because the driver is gone.

    Parameters
    ----------
    key : str
        This task's key.
    setup, workers, number : bytes, int, int
        For the `Agent`.
    topic : str
        Where to say that the agent has started.
    """
    worker = get_worker()
    host = _host_on(worker)
    released = host.expect(key)
    secede()
    try:
        agent = Agent(setup, workers, worker.address, number)
        try:
            host.add(key, agent)
            worker.log_event(topic, {"agent": key})
            released.wait()
        finally:
            agent.end()
    finally:
        host.remove(key)


def keep_blob(data: Any, key: str, number: int) -> None:
    """Keep data that Dask has brought here, for an agent's next `give`."""
    _host_on(get_worker()).keep(key, number, data)


def serialized(data: Any) -> Any:
    """Return bytes as Dask moves them fastest."""
    return data if memoryview(data).nbytes < _SMALL_BYTES else to_serialize(data)


def plain(data: Any) -> Any:
    """Return what `serialized` got; a worker in the driver's process gets it as it was wrapped."""
    return data.data if isinstance(data, Serialize) else data


def _host_on(worker: Any) -> AgentHost:
    """Return the worker's host; the first call adds it. Not for the worker's loop."""
    adding = _host_in_loop(worker)
    return asyncio.run_coroutine_threadsafe(adding, worker.loop.asyncio_loop).result()


async def _host_in_loop(worker: Any) -> AgentHost:
    if OPERATION not in worker.plugins:
        # It is among the plugins before anything else runs in the loop: no second call adds one.
        await worker.plugin_add(AgentHost(), name=OPERATION)
    host: AgentHost = worker.plugins[OPERATION]
    return host


class AgentHost(WorkerPlugin):  # type: ignore[misc]
    """The agents of a Dask worker, and the handler that calls them. It never blocks the loop."""

    def __init__(self) -> None:
        self._released: dict[str, threading.Event] = {}
        self._agents: dict[str, _HostedAgent] = {}

    # --- The worker's loop ------------------------------------------------------------------

    def setup(self, worker: Any) -> None:
        """Add the handler to the worker's."""
        worker.handlers[OPERATION] = self.call

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        """End an agent whose task is not wanted any more."""
        del start
        if finish in ("released", "cancelled", "forgotten", "error"):
            self.release(key)

    def teardown(self, worker: Any) -> None:
        """End all agents: the worker closes."""
        worker.handlers.pop(OPERATION, None)
        for key in list(self._released):
            self.release(key)

    async def call(self, agent: str, method: str, arguments: tuple[Any, ...] = ()) -> Any:
        """Answer a call of the driver: with replies, or with an error, which Dask would log."""
        if method == "end":
            self.release(agent)
            return {"replies": []}
        hosted = self._agents.get(agent)
        if hosted is None:
            return {"error": "its agent has ended"}
        try:
            replies = await getattr(hosted, method)(*arguments)
        except Exception as error:
            return {"error": str(error) or repr(error)}
        return {"replies": [serialized(reply) for reply in replies]}

    # --- Any thread -------------------------------------------------------------------------

    def expect(self, key: str) -> threading.Event:
        """Return the event that is set when the agent has to end."""
        return self._released.setdefault(key, threading.Event())

    def add(self, key: str, agent: Agent) -> None:
        """Let the driver call an agent."""
        self._agents[key] = _HostedAgent(agent)

    def remove(self, key: str) -> None:
        """Forget an agent."""
        self._released.pop(key, None)
        hosted = self._agents.pop(key, None)
        if hosted is not None:
            hosted.close()

    def release(self, key: str) -> None:
        """Let an agent end; one that is unknown has ended."""
        event = self._released.get(key)
        if event is not None:
            event.set()

    def keep(self, key: str, number: int, data: Any) -> None:
        """Keep a blob for an agent."""
        hosted = self._agents.get(key)
        if hosted is not None:
            hosted.blobs[number] = data


class _HostedAgent:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._threads = ThreadPoolExecutor(_CALLS_AT_ONCE, thread_name_prefix="garrison-agent")
        self.blobs: dict[int, Any] = {}
        self._given = 0
        self._turns: dict[int, asyncio.Future[None]] = {}

    async def give(self, turn: int, message: Any, blobs: list[Any]) -> list[bytes]:
        """Hand messages over in the driver's order, whichever connection was faster."""
        if turn != self._given:
            self._turns[turn] = asyncio.get_running_loop().create_future()
            await self._turns[turn]
            del self._turns[turn]
        with_data = [
            (number, self.blobs.pop(number) if data is None else plain(data))
            for number, data in blobs
        ]
        try:
            return await self._run(self._agent.give, bytes(plain(message)), with_data)
        finally:
            self._given = turn + 1
            following = self._turns.get(self._given)
            if following is not None:
                following.set_result(None)

    async def collect(self) -> list[bytes]:
        return await self._run(self._agent.collect, COLLECT_S)

    async def _run(self, function: Any, *arguments: Any) -> list[bytes]:
        loop = asyncio.get_running_loop()
        replies: list[bytes] = await loop.run_in_executor(self._threads, function, *arguments)
        return replies

    def close(self) -> None:
        with suppress(RuntimeError):
            self._threads.shutdown(wait=False, cancel_futures=True)
